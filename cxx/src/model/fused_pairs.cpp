#include "model/fused_pairs.hpp"

#include <algorithm>
#include <cmath>

#include "model/pair_blocks.hpp"

namespace deepmd {
namespace {

// Beyond this, in intervals, an argument counts as outside the table; less is rounding and changes nothing.
constexpr double kOutside = 1e-9;

}  // namespace

// Every listed pair is written; only those inside the cutoff move the place of the next one on.
template <class Real>
template <bool kShifted>
int PairCollector<Real>::filter(const Frame& frame, int i) {
  const ListView& list = frame.list;
  const double* own = frame.positions + 3 * static_cast<std::size_t>(i);
  const double x0 = own[0], y0 = own[1], z0 = own[2];
  const double rcut2 = plan_.tree.cutoff.rcut * plan_.tree.cutoff.rcut;
  double closest = rcut2;
  int n = 0;
  for (std::int64_t k = list.first[i]; k < list.first[i + 1]; ++k) {
    const int j = list.index[k];
    const double* other = frame.positions + 3 * static_cast<std::size_t>(j);
    double x = other[0] - x0, y = other[1] - y0, z = other[2] - z0;
    if constexpr (kShifted) {
      const int* shift = list.shift + 3 * k;
      const double* cell = frame.cell;
      x += shift[0] * cell[0] + shift[1] * cell[3] + shift[2] * cell[6];
      y += shift[0] * cell[1] + shift[1] * cell[4] + shift[2] * cell[7];
      z += shift[0] * cell[2] + shift[1] * cell[5] + shift[2] * cell[8];
    }
    const double r2 = x * x + y * y + z * z;
    neighbor_[n] = j;
    x_[n] = x, y_[n] = y, z_[n] = z, r2_[n] = r2;
    closest = std::min(closest, r2);
    n += r2 < rcut2;
  }
  if (closest < kClosestPair * kClosestPair) refuse_close_pairs(frame);
  return n;
}

template <class Real>
void PairCollector<Real>::sort_by_type(const Frame& frame, int i, int n, const CenterPlan<Real>& center,
                                       PairArrays<Real>& pairs, std::size_t& end, NeighborRun* runs) {
  const int n_types = plan_.tree.n_types;
  std::fill(runs, runs + n_types, NeighborRun{});
  for (int k = 0; k < n; ++k) ++runs[type_[k] = frame.types[neighbor_[k]]].n_counted;
  for (int t = 0; t < n_types; ++t) {
    NeighborRun& run = runs[t];
    if (!center.neighbors[t].exists) run.n_counted = 0;
    run.n = center.neighbors[t].is_kept ? run.n_counted : 0;
    run.begin = cursor_[t] = end;
    end += static_cast<std::size_t>(padded(run.n));
  }
  for (int k = 0; k < n; ++k) {
    if (runs[type_[k]].n == 0) continue;
    const std::size_t to = cursor_[type_[k]]++;
    pairs.neighbor[to] = neighbor_[k];
    pairs.x[to] = x_[k], pairs.y[to] = y_[k], pairs.z[to] = z_[k];
    pairs.inverse_r[to] = r2_[k];
  }
  for (int t = 0; t < n_types; ++t) {  // the filling lies at the cutoff, where rows are harmless numbers
    for (std::size_t to = cursor_[t]; to < runs[t].begin + static_cast<std::size_t>(padded(runs[t].n)); ++to) {
      pairs.neighbor[to] = i;
      pairs.x[to] = pairs.y[to] = pairs.z[to] = 0.0;
      pairs.inverse_r[to] = plan_.tree.cutoff.rcut * plan_.tree.cutoff.rcut;
    }
  }
}

template <class Real>
void PairCollector<Real>::find_outside(const CenterPlan<Real>& plan, int center, int type, const NeighborRun& run,
                                       PairArrays<Real>& pairs, std::vector<OutsidePair>& outside) {
  const PlanTable<Real>& table = plan_.tables[plan.neighbors[type].network];
  for (std::size_t k = run.begin; k < run.begin + static_cast<std::size_t>(run.n); ++k) {
    const double r[3] = {pairs.x[k], pairs.y[k], pairs.z[k]};
    const RawRow raw = raw_row(std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), plan_.tree.cutoff);
    OutsidePair pair{center, type, k, {(raw.s - plan.davg) * plan.inverse_std_r}};
    const double at = (pair.row[0] - table.lo) * table.inverse_step;
    if (at >= -kOutside && at <= table.last + kOutside) continue;
    for (int b = 0; b < 3; ++b) pair.row[1 + b] = raw.angular * plan.inverse_std_a * r[b];
    for (auto& row : pairs.row) row[k] = Real(0);
    outside.push_back(pair);
  }
}

template <class Real>
void PairCollector<Real>::collect(const Frame& frame, int i, int center, PairArrays<Real>& pairs, std::size_t& end,
                                  NeighborRun* runs, std::vector<OutsidePair>& outside) {
  const auto n_listed = static_cast<std::size_t>(frame.list.first[i + 1] - frame.list.first[i]);
  if (n_listed >= neighbor_.size()) {
    const std::size_t n = n_listed + n_listed / 4 + 1;
    neighbor_.resize(n), type_.resize(n);
    for (auto* each : {&x_, &y_, &z_, &r2_}) each->resize(n);
  }
  const CenterPlan<Real>& plan = plan_.centers[frame.types[i]];
  const int n = frame.list.shift && frame.cell ? filter<true>(frame, i) : filter<false>(frame, i);
  pairs.reserve(end + static_cast<std::size_t>(n + plan_.tree.n_types * kPad));
  sort_by_type(frame, i, n, plan, pairs, end, runs);
  for (int t = 0; t < plan_.tree.n_types; ++t) {
    if (runs[t].n == 0) continue;
    const PlanTable<Real>& table = plan_.tables[plan.neighbors[t].network];
    double beyond = 0;
    MakeRows<Real> rows;
    rows.pairs = &pairs;
    rows.begin = runs[t].begin, rows.end = runs[t].begin + static_cast<std::size_t>(padded(runs[t].n));
    rows.cutoff = plan_.tree.cutoff;
    rows.davg = plan.davg, rows.inverse_std_r = plan.inverse_std_r, rows.inverse_std_a = plan.inverse_std_a;
    rows.lo = table.lo, rows.inverse_step = table.inverse_step, rows.last = table.last;
    rows.stride = 6 * table.width;
    rows.beyond = &beyond;
    plan_.kernels.make_rows(rows);
    if (beyond > kOutside) find_outside(plan, center, t, runs[t], pairs, outside);
  }
}

template <class Real>
std::size_t PairCollector<Real>::bytes() const {
  return neighbor_.size() * (2 * sizeof(int) + 4 * sizeof(double));
}

template class PairCollector<float>;
template class PairCollector<double>;

}  // namespace deepmd
