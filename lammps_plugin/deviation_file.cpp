#include "deviation_file.hpp"

#include <cerrno>
#include <cstring>
#include <iomanip>

namespace deepmd {
namespace {

// Column widths that dp-gen and other readers of this file know.
const int kStepWidth = 12;
const int kValueWidth = 18;

void write_spread(std::ostream& out, const Spread& spread) {
  for (const double value : {spread.max, spread.min, spread.avg}) out << ' ' << std::setw(kValueWidth) << value;
}

}  // namespace

std::string DeviationFile::problem() const {
  return "cannot write model deviations to '" + path_ + "': " + (errno ? std::strerror(errno) : "unknown reason");
}

std::string DeviationFile::open(const std::string& path, bool append, bool atomic) {
  close();
  path_ = path;
  errno = 0;
  file_.clear();
  file_.open(path, append ? std::ios::app : std::ios::trunc);
  if (!file_) return problem();
  file_ << std::scientific << std::setprecision(6);
  if (append && file_.tellp() > 0) return "";
  file_ << '#' << std::setw(kStepWidth - 1) << "step";
  for (const char* label : {"max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f"}) {
    file_ << std::setw(kValueWidth + 1) << label;
  }
  if (atomic) file_ << std::setw(kValueWidth + 1) << "atm_devi_f(N)";
  file_ << std::endl;
  return file_ ? "" : problem();
}

std::string DeviationFile::write(const DeviationRow& row) {
  errno = 0;
  file_ << std::setw(kStepWidth) << row.step;
  write_spread(file_, row.virial);
  write_spread(file_, row.force);
  for (const double value : row.atoms) file_ << ' ' << std::setw(kValueWidth) << value;
  file_ << std::endl;
  return file_ ? "" : problem();
}

void DeviationFile::close() {
  if (file_.is_open()) file_.close();
}

}  // namespace deepmd
