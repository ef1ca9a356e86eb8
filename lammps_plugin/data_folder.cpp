#include "data_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "npy_rows.hpp"

namespace deepmd {
namespace {

namespace fs = std::filesystem;

std::string set_of(const std::string& folder) { return folder + "/set.000"; }

/// The atoms by type, then by ID: the order is the same for all frames of a composition.
std::vector<std::size_t> order_of(const SelectedFrame& frame) {
  std::vector<std::size_t> order(frame.n_atoms());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return frame.types[a] < frame.types[b]; });
  return order;
}

std::vector<double> in_order(const std::vector<double>& values, const std::vector<std::size_t>& order) {
  const std::size_t width = order.empty() ? 0 : values.size() / order.size();
  std::vector<double> sorted;
  for (const std::size_t i : order) {
    sorted.insert(sorted.end(), values.begin() + static_cast<long>(width * i),
                  values.begin() + static_cast<long>(width * (i + 1)));
  }
  return sorted;
}

}  // namespace

std::string DataFolder::problem(const std::string& what) const {
  return "cannot write selected frames to the folder '" + path_ + "': " + what;
}

std::string DataFolder::open(const Continuation& continuation) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) return problem(error.message());
  if (access(path_.c_str(), W_OK | X_OK) != 0) return problem(std::strerror(errno));
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    const std::string folder = entry.path().string();
    if (!fs::exists(set_of(folder), error)) continue;
    if (!continuation.on) return problem("it holds frames already; give another name, or remove it");
    const std::string trouble = go_on(folder, continuation.step);
    if (!trouble.empty()) return trouble;
  }
  return error ? problem(error.message()) : "";
}

std::string DataFolder::go_on(const std::string& folder, std::int64_t last_step) {
  const NpyRows steps_file(set_of(folder) + "/step.npy", 0);
  if (steps_file.count() < 0 || !fs::exists(set_of(folder) + "/step.npy")) {
    return problem(folder + " holds frames that this style did not write; give another name");
  }
  const std::vector<double> steps = steps_file.read();
  const auto first_dropped = std::find_if(steps.begin(), steps.end(),
                                          [&](double step) { return step > static_cast<double>(last_step); });
  System system{folder, static_cast<std::size_t>(first_dropped - steps.begin())};
  if (!cut(system)) return problem(std::strerror(errno));
  System& kept = systems_[fs::path(folder).filename().string()] = system;
  // The frame of the step that comes next may be there already.
  if (system.n_rows > 0 && steps[system.n_rows - 1] == static_cast<double>(last_step)) {
    last_ = &kept;
    last_step_ = last_step;
  }
  return "";
}

bool DataFolder::cut(const System& system) const {
  for (const auto& entry : fs::directory_iterator(set_of(system.folder))) {
    // Rows of any width begin behind the same header; the width of this one is in the file.
    std::ifstream file(entry.path(), std::ios::binary);
    std::string text(128, ' ');
    file.read(&text[0], 128);
    unsigned long n = 0, width = 0;
    const std::size_t place = text.find("'shape': (");
    if (place == std::string::npos) continue;
    if (std::sscanf(text.c_str() + place, "'shape': (%lu, %lu", &n, &width) < 1) continue;
    if (!NpyRows(entry.path().string(), width).cut(system.n_rows)) return false;
  }
  return true;
}

std::string DataFolder::formula(const SelectedFrame& frame) const {
  std::string text;
  for (std::size_t t = 0; t < type_map_.size(); ++t) {
    const auto n = std::count(frame.types.begin(), frame.types.end(), static_cast<int>(t));
    if (n > 0) text += type_map_[t] + std::to_string(n);
  }
  return text;
}

bool DataFolder::start_system(const SelectedFrame& frame, const std::string& folder) const {
  fs::create_directories(set_of(folder));
  std::ofstream types(folder + "/type.raw"), names(folder + "/type_map.raw");
  for (const std::size_t i : order_of(frame)) types << frame.types[i] << "\n";
  for (const std::string& name : type_map_) names << name << "\n";
  types.flush();
  names.flush();
  bool good = types.good() && names.good();
  if (!frame.periodic[0]) good = good && std::ofstream(folder + "/nopbc").good();
  return good;
}

std::string DataFolder::take_back(std::int64_t step) {
  if (last_ == nullptr || last_step_ != step) return "";
  --last_->n_rows;
  const bool good = cut(*last_);
  last_ = nullptr;
  return good ? "" : problem(std::strerror(errno));
}

std::string DataFolder::write(const SelectedFrame& frame) {
  const std::string trouble = take_back(frame.step);
  if (!trouble.empty()) return trouble;
  errno = 0;
  System& system = systems_[formula(frame)];
  if (system.folder.empty()) {
    system.folder = path_ + "/" + formula(frame);
    try {
      if (!start_system(frame, system.folder)) return problem(std::strerror(errno));
    } catch (const fs::filesystem_error& error) {
      return problem(error.code().message());
    }
  }
  const std::vector<std::size_t> order = order_of(frame);
  const std::vector<double> positions = in_order(frame.positions, order), aparam = in_order(frame.aparam, order);
  const double step = static_cast<double>(frame.step);
  const auto put = [&](const char* name, std::size_t width, const double* values) {
    return NpyRows(set_of(system.folder) + "/" + name + ".npy", width).write(system.n_rows, values);
  };
  bool good = put("coord", positions.size(), positions.data());
  if (frame.periodic[0]) good = good && put("box", 9, frame.cell.data());
  if (!frame.fparam.empty()) good = good && put("fparam", frame.fparam.size(), frame.fparam.data());
  if (!aparam.empty()) good = good && put("aparam", aparam.size(), aparam.data());
  good = good && put("max_devi_f", 0, &frame.max_deviation) && put("step", 0, &step);
  if (!good) return problem(std::strerror(errno));
  ++system.n_rows;
  last_ = &system;
  last_step_ = frame.step;
  return "";
}

}  // namespace deepmd
