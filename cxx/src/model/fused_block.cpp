#include "model/fused_block.hpp"

#include <algorithm>
#include <cmath>

#include "model/fused_exact.hpp"

namespace deepmd {
namespace {

template <class Buffer>
void grow(Buffer& buffer, std::size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

// Beyond this, in intervals, an argument counts as outside the table; less is rounding and changes nothing.
constexpr double kOutside = 1e-9;

}  // namespace

template <class Real>
FusedBlock<Real>::FusedBlock(const FusedPlan<Real>& plan) : plan_(plan), fitting_(plan) {}

template <class Real>
RowView<Real> FusedBlock<Real>::view(std::size_t first_row, int n) const {
  RowView<Real> rows;
  rows.n = n;
  rows.offset = rows_.offset.data() + first_row;
  rows.u = rows_.u.data() + first_row;
  for (int b = 0; b < 4; ++b) rows.row[b] = rows_.row[b].data() + first_row;
  return rows;
}

template <class Real>
void FusedBlock<Real>::make_room(const CenterPlan<Real>& center) {
  const auto rows = static_cast<std::size_t>(pairs_->m);
  for (int k = 0; k < pairs_->m; ++k) rows_.reserve(pairs_->first[k + 1] - pairs_->first[k]);
  grow(sums_, rows * 4 * center.sums_stride + kPad);
  if (center.has_map) grow(t_, rows * 4 * center.t_stride + kPad);
  grow(g_t_, rows * 4 * center.t_stride + kPad);
  grow(x_, rows * center.x_stride + kPad);
  grow(spread_, static_cast<std::size_t>(center.axis) * padded(center.n));
  grow(energy_, rows);
}

template <class Real>
void FusedBlock<Real>::evaluate(const Frame& frame, const int* atoms, const BlockPairs& pairs, const BlockSums& sums) {
  const CenterPlan<Real>& center = plan_.centers[frame.types[atoms[0]]];
  const int m = pairs.m;
  pairs_ = &pairs;
  make_room(center);
  sum_neighbors(center);
  make_inputs(frame, center, atoms);
  fitting_.forward(center, m, x_.data(), energy_.data());
  for (int k = 0; k < m; ++k) sums.atom_energy[atoms[k]] = energy_[k];
  if (!sums.wants_gradient()) return;
  fitting_.backward(center, m, x_.data());
  inputs_back(center);
  neighbors_back(center, atoms, sums);
}

// Rows of the neighbours of one type of centre k. Returns how far they lie outside the table in all, in intervals.
template <class Real>
double FusedBlock<Real>::make_rows(const CenterPlan<Real>& center, int k, int type) {
  const NeighborRun& run = runs(k)[type];
  const PlanTable<Real>& table = plan_.tables[center.neighbors[type].network];
  double beyond = 0;
  MakeRows<Real> rows;
  rows.pairs = &pairs_->geometry, rows.rows = &rows_;
  rows.first = pairs_->first[k];
  rows.begin = run.begin, rows.end = run.begin + static_cast<std::size_t>(padded(run.n));
  rows.cutoff = plan_.tree.cutoff;
  rows.davg = center.davg, rows.inverse_std_r = center.inverse_std_r, rows.inverse_std_a = center.inverse_std_a;
  rows.lo = table.lo, rows.inverse_step = table.inverse_step, rows.last = table.last;
  rows.stride = 6 * table.width;
  rows.beyond = &beyond;
  plan_.kernels.make_rows(rows);
  return beyond;
}

template <class Real>
void FusedBlock<Real>::find_outside(const CenterPlan<Real>& center, int k, int type) {
  const PlanTable<Real>& table = plan_.tables[center.neighbors[type].network];
  const PairGeometry& pairs = pairs_->geometry;
  const NeighborRun& run = runs(k)[type];
  for (std::size_t entry = run.begin; entry < run.begin + static_cast<std::size_t>(run.n); ++entry) {
    const double r[3] = {pairs.x[entry], pairs.y[entry], pairs.z[entry]};
    const RawRow raw = raw_row(std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), plan_.tree.cutoff);
    OutsidePair pair{k, type, entry, {(raw.s - center.davg) * center.inverse_std_r}};
    const double at = (pair.row[0] - table.lo) * table.inverse_step;
    if (at >= -kOutside && at <= table.last + kOutside) continue;
    for (int b = 0; b < 3; ++b) pair.row[1 + b] = raw.angular * center.inverse_std_a * r[b];
    for (auto& row : rows_.row) row[entry - pairs_->first[k]] = Real(0);
    outside_.push_back(pair);
  }
}

// First pass over neighbours: sums_ = sum_j row (x) c, empty slots included.
template <class Real>
void FusedBlock<Real>::sum_neighbors(const CenterPlan<Real>& center) {
  outside_.clear();
  for (int k = 0; k < pairs_->m; ++k) {
    Real* own = sums_.data() + static_cast<std::size_t>(k) * 4 * center.sums_stride;
    std::fill_n(own, 4 * center.sums_stride, Real(0));
    for (int t = 0; t < plan_.tree.n_types; ++t) {
      const NeighborPlan<Real>& neighbor = center.neighbors[t];
      const PlanTable<Real>& table = plan_.tables[neighbor.network];
      const NeighborRun& run = runs(k)[t];
      const Real n_empty = static_cast<Real>(neighbor.sel - run.n_counted);
      for (int p = 0; p < table.width; ++p) own[neighbor.column + p] += n_empty * neighbor.phantom[p];
      if (run.n == 0) continue;
      if (make_rows(center, k, t) > kOutside) find_outside(center, k, t);
      plan_.kernels.contract({view(run.begin - pairs_->first[k], run.n), table.c.data(), table.width, own + neighbor.column, center.sums_stride});
    }
  }
  if (!outside_.empty()) add_outside(center);
}

// Pairs that the table does not cover: the network itself, all pairs of one type in one batch.
template <class Real>
void FusedBlock<Real>::add_outside(const CenterPlan<Real>& center) {
  n_outside_ += static_cast<std::int64_t>(outside_.size());
  std::stable_sort(outside_.begin(), outside_.end(), [](const OutsidePair& a, const OutsidePair& b) { return a.type < b.type; });
  const std::size_t width = plan_.tree.width;
  outside_c_.resize(outside_.size() * width);
  outside_c1_.resize(outside_.size() * width);
  std::vector<double> e;
  for (std::size_t begin = 0, end; begin < outside_.size(); begin = end) {
    e.clear();
    for (end = begin; end < outside_.size() && outside_[end].type == outside_[begin].type; ++end) e.push_back(outside_[end].row[0]);
    const NeighborPlan<Real>& neighbor = center.neighbors[outside_[begin].type];
    const int channels = plan_.tables[neighbor.network].channels;
    std::vector<double> c(e.size() * channels), c1(e.size() * channels);
    evaluate_exactly(plan_.tree, plan_.basis, neighbor.network, static_cast<int>(e.size()), e.data(), c.data(), c1.data());
    for (std::size_t k = begin; k < end; ++k) {
      std::copy_n(&c[(k - begin) * channels], channels, &outside_c_[k * width]);
      std::copy_n(&c1[(k - begin) * channels], channels, &outside_c1_[k * width]);
      Real* own = sums_.data() + static_cast<std::size_t>(outside_[k].center) * 4 * center.sums_stride + neighbor.column;
      for (int b = 0; b < 4; ++b) {
        for (int p = 0; p < channels; ++p) own[b * center.sums_stride + p] += static_cast<Real>(outside_[k].row[b] * c[(k - begin) * channels + p]);
      }
    }
  }
}

// From sums over neighbours to the inputs of the fitting network.
template <class Real>
void FusedBlock<Real>::make_inputs(const Frame& frame, const CenterPlan<Real>& center, const int* atoms) {
  const EnergyTree& tree = plan_.tree;
  const int m = pairs_->m;
  if (center.has_map) {
    plan_.kernels.gemm({4 * m, &center.map, sums_.data(), center.sums_stride, t_.data(), center.t_stride, nullptr, false});
  }
  const Real* t = center.has_map ? t_.data() : sums_.data();
  for (int k = 0; k < m; ++k) {
    Real* x = x_.data() + static_cast<std::size_t>(k) * center.x_stride;
    plan_.kernels.products({center.n, center.axis, t + static_cast<std::size_t>(k) * 4 * center.t_stride, center.t_stride, x});
    x += center.n_x;
    for (int c = 0; c < tree.dim_fparam; ++c) *x++ = static_cast<Real>((frame.fparam[c] - tree.fparam_avg[c]) * tree.fparam_inv_std[c]);
    const double* aparam = tree.dim_aparam ? frame.aparam + static_cast<std::size_t>(atoms[k]) * tree.dim_aparam : nullptr;
    for (int c = 0; c < tree.dim_aparam; ++c) *x++ = static_cast<Real>((aparam[c] - tree.aparam_avg[c]) * tree.aparam_inv_std[c]);
  }
}

// x_ holds dE/dx; what comes out is dE/d(sums), in g_t_ without a map and in sums_ with one.
template <class Real>
void FusedBlock<Real>::inputs_back(const CenterPlan<Real>& center) {
  const int m = pairs_->m;
  const Real* t = center.has_map ? t_.data() : sums_.data();
  for (int k = 0; k < m; ++k) {
    const std::size_t own = static_cast<std::size_t>(k) * 4 * center.t_stride;
    ProductsBackward<Real> back;
    back.forward = {center.n, center.axis, t + own, center.t_stride, nullptr};
    back.g_x = x_.data() + static_cast<std::size_t>(k) * center.x_stride;
    back.g_t = g_t_.data() + own;
    back.spread = spread_.data();
    plan_.kernels.products_backward(back);
  }
  if (center.has_map) {
    plan_.kernels.gemm({4 * m, &center.map_back, g_t_.data(), center.t_stride, sums_.data(), center.sums_stride, nullptr, false});
  }
}

template <class Real>
void FusedBlock<Real>::outside_back(const CenterPlan<Real>& center, int k, std::size_t first_entry) {
  const Real* g = (center.has_map ? sums_ : g_t_).data() + static_cast<std::size_t>(k) * 4 * center.sums_stride;
  for (std::size_t o = 0; o < outside_.size(); ++o) {
    const OutsidePair& pair = outside_[o];
    if (pair.center != k) continue;
    const NeighborPlan<Real>& neighbor = center.neighbors[pair.type];
    const double *c = &outside_c_[o * plan_.tree.width], *c1 = &outside_c1_[o * plan_.tree.width];
    double d_row[4] = {}, slope = 0;
    for (int b = 0; b < 4; ++b) {
      for (int p = 0; p < plan_.tables[neighbor.network].channels; ++p) {
        const double g_b = static_cast<double>(g[b * center.sums_stride + neighbor.column + p]);
        d_row[b] += g_b * c[p];
        slope += g_b * pair.row[b] * c1[p];
      }
    }
    d_row[0] += slope;
    for (int b = 0; b < 4; ++b) d_row_[b][pair.entry - first_entry] = static_cast<Real>(d_row[b]);
  }
}

// Second pass over neighbours: pair gradients, and what they add up to.
template <class Real>
void FusedBlock<Real>::neighbors_back(const CenterPlan<Real>& center, const int* atoms, const BlockSums& sums) {
  alignas(kAlignment) double total[3 * 8], unused[9 * 8] = {};
  const int n_types = plan_.tree.n_types;
  for (int k = 0; k < pairs_->m; ++k) {
    const std::size_t begin = pairs_->first[k], end = pairs_->first[k + 1];
    for (int b = 0; b < 4; ++b) grow(d_row_[b], end - begin);
    for (int b = 0; b < 3; ++b) grow(gradient_[b], end - begin);
    const Real* g = (center.has_map ? sums_ : g_t_).data() + static_cast<std::size_t>(k) * 4 * center.sums_stride;
    for (int t = 0; t < n_types; ++t) {
      const NeighborRun& run = runs(k)[t];
      if (run.n == 0) continue;
      const NeighborPlan<Real>& neighbor = center.neighbors[t];
      const PlanTable<Real>& table = plan_.tables[neighbor.network];
      make_rows(center, k, t);
      Project<Real> project;
      project.rows = view(run.begin - begin, run.n);
      project.table = table.c.data(), project.width = table.width;
      project.inverse_step = static_cast<Real>(table.inverse_step);
      project.g = g + neighbor.column, project.stride = center.sums_stride;
      for (int b = 0; b < 4; ++b) project.d_row[b] = d_row_[b].data() + (run.begin - begin);
      plan_.kernels.project(project);
    }
    if (!outside_.empty()) outside_back(center, k, begin);
    std::fill_n(total, 3 * 8, 0.0);
    ChainRule<Real> chain;
    chain.pairs = &pairs_->geometry, chain.rows = &rows_;
    chain.begin = begin, chain.end = end;
    for (int b = 0; b < 4; ++b) chain.d_row[b] = d_row_[b].data();
    for (int b = 0; b < 3; ++b) chain.gradient[b] = gradient_[b].data();
    chain.total = total;
    chain.virial = sums.virial ? sums.virial : unused;
    plan_.kernels.chain_rule(chain);
    for (int t = 0; t < n_types; ++t) scatter(runs(k)[t], begin, sums);
    for (int b = 0; sums.forces && b < 3; ++b) {
      for (int l = 0; l < 8; ++l) sums.forces[3 * static_cast<std::size_t>(atoms[k]) + b] += total[8 * b + l];
    }
  }
}

template <class Real>
void FusedBlock<Real>::scatter(const NeighborRun& run, std::size_t first_entry, const BlockSums& sums) const {
  const PairGeometry& pairs = pairs_->geometry;
  for (std::size_t k = run.begin; k < run.begin + static_cast<std::size_t>(run.n); ++k) {
    const auto j = static_cast<std::size_t>(pairs.neighbor[k]);
    const double g[3] = {gradient_[0][k - first_entry], gradient_[1][k - first_entry], gradient_[2][k - first_entry]};
    if (sums.forces) {
      for (int a = 0; a < 3; ++a) sums.forces[3 * j + a] -= g[a];
    }
    if (sums.atom_virial) {
      const double r[3] = {pairs.x[k], pairs.y[k], pairs.z[k]};
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) sums.atom_virial[9 * j + 3 * a + b] -= g[a] * r[b];
      }
    }
  }
}

template <class Real>
std::size_t FusedBlock<Real>::bytes() const {
  const std::size_t reals = sums_.size() + t_.size() + g_t_.size() + x_.size() + spread_.size() + 4 * d_row_[0].size();
  return fitting_.bytes() + rows_.bytes() + reals * sizeof(Real) + 3 * gradient_[0].size() * sizeof(double) +
         outside_.capacity() * sizeof(OutsidePair);
}

template class FusedBlock<float>;
template class FusedBlock<double>;

}  // namespace deepmd
