#include "model/fused_pairs.hpp"

#include <algorithm>

#include "kernels/gemm.hpp"
#include "model/pair_blocks.hpp"

namespace deepmd {

std::size_t BlockPairs::bytes() const {
  return geometry.bytes() + runs.size() * sizeof(NeighborRun) + first.size() * sizeof(std::size_t);
}

PairCollector::PairCollector(const PairRules& rules, FilterKernel kernel)
    : rules_(rules), kernel_(kernel), cursor_(rules.n_types) {}

// The number of neighbours inside the cutoff.
int PairCollector::filter(const Frame& frame, int i) {
  const std::int64_t begin = frame.list.first[i], n_listed = frame.list.first[i + 1] - begin;
  const std::size_t room = static_cast<std::size_t>(n_listed) + kFilterSlack;
  if (neighbor_.size() < room) {
    neighbor_.resize(room + room / 4), type_.resize(room + room / 4);
    for (auto* each : {&x_, &y_, &z_, &r2_}) each->resize(room + room / 4);
  }
  Filter row;
  row.n = n_listed;
  row.index = frame.list.index + begin;
  if (frame.list.shift && frame.cell) row.shift = frame.list.shift + 3 * begin, row.cell = frame.cell;
  row.positions = frame.positions;
  std::copy_n(frame.positions + 3 * static_cast<std::size_t>(i), 3, row.center);
  row.rcut2 = rules_.rcut * rules_.rcut;
  row.neighbor = neighbor_.data();
  row.x = x_.data(), row.y = y_.data(), row.z = z_.data(), row.r2 = r2_.data();
  const Filtered found = kernel_(row);
  if (found.closest2 < kClosestPair * kClosestPair) refuse_close_pairs(frame);
  return found.n;
}

// Entries of centre i from `end` on; returns the new end.
std::size_t PairCollector::sort_by_type(const Frame& frame, int i, int n, std::size_t end, PairGeometry& pairs,
                                        NeighborRun* runs) {
  const int n_types = rules_.n_types;
  const char* exists = &rules_.exists[frame.types[i] * n_types];
  const char* is_kept = &rules_.is_kept[frame.types[i] * n_types];
  std::fill(runs, runs + n_types, NeighborRun{});
  for (int k = 0; k < n; ++k) ++runs[type_[k] = frame.types[neighbor_[k]]].n_counted;
  for (int t = 0; t < n_types; ++t) {
    NeighborRun& run = runs[t];
    if (!exists[t]) run.n_counted = 0;
    run.n = is_kept[t] ? run.n_counted : 0;
    run.begin = cursor_[t] = end;
    end += static_cast<std::size_t>(padded(run.n));
  }
  for (int k = 0; k < n; ++k) {
    if (runs[type_[k]].n == 0) continue;
    const std::size_t to = cursor_[type_[k]]++;
    pairs.neighbor[to] = neighbor_[k];
    pairs.x[to] = x_[k], pairs.y[to] = y_[k], pairs.z[to] = z_[k];
    pairs.r2[to] = r2_[k];
  }
  for (int t = 0; t < n_types; ++t) {  // the filling lies at the cutoff, where rows are harmless numbers
    for (std::size_t to = cursor_[t]; to < runs[t].begin + static_cast<std::size_t>(padded(runs[t].n)); ++to) {
      pairs.neighbor[to] = i;
      pairs.x[to] = pairs.y[to] = pairs.z[to] = 0.0;
      pairs.r2[to] = rules_.rcut * rules_.rcut;
    }
  }
  return end;
}

void PairCollector::collect(const Frame& frame, const int* atoms, int m, BlockPairs& pairs) {
  const auto rows = static_cast<std::size_t>(m);
  if (pairs.first.size() < rows + 1) pairs.first.resize(rows + 1), pairs.runs.resize(rows * rules_.n_types);
  pairs.m = m;
  std::size_t end = 0;
  for (int k = 0; k < m; ++k) {
    pairs.first[k] = end;
    const int n = filter(frame, atoms[k]);
    pairs.geometry.reserve(end + static_cast<std::size_t>(n + rules_.n_types * kPad));
    end = sort_by_type(frame, atoms[k], n, end, pairs.geometry, &pairs.runs[static_cast<std::size_t>(k) * rules_.n_types]);
  }
  pairs.first[m] = end;
}

std::size_t PairCollector::bytes() const { return neighbor_.size() * (2 * sizeof(int) + 4 * sizeof(double)); }

}  // namespace deepmd
