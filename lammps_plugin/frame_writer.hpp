// Frames that `select` picks for labelling, written as extended xyz or as a data folder. No LAMMPS; first rank only.
#ifndef DEEPMD_LAMMPS_FRAME_WRITER_HPP
#define DEEPMD_LAMMPS_FRAME_WRITER_HPP

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deviation_file.hpp"

namespace deepmd {

/// The atoms that the model sees, in the order of their IDs. Angstrom and eV.
struct SelectedFrame {
  std::int64_t step = 0;
  std::array<double, 9> cell{};           // [3][3] rows
  std::array<bool, 3> periodic{};
  std::vector<std::int64_t> ids;          // [n_atoms]
  std::vector<int> types;                 // [n_atoms] indices into type_map
  std::vector<double> positions;          // [n_atoms][3] from the corner of the cell
  std::vector<double> deviations;         // [n_atoms] of the forces, as in the deviation file
  std::vector<double> aparam;             // [n_atoms][dim_aparam]
  std::vector<double> fparam;             // [dim_fparam]
  double max_deviation = 0.0;

  std::size_t n_atoms() const { return types.size(); }
};

/// Every call returns "" or a sentence about what went wrong.
class FrameWriter {
 public:
  virtual ~FrameWriter() = default;
  /// Makes sure that frames can be written; when a run is continued, drops those of later steps.
  virtual std::string open(const Continuation& continuation) = 0;
  /// Adds a frame. Of frames of one step the last stays.
  virtual std::string write(const SelectedFrame& frame) = 0;
  /// Takes back the frame of this step if it is the last one: it was computed again and is no candidate any more.
  virtual std::string take_back(std::int64_t step) = 0;
};

/// Whether the name ends like a file of extended xyz; a data folder otherwise.
bool names_extxyz(const std::string& path);
std::unique_ptr<FrameWriter> make_frame_writer(const std::string& path, const std::vector<std::string>& type_map);

}  // namespace deepmd

#endif
