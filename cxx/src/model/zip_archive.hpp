#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepmd {

// The directory of a zip archive in memory, as torch writes it (records stored, not compressed; Zip64 or not).
// Every number read from the bytes is checked against their size, so damaged input can only fail.
class ZipArchive {
 public:
  // Nothing if `bytes` have no readable directory. The bytes must outlive the archive.
  static std::optional<ZipArchive> open(std::string_view bytes);

  // Contents of the record whose name ends with "/" + name (torch puts a folder of its own in front).
  // Nothing if there is none, or if it is compressed or points outside the file.
  std::optional<std::string_view> record(std::string_view name) const;

  // True if a record's name without its first folder starts with `prefix`.
  bool has_record_under(std::string_view prefix) const;

 private:
  struct Entry {
    std::string_view name;
    std::uint64_t method, size, stored_size, header_offset;
  };
  explicit ZipArchive(std::string_view bytes) : bytes_(bytes) {}
  bool read_directory();
  bool read_entry(std::uint64_t& at);

  std::string_view bytes_;
  std::vector<Entry> entries_;
};

}  // namespace deepmd
