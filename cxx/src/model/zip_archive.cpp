#include "model/zip_archive.hpp"

#include <algorithm>

namespace deepmd {
namespace {

// Layout and signatures: PKWARE .ZIP File Format Specification (APPNOTE.TXT), section 4.3.
constexpr std::uint64_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint64_t kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr std::uint64_t kEndSize = 22, kLocatorSize = 20, kLongestComment = 65535;
constexpr std::uint64_t kInZip64 = 0xffffffff;  // "look into the Zip64 field"
constexpr std::uint64_t kZip64Field = 1;

// Little-endian numbers at checked places. After a read outside the bytes `ok` is false and the result 0.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::uint64_t number(std::uint64_t at, unsigned n_bytes) {
    if (!has(at, n_bytes)) {
      ok = false;
      return 0;
    }
    std::uint64_t value = 0;
    for (unsigned k = n_bytes; k-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[at + k]);
    return value;
  }
  bool has(std::uint64_t at, std::uint64_t n_bytes) const {
    return at <= bytes_.size() && n_bytes <= bytes_.size() - at;
  }
  bool ok = true;

 private:
  std::string_view bytes_;
};

// The offset of the end-of-directory record, searched from the end because a comment may follow it.
std::optional<std::uint64_t> find_end(std::string_view bytes) {
  if (bytes.size() < kEndSize) return std::nullopt;
  Reader reader(bytes);
  const std::uint64_t last = bytes.size() - kEndSize;
  for (std::uint64_t back = 0; back <= std::min<std::uint64_t>(last, kLongestComment); ++back) {
    if (reader.number(last - back, 4) == kEnd) return last - back;
  }
  return std::nullopt;
}

}  // namespace

std::optional<ZipArchive> ZipArchive::open(std::string_view bytes) {
  ZipArchive archive(bytes);
  if (!archive.read_directory()) return std::nullopt;
  return archive;
}

bool ZipArchive::read_directory() {
  const auto end = find_end(bytes_);
  if (!end) return false;
  Reader reader(bytes_);
  std::uint64_t n_entries = reader.number(*end + 10, 2), at = reader.number(*end + 16, 4);
  if (*end >= kLocatorSize && reader.number(*end - kLocatorSize, 4) == kZip64Locator) {
    const std::uint64_t end64 = reader.number(*end - kLocatorSize + 8, 8);
    if (end64 > *end || reader.number(end64, 4) != kZip64End) return false;
    n_entries = reader.number(end64 + 32, 8);
    at = reader.number(end64 + 48, 8);
  }
  for (std::uint64_t k = 0; k < n_entries; ++k) {
    if (!reader.ok || !read_entry(at)) return false;
  }
  return reader.ok;
}

// Reads the directory entry at `at` and moves `at` behind it.
bool ZipArchive::read_entry(std::uint64_t& at) {
  Reader reader(bytes_);
  if (!reader.has(at, 46) || reader.number(at, 4) != kDirectoryHeader) return false;
  const std::uint64_t name_size = reader.number(at + 28, 2), extra_size = reader.number(at + 30, 2);
  const std::uint64_t comment_size = reader.number(at + 32, 2);
  if (!reader.has(at + 46, name_size + extra_size + comment_size)) return false;

  Entry entry{bytes_.substr(at + 46, name_size), reader.number(at + 10, 2), reader.number(at + 24, 4),
              reader.number(at + 20, 4), reader.number(at + 42, 4)};
  const std::uint64_t extra_end = at + 46 + name_size + extra_size;
  for (std::uint64_t field = at + 46 + name_size; field + 4 <= extra_end;) {
    const std::uint64_t id = reader.number(field, 2), size = reader.number(field + 2, 2);
    std::uint64_t value = field + 4;
    if (value + size > extra_end) return false;
    if (id == kZip64Field) {  // holds, in this order, those of the numbers that did not fit
      for (std::uint64_t* each : {&entry.size, &entry.stored_size, &entry.header_offset}) {
        if (*each != kInZip64 || value + 8 > field + 4 + size) continue;
        *each = reader.number(value, 8);
        value += 8;
      }
    }
    field += 4 + size;
  }
  entries_.push_back(entry);
  at = extra_end + comment_size;
  return reader.ok;
}

std::optional<std::string_view> ZipArchive::record(std::string_view name) const {
  for (const Entry& entry : entries_) {
    const std::size_t slash = entry.name.find('/');
    if (slash == std::string_view::npos || entry.name.substr(slash + 1) != name) continue;
    Reader reader(bytes_);
    if (entry.method != 0 || entry.size != entry.stored_size || !reader.has(entry.header_offset, 30) ||
        reader.number(entry.header_offset, 4) != kLocalHeader) {
      return std::nullopt;
    }
    const std::uint64_t start = entry.header_offset + 30 + reader.number(entry.header_offset + 26, 2) +
                                reader.number(entry.header_offset + 28, 2);
    if (!reader.ok || !reader.has(start, entry.size)) return std::nullopt;
    return bytes_.substr(start, entry.size);
  }
  return std::nullopt;
}

bool ZipArchive::has_record_under(std::string_view prefix) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    const std::size_t slash = entry.name.find('/');
    return slash != std::string_view::npos && entry.name.substr(slash + 1, prefix.size()) == prefix;
  });
}

}  // namespace deepmd
