#include "extxyz_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace deepmd {
namespace {

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.15g", value);
  return text;
}

std::string numbers(const double* values, std::size_t n) {
  std::string text;
  for (std::size_t k = 0; k < n; ++k) text += (k ? " " : "") + number(values[k]);
  return text;
}

std::string comment_line(const SelectedFrame& frame) {
  const std::size_t dim_aparam = frame.n_atoms() > 0 ? frame.aparam.size() / frame.n_atoms() : 0;
  std::string line = "Lattice=\"" + numbers(frame.cell.data(), 9) + "\" Properties=species:S:1:pos:R:3:id:I:1:devi_f:R:1";
  if (dim_aparam > 0) line += ":aparam:R:" + std::to_string(dim_aparam);
  line += " pbc=\"";
  for (std::size_t a = 0; a < 3; ++a) line += std::string(a ? " " : "") + (frame.periodic[a] ? "T" : "F");
  line += "\" step=" + std::to_string(frame.step) + " max_devi_f=" + number(frame.max_deviation);
  if (!frame.fparam.empty()) line += " fparam=\"" + numbers(frame.fparam.data(), frame.fparam.size()) + "\"";
  return line + "\n";
}

/// The next line, with its end if it has one; empty at the end of the file.
std::string read_line(std::FILE* file) {
  std::string line;
  char block[1024];
  while (std::fgets(block, sizeof(block), file) != nullptr) {
    line += block;
    if (line.back() == '\n') break;
  }
  return line;
}

bool is_whole(const std::string& line) { return !line.empty() && line.back() == '\n'; }

}  // namespace

ExtxyzFile::ExtxyzFile(std::string path, std::vector<std::string> type_map)
    : path_(std::move(path)), type_map_(std::move(type_map)) {}

ExtxyzFile::~ExtxyzFile() {
  if (file_ != nullptr) std::fclose(file_);
}

std::string ExtxyzFile::problem(const std::string& what) const {
  return "cannot write selected frames to '" + path_ + "': " + what;
}

std::string ExtxyzFile::open(const Continuation& continuation) {
  errno = 0;
  if (continuation.on) file_ = std::fopen(path_.c_str(), "r+");
  if (file_ != nullptr) return go_on(continuation.step);
  file_ = std::fopen(path_.c_str(), "w");
  return file_ == nullptr ? problem(std::strerror(errno)) : "";
}

std::string ExtxyzFile::go_on(std::int64_t last_step) {
  // Frames are kept up to the first one that is cut short or of a step that this run computes again.
  long end = 0;
  while (true) {
    const std::string count = read_line(file_), comment = read_line(file_);
    if (!is_whole(count) || !is_whole(comment)) break;
    const long n_atoms = std::strtol(count.c_str(), nullptr, 10);
    const std::size_t place = comment.find(" step=");
    if (n_atoms < 1 || place == std::string::npos) {
      return problem("it holds frames that this style did not write; give another name");
    }
    const std::int64_t step = std::strtoll(comment.c_str() + place + 6, nullptr, 10);
    if (step > last_step) break;
    std::string line = comment;
    for (long i = 0; i < n_atoms && is_whole(line); ++i) line = read_line(file_);
    if (!is_whole(line)) break;
    has_frame_ = true;
    last_step_ = step;
    last_frame_ = end;
    end = std::ftell(file_);
  }
  return cut(end) ? "" : problem(std::strerror(errno));
}

bool ExtxyzFile::cut(long end) {
  return std::fflush(file_) == 0 && ftruncate(fileno(file_), end) == 0 && std::fseek(file_, end, SEEK_SET) == 0;
}

std::string ExtxyzFile::take_back(std::int64_t step) {
  if (!has_frame_ || last_step_ != step) return "";
  has_frame_ = false;
  return cut(last_frame_) ? "" : problem(std::strerror(errno));
}

std::string ExtxyzFile::write(const SelectedFrame& frame) {
  const std::string trouble = take_back(frame.step);
  if (!trouble.empty()) return trouble;
  const std::size_t n = frame.n_atoms(), dim_aparam = n > 0 ? frame.aparam.size() / n : 0;
  std::string text = std::to_string(n) + "\n" + comment_line(frame);
  for (std::size_t i = 0; i < n; ++i) {
    text += type_map_[static_cast<std::size_t>(frame.types[i])] + " " + numbers(&frame.positions[3 * i], 3) + " " +
            std::to_string(frame.ids[i]) + " " + number(frame.deviations[i]);
    if (dim_aparam > 0) text += " " + numbers(&frame.aparam[dim_aparam * i], dim_aparam);
    text += "\n";
  }
  last_frame_ = std::ftell(file_);
  last_step_ = frame.step;
  has_frame_ = true;
  const bool good = std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
  return good ? "" : problem(std::strerror(errno));
}

}  // namespace deepmd
