#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace deepmd {

// Named arrays in the safetensors format: 8 bytes length, a JSON header, then the data (little-endian).
class SafeTensors {
 public:
  // Throws DEEPMD_ERROR_FORMAT if the header is not sound or an array points outside. The bytes must outlive this.
  explicit SafeTensors(std::string_view bytes);

  bool has(const std::string& name) const { return arrays_.count(name) > 0; }
  const std::vector<std::int64_t>& shape(const std::string& name) const { return at(name).shape; }
  // All elements in row-major order; F64 and F32 arrays. Throws if there is no such array or it has another type.
  std::vector<double> doubles(const std::string& name) const;
  // The same for I64 and I32 arrays.
  std::vector<std::int64_t> integers(const std::string& name) const;

 private:
  struct Array {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string_view data;
  };
  const Array& at(const std::string& name) const;

  std::map<std::string, Array> arrays_;
};

}  // namespace deepmd
