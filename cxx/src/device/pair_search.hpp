// Finds the neighbours of local atoms among all atoms that are given, on a backend, and tells how many there are.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "device/scan_bodies.hpp"
#include "device/search_bodies.hpp"
#include "model/frame.hpp"

namespace deepmd::device {

// Bins half a radius wide or wider, so few that keys take no more memory than the atoms do. The box around the atoms is
// taken on the host, where positions come from.
inline SearchGrid plan_grid(const Frame& frame, double radius, int n_types) {
  constexpr double kWidest = 0.5 * (1.0 + 1e-9);  // of a bin's least edge, so that no rounding reaches a third bin
  constexpr double kMostInRow = 1024;
  const auto n_all = static_cast<std::int64_t>(frame.n_all());
  const double most_cells = std::max(27.0, (4.0 * static_cast<double>(n_all) + 4096.0) / n_types);
  SearchGrid grid;
  grid.n_types = n_types, grid.radius2 = radius * radius;
  double length[3], cells = 1;
  for (int a = 0; a < 3; ++a) {
    double hi = grid.lo[a] = n_all > 0 ? frame.positions[a] : 0.0;
    for (std::int64_t k = 1; k < n_all; ++k) {
      grid.lo[a] = std::min(grid.lo[a], frame.positions[3 * k + a]);
      hi = std::max(hi, frame.positions[3 * k + a]);
    }
    length[a] = hi - grid.lo[a];
    grid.n_bins[a] = static_cast<int>(std::clamp(std::floor(length[a] / (kWidest * radius)), 1.0, kMostInRow));
    cells *= grid.n_bins[a];
  }
  while (cells > most_cells) {  // far-flung atoms: wider bins
    int* const longest = std::max_element(grid.n_bins, grid.n_bins + 3);
    cells = cells / *longest * ((*longest + 1) / 2);
    *longest = (*longest + 1) / 2;
  }
  for (int a = 0; a < 3; ++a) grid.inverse_edge[a] = length[a] > 0 ? grid.n_bins[a] / length[a] : 0.0;
  return grid;
}

template <class Backend>
class PairSearch {
 public:
  explicit PairSearch(Backend& backend)
      : backend_(backend), scanner_(backend), key_(backend), count_(backend), atom_(backend), key_first_(backend) {}

  // The first pass over `frame`, whose positions and types [n_all] the device has: writes list.run and first [n_local + 1],
  // here and on the device.
  void count(const Frame& frame, const double* positions, const int* types, DeviceList list, std::int64_t* first) {
    const auto n_all = static_cast<std::int64_t>(frame.n_all());
    sort_atoms(n_all, positions, types);
    list.neighbor = nullptr;
    backend_.launch(finder(frame.n_local, positions, list), frame.n_local);
    scanner_.scan(frame.n_local, count_.data(), first);
    host_first_.resize(static_cast<std::size_t>(frame.n_local) + 1);
    backend_.download(host_first_.data(), first, static_cast<std::int64_t>(host_first_.size() * sizeof(std::int64_t)));
    backend_.wait();
  }
  // The second one: list.neighbor.
  void fill(const Frame& frame, const double* positions, const DeviceList& list) {
    backend_.launch(finder(frame.n_local, positions, list), frame.n_local);
  }

  void plan(const Frame& frame, int n_types) { grid_ = plan_grid(frame, frame.list.radius, n_types); }
  const std::vector<std::int64_t>& host_first() const { return host_first_; }
  std::int64_t bytes() const { return scanner_.bytes() + key_.bytes() + count_.bytes() + atom_.bytes() + key_first_.bytes(); }

 private:
  void sort_atoms(std::int64_t n_all, const double* positions, const int* types) {
    const std::int64_t n_keys = grid_.n_keys(), n_counts = std::max(n_keys, n_all);
    const std::int64_t n_blocks = (n_all + kThreads - 1) / kThreads;
    count_.reserve(n_counts), key_.reserve(n_all), atom_.reserve(n_all), key_first_.reserve(n_keys + 1);
    backend_.clear(count_.data(), n_counts * static_cast<std::int64_t>(sizeof(int)));
    backend_.launch(BinAtoms{grid_, n_all, positions, types, key_.data(), count_.data()}, n_blocks);
    scanner_.scan(n_keys, count_.data(), key_first_.data());
    backend_.launch(FillBins{n_all, key_.data(), count_.data(), bins()}, n_blocks);
    backend_.launch(SortBins{n_keys, bins()}, (n_keys + kThreads - 1) / kThreads);
  }

  SortedBins bins() const { return {key_first_.data(), atom_.data()}; }
  FindNeighbors finder(int n_local, const double* positions, const DeviceList& list) const {
    FindNeighbors find;
    find.grid = grid_, find.n = n_local, find.positions = positions;
    find.bins = bins(), find.list = list, find.count = count_.data();
    return find;
  }

  Backend& backend_;
  Scanner<Backend> scanner_;
  Buffer<int, Backend> key_, count_, atom_;
  Buffer<std::int64_t, Backend> key_first_;
  SearchGrid grid_;
  std::vector<std::int64_t> host_first_;  // [n_local + 1]
};

}  // namespace deepmd::device
