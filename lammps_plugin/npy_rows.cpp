#include "npy_rows.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

namespace deepmd {
namespace {

const std::size_t kHeaderSize = 128;  // a multiple of 64, as the format asks for, and room for any number of rows

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

const char* byte_order() {
  const unsigned short one = 1;
  return *reinterpret_cast<const unsigned char*>(&one) == 1 ? "<f8" : ">f8";
}

}  // namespace

std::string NpyRows::header(std::size_t n_rows) const {
  std::string shape = "(" + std::to_string(n_rows) + "," + (width_ == 0 ? ")" : " " + std::to_string(width_) + ")");
  std::string text = std::string("{'descr': '") + byte_order() + "', 'fortran_order': False, 'shape': " + shape + ", }";
  text.resize(kHeaderSize - 11, ' ');
  const std::size_t length = text.size() + 1;
  std::string start("\x93NUMPY\x01\x00", 8);
  start += static_cast<char>(length & 0xff);
  start += static_cast<char>(length >> 8);
  return start + text + "\n";
}

long NpyRows::count() const {
  const File file(std::fopen(path_.c_str(), "rb"));
  if (!file) return 0;
  std::string text(kHeaderSize, ' ');
  if (std::fread(&text[0], 1, kHeaderSize, file.get()) != kHeaderSize) return -1;
  const std::size_t place = text.find("'shape': (");
  if (place == std::string::npos) return -1;
  unsigned long n = 0;
  if (std::sscanf(text.c_str() + place, "'shape': (%lu", &n) != 1 || header(n) != text) return -1;
  return static_cast<long>(n);
}

std::vector<double> NpyRows::read() const {
  const long n = count();
  std::vector<double> values(n > 0 ? static_cast<std::size_t>(n) : 0);
  const File file(std::fopen(path_.c_str(), "rb"));
  if (!file || std::fseek(file.get(), kHeaderSize, SEEK_SET) != 0) return {};
  values.resize(std::fread(values.data(), sizeof(double), values.size(), file.get()));
  return values;
}

bool NpyRows::write(std::size_t row, const double* values) const {
  errno = 0;
  File file(std::fopen(path_.c_str(), row == 0 ? "w+b" : "r+b"));
  if (!file) return false;
  const std::size_t n = numbers_in_row(), start = kHeaderSize + row * n * sizeof(double);
  const std::string head = header(row + 1);
  // The header, which counts the rows, comes last: a row that is cut short does not count.
  return std::fseek(file.get(), static_cast<long>(start), SEEK_SET) == 0 &&
         std::fwrite(values, sizeof(double), n, file.get()) == n && std::fflush(file.get()) == 0 &&
         ftruncate(fileno(file.get()), static_cast<long>(start + n * sizeof(double))) == 0 &&
         std::fseek(file.get(), 0, SEEK_SET) == 0 &&
         std::fwrite(head.data(), 1, head.size(), file.get()) == head.size() && std::fflush(file.get()) == 0;
}

bool NpyRows::cut(std::size_t n) const {
  errno = 0;
  File file(std::fopen(path_.c_str(), "r+b"));
  if (!file) return errno == ENOENT;
  const std::string head = header(n);
  return std::fwrite(head.data(), 1, head.size(), file.get()) == head.size() && std::fflush(file.get()) == 0 &&
         ftruncate(fileno(file.get()), static_cast<long>(kHeaderSize + n * numbers_in_row() * sizeof(double))) == 0;
}

}  // namespace deepmd
