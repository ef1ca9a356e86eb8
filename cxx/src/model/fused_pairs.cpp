#include "model/fused_pairs.hpp"

#include <algorithm>
#include <cmath>

#include "model/pair_blocks.hpp"

namespace deepmd {
namespace {

// Beyond this, in intervals, an argument counts as outside the table; less is rounding and changes nothing.
constexpr double kOutside = 1e-9;

}  // namespace

// The number of neighbours inside the cutoff.
template <class Real>
int PairCollector<Real>::filter(const Frame& frame, int i) {
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
  row.rcut2 = plan_.tree.cutoff.rcut * plan_.tree.cutoff.rcut;
  row.neighbor = neighbor_.data();
  row.x = x_.data(), row.y = y_.data(), row.z = z_.data(), row.r2 = r2_.data();
  const Filtered found = plan_.kernels.filter(row);
  if (found.closest2 < kClosestPair * kClosestPair) refuse_close_pairs(frame);
  return found.n;
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
  const CenterPlan<Real>& plan = plan_.centers[frame.types[i]];
  const int n = filter(frame, i);
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
