// Selected frames as data folders that `dp` and dpdata read: FOLDER/O64H128/set.000/coord.npy and so on, one folder for
// each composition, atoms in the order of their types and then of their IDs. step.npy and max_devi_f.npy tell where
// the frames come from.
#ifndef DEEPMD_LAMMPS_DATA_FOLDER_HPP
#define DEEPMD_LAMMPS_DATA_FOLDER_HPP

#include <map>

#include "frame_writer.hpp"

namespace deepmd {

class DataFolder : public FrameWriter {
 public:
  DataFolder(std::string path, std::vector<std::string> type_map)
      : path_(std::move(path)), type_map_(std::move(type_map)) {}

  std::string open(const Continuation& continuation) override;
  std::string write(const SelectedFrame& frame) override;
  std::string take_back(std::int64_t step) override;

 private:
  struct System {
    std::string folder;
    std::size_t n_rows = 0;
  };

  std::string problem(const std::string& what) const;
  std::string go_on(const std::string& folder, std::int64_t last_step);
  std::string formula(const SelectedFrame& frame) const;
  bool start_system(const SelectedFrame& frame, const std::string& folder) const;
  bool cut(const System& system) const;

  std::string path_;
  std::vector<std::string> type_map_;
  std::map<std::string, System> systems_;  // by formula
  System* last_ = nullptr;                 // where the last frame went, if it may be taken back
  std::int64_t last_step_ = 0;
};

}  // namespace deepmd

#endif
