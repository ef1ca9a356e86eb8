// The text file of model deviations (`out_file`, model_devi.out by default): one line for each step that was checked.
#ifndef DEEPMD_LAMMPS_DEVIATION_FILE_HPP
#define DEEPMD_LAMMPS_DEVIATION_FILE_HPP

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "deepmd/deepmd.h"

namespace deepmd {

struct DeviationRow {
  std::int64_t step = 0;
  deepmd_spread virial{};
  deepmd_spread force{};
  std::vector<double> atoms;  // [n_atoms] by atom ID, or empty
};

/// Where a run goes on that was interrupted.
struct Continuation {
  bool on = false;        // false: start anew
  std::int64_t step = 0;  // what was written of later steps is dropped: they are computed again
};

class DeviationFile {
 public:
  DeviationFile() = default;
  DeviationFile(const DeviationFile&) = delete;
  ~DeviationFile() { close(); }

  /// Starts the file with a header, or goes on behind the rows of an earlier run. "" or what went wrong.
  std::string open(const std::string& path, const Continuation& continuation, bool atomic);
  /// Writes one line to the disk. A step that is computed again (a second run, a trial move) takes the place of the row
  /// that it has. "" or what went wrong.
  std::string write(const DeviationRow& row);
  void close();

 private:
  std::string problem(const std::string& what) const;
  std::string go_on(std::int64_t last_step, bool atomic);
  bool cut(long end);

  std::string path_;
  std::FILE* file_ = nullptr;
  bool has_row_ = false;
  std::int64_t last_step_ = 0;
  long last_row_ = 0;  // where the last row begins
};

}  // namespace deepmd

#endif
