#include "model/safetensors.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

namespace deepmd {
namespace {

[[noreturn]] void fail(const std::string& reason) {
  throw Error(DEEPMD_ERROR_FORMAT, "has an array record that cannot be read: " + reason + "; freeze the model anew");
}

std::uint64_t width_of(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "BOOL" || dtype == "I8" || dtype == "U8") return 1;
  fail("unknown number type '" + dtype + "'");
}

template <class Stored, class Number>
void convert(std::string_view data, std::vector<Number>& out) {
  out.reserve(data.size() / sizeof(Stored));
  for (std::size_t k = 0; k + sizeof(Stored) <= data.size(); k += sizeof(Stored)) {
    Stored value;
    std::memcpy(&value, data.data() + k, sizeof(Stored));
    out.push_back(static_cast<Number>(value));
  }
}

}  // namespace

SafeTensors::SafeTensors(std::string_view bytes) {
  std::uint64_t header_size = 0;
  if (bytes.size() < 8) fail("it is shorter than its own length field");
  for (std::size_t k = 8; k-- > 0;) header_size = header_size << 8 | static_cast<unsigned char>(bytes[k]);
  if (header_size > bytes.size() - 8) fail("its header is longer than the record");
  const std::string_view data = bytes.substr(8 + header_size);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_size), nullptr, false);
  if (!header.is_object()) fail("its header is not a JSON object");

  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    try {
      Array array{entry.at("dtype").get<std::string>(), entry.at("shape").get<std::vector<std::int64_t>>(), {}};
      const auto offsets = entry.at("data_offsets").get<std::vector<std::uint64_t>>();
      if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size()) {
        fail("'" + name + "' lies outside the record");
      }
      array.data = data.substr(offsets[0], offsets[1] - offsets[0]);
      std::uint64_t n_bytes = width_of(array.dtype);
      for (std::int64_t extent : array.shape) {
        const std::uint64_t n = static_cast<std::uint64_t>(extent);
        if (extent < 0 || (n > 0 && n_bytes > data.size() / n)) fail("'" + name + "' has an impossible shape");
        n_bytes *= n;
      }
      if (n_bytes != array.data.size()) fail("'" + name + "' has another size than its shape tells");
      arrays_.emplace(name, std::move(array));
    } catch (const nlohmann::json::exception&) {
      fail("the header entry of '" + name + "' is malformed");
    }
  }
}

const SafeTensors::Array& SafeTensors::at(const std::string& name) const {
  const auto found = arrays_.find(name);
  if (found == arrays_.end()) fail("'" + name + "' is missing");
  return found->second;
}

std::vector<double> SafeTensors::doubles(const std::string& name) const {
  const Array& array = at(name);
  std::vector<double> values;
  if (array.dtype == "F64") {
    convert<double>(array.data, values);
  } else if (array.dtype == "F32") {
    convert<float>(array.data, values);
  } else {
    fail("'" + name + "' has type " + array.dtype + ", expected F64 or F32");
  }
  return values;
}

std::vector<std::int64_t> SafeTensors::integers(const std::string& name) const {
  const Array& array = at(name);
  std::vector<std::int64_t> values;
  if (array.dtype == "I64") {
    convert<std::int64_t>(array.data, values);
  } else if (array.dtype == "I32") {
    convert<std::int32_t>(array.data, values);
  } else {
    fail("'" + name + "' has type " + array.dtype + ", expected I64 or I32");
  }
  return values;
}

}  // namespace deepmd
