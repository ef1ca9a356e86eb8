#include "frame_writer.hpp"

#include "data_folder.hpp"
#include "extxyz_file.hpp"

namespace deepmd {
namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

bool names_extxyz(const std::string& path) { return ends_with(path, ".extxyz") || ends_with(path, ".xyz"); }

std::unique_ptr<FrameWriter> make_frame_writer(const std::string& path, const std::vector<std::string>& type_map) {
  if (names_extxyz(path)) return std::make_unique<ExtxyzFile>(path, type_map);
  return std::make_unique<DataFolder>(path, type_map);
}

}  // namespace deepmd
