#include "deviation_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace deepmd {
namespace {

// Column widths that dp-gen and other readers of this file know.
const int kStepWidth = 12;
const int kValueWidth = 19;

std::string header(bool atomic) {
  char text[32];
  std::snprintf(text, sizeof(text), "#%*s", kStepWidth - 1, "step");
  std::string line = text;
  for (const char* label : {"max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f"}) {
    std::snprintf(text, sizeof(text), "%*s", kValueWidth, label);
    line += text;
  }
  std::snprintf(text, sizeof(text), "%*s", kValueWidth, "atm_devi_f(N)");
  return line + (atomic ? text : "") + "\n";
}

void append(std::string* line, double value) {
  char text[40];
  std::snprintf(text, sizeof(text), " %*.6e", kValueWidth - 1, value);
  *line += text;
}

std::string row_text(const DeviationRow& row) {
  char text[32];
  std::snprintf(text, sizeof(text), "%*lld", kStepWidth, static_cast<long long>(row.step));
  std::string line = text;
  for (const deepmd_spread& spread : {row.virial, row.force}) {
    for (const double value : {spread.max, spread.min, spread.avg}) append(&line, value);
  }
  for (const double value : row.atoms) append(&line, value);
  return line + "\n";
}

/// The next line with its end; empty at the end of the file.
std::string read_line(std::FILE* file) {
  std::string line;
  char block[4096];
  while (std::fgets(block, sizeof(block), file) != nullptr) {
    line += block;
    if (line.back() == '\n') break;
  }
  return line;
}

}  // namespace

std::string DeviationFile::problem(const std::string& what) const {
  return "cannot write model deviations to '" + path_ + "': " + what;
}

std::string DeviationFile::open(const std::string& path, const Continuation& continuation, bool atomic) {
  close();
  path_ = path;
  has_row_ = false;
  errno = 0;
  if (continuation.on) file_ = std::fopen(path.c_str(), "r+");
  if (file_ != nullptr) {
    const std::string trouble = go_on(continuation.step, atomic);
    if (!trouble.empty()) close();
    return trouble;
  }
  file_ = std::fopen(path.c_str(), "w");
  if (file_ == nullptr) return problem(std::strerror(errno));
  const std::string line = header(atomic);
  const bool good = std::fputs(line.c_str(), file_) >= 0 && std::fflush(file_) == 0;
  return good ? "" : problem(std::strerror(errno));
}

std::string DeviationFile::go_on(std::int64_t last_step, bool atomic) {
  const std::string expected = header(atomic);
  long end = 0;
  for (std::string line = read_line(file_); !line.empty() && line.back() == '\n'; line = read_line(file_)) {
    if (end == 0 && line != expected) {
      return problem("it has other columns than this run writes; give another out_file, or the keywords of the run before");
    }
    if (line[0] != '#') {
      const std::int64_t step = std::strtoll(line.c_str(), nullptr, 10);
      if (step > last_step) break;  // a row of the run that this one repeats from here on
      has_row_ = true;
      last_step_ = step;
      last_row_ = end;
    }
    end += static_cast<long>(line.size());
  }
  if (!cut(end)) return problem(std::strerror(errno));
  if (end > 0) return "";
  const bool good = std::fputs(expected.c_str(), file_) >= 0 && std::fflush(file_) == 0;
  return good ? "" : problem(std::strerror(errno));
}

bool DeviationFile::cut(long end) {
  return std::fflush(file_) == 0 && ftruncate(fileno(file_), end) == 0 && std::fseek(file_, end, SEEK_SET) == 0;
}

std::string DeviationFile::write(const DeviationRow& row) {
  errno = 0;
  if (has_row_ && last_step_ == row.step && !cut(last_row_)) return problem(std::strerror(errno));
  last_row_ = std::ftell(file_);
  last_step_ = row.step;
  has_row_ = true;
  const std::string line = row_text(row);
  const bool good = std::fputs(line.c_str(), file_) >= 0 && std::fflush(file_) == 0;
  return good ? "" : problem(std::strerror(errno));
}

void DeviationFile::close() {
  if (file_ != nullptr) std::fclose(file_);
  file_ = nullptr;
}

}  // namespace deepmd
