// The text file of model deviations (`out_file`, model_devi.out by default), one line per output step.
#ifndef DEEPMD_LAMMPS_DEVIATION_FILE_HPP
#define DEEPMD_LAMMPS_DEVIATION_FILE_HPP

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "deviation.hpp"

namespace deepmd {

struct DeviationRow {
  std::int64_t step = 0;
  Spread virial;
  Spread force;
  std::vector<double> atoms;  // [n_atoms] by atom ID, or empty
};

class DeviationFile {
 public:
  /// Starts the file with a header, or goes on behind what a restarted run wrote. "" or what went wrong.
  std::string open(const std::string& path, bool append, bool atomic);
  /// Writes one line and flushes it. "" or what went wrong.
  std::string write(const DeviationRow& row);
  void close();

 private:
  std::string problem() const;

  std::string path_;
  std::ofstream file_;
};

}  // namespace deepmd

#endif
