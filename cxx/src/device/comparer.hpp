// The deviation of several models' forces, computed where the forces are.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "device/compare_bodies.hpp"
#include "device/comparison.hpp"
#include "device/device_frame.hpp"

namespace deepmd::device {

template <class Backend>
class Comparer {
 public:
  explicit Comparer(Backend& backend)
      : backend_(backend), deviation_(backend), absolute_(backend), totals_(backend), staged_(backend), staged_totals_(backend) {}

  void prepare(std::int64_t n_local) {
    n_ = n_local;
    deviation_.reserve(n_), absolute_.reserve(n_), staged_.reserve(n_);
    totals_.reserve((SpreadOfAtoms::kMostBlocks + 1) * SpreadOfAtoms::kValues), staged_totals_.reserve(SpreadOfAtoms::kValues);
  }
  void append_key(const Comparison& wanted, std::vector<std::int64_t>& words) const {
    std::int64_t level = 0;
    std::memcpy(&level, &wanted.level, sizeof(level));
    words.insert(words.end(), {n_, level, wanted.atoms != nullptr, backend_.generation()});
  }
  // forces [n_models] of the models, [n_all][3] each.
  void enqueue(const DeviceFrame<Backend>& frame, const std::vector<const double*>& forces, const Comparison& wanted) {
    CompareForces compare;
    compare.forces.n_models = static_cast<int>(forces.size()), compare.forces.n_local = n_;
    std::copy(forces.begin(), forces.end(), compare.forces.of_model);
    compare.forces.images = frame.images();
    compare.level = wanted.level;
    compare.deviation = deviation_.data(), compare.absolute = absolute_.data();
    backend_.launch(compare, (n_ + kThreads - 1) / kThreads);
    SpreadOfAtoms first, second;
    const std::int64_t n_blocks = std::max<std::int64_t>(1, std::min<std::int64_t>(SpreadOfAtoms::kMostBlocks, n_ / kThreads));
    first.n = n_, first.most = first.least = first.sum = deviation_.data(), first.absolute = absolute_.data();
    first.totals = totals_.data() + SpreadOfAtoms::kValues;
    backend_.launch_exactly(first, n_blocks);
    second.n = n_blocks, second.stride = SpreadOfAtoms::kValues;
    second.most = first.totals, second.least = first.totals + 1, second.sum = first.totals + 2, second.absolute = first.totals + 3;
    second.totals = totals_.data();
    backend_.launch_exactly(second, 1);
    backend_.download(staged_totals_.data(), totals_.data(), SpreadOfAtoms::kValues * static_cast<std::int64_t>(sizeof(double)));
    if (wanted.atoms) backend_.download(staged_.data(), deviation_.data(), n_ * static_cast<std::int64_t>(sizeof(double)));
  }
  void finish(Comparison& wanted) const {
    const double* totals = staged_totals_.data();
    wanted.most = totals[0], wanted.least = totals[1], wanted.mean = totals[2] / static_cast<double>(n_);
    wanted.most_absolute = totals[3];
    if (wanted.atoms) std::copy_n(staged_.data(), n_, wanted.atoms);
  }

 private:
  Backend& backend_;
  Buffer<double, Backend> deviation_, absolute_, totals_;
  Staging<double, Backend> staged_, staged_totals_;
  std::int64_t n_ = 0;
};

}  // namespace deepmd::device
