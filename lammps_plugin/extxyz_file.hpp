// Selected frames as extended xyz, one after the other in one file.
#ifndef DEEPMD_LAMMPS_EXTXYZ_FILE_HPP
#define DEEPMD_LAMMPS_EXTXYZ_FILE_HPP

#include <cstdio>

#include "frame_writer.hpp"

namespace deepmd {

class ExtxyzFile : public FrameWriter {
 public:
  ExtxyzFile(std::string path, std::vector<std::string> type_map);
  ~ExtxyzFile() override;

  std::string open(const Continuation& continuation) override;
  std::string write(const SelectedFrame& frame) override;
  std::string take_back(std::int64_t step) override;

 private:
  std::string problem(const std::string& what) const;
  std::string go_on(std::int64_t last_step);
  bool cut(long end);

  std::string path_;
  std::vector<std::string> type_map_;
  std::FILE* file_ = nullptr;
  bool has_frame_ = false;
  std::int64_t last_step_ = 0;
  long last_frame_ = 0;  // where the last frame begins
};

}  // namespace deepmd

#endif
