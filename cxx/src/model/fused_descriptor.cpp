#include "model/fused_descriptor.hpp"

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
RowView<Real> FusedDescriptor<Real>::view(std::size_t first_row, int n) const {
  RowView<Real> rows;
  rows.n = n;
  rows.offset = rows_.offset.data() + first_row;
  rows.u = rows_.u.data() + first_row;
  for (int b = 0; b < 4; ++b) rows.row[b] = rows_.row[b].data() + first_row;
  return rows;
}

template <class Real>
void FusedDescriptor<Real>::make_room() {
  const DescriptorPlan<Real>& plan = *plan_;
  const std::size_t rows = static_cast<std::size_t>(pairs_->m) * plan.n_rows;
  for (int k = 0; k < pairs_->m; ++k) rows_.reserve(pairs_->first[k + 1] - pairs_->first[k]);
  grow(sums_, rows * plan.sums_stride + kPad);
  if (plan.has_map) grow(t_, rows * plan.t_stride + kPad);
  grow(g_t_, rows * plan.t_stride + kPad);
  grow(spread_, static_cast<std::size_t>(plan.axis) * padded(plan.n));
}

template <class Real>
void FusedDescriptor<Real>::forward(int t_i, const BlockPairs& pairs, Real* x, int x_stride) {
  plan_ = &all_.centers[t_i].descriptors[number_];
  pairs_ = &pairs;
  make_room();
  sum_neighbors();
  make_inputs(x + plan_->first_x, x_stride);
}

template <class Real>
void FusedDescriptor<Real>::backward(const Real* x, int x_stride, const int* atoms, const BlockSums& sums) {
  inputs_back(x + plan_->first_x, x_stride);
  neighbors_back(atoms, sums);
}

// Rows of the neighbours of one type of centre k. Returns how far they lie outside the table in all, in intervals.
template <class Real>
double FusedDescriptor<Real>::make_rows(int k, int type) {
  const NeighborRun& run = runs(k)[type];
  const PlanTable<Real>& table = all_.tables[plan_->neighbors[type].network];
  double beyond = 0;
  MakeRows<Real> rows;
  rows.pairs = &pairs_->geometry, rows.rows = &rows_;
  rows.first = pairs_->first[k];
  rows.begin = run.begin, rows.end = run.begin + static_cast<std::size_t>(padded(run.n));
  rows.kind = plan_->kind, rows.cutoff = plan_->cutoff;
  rows.davg = plan_->davg, rows.inverse_std_r = plan_->inverse_std_r, rows.inverse_std_a = plan_->inverse_std_a;
  rows.lo = table.lo, rows.inverse_step = table.inverse_step, rows.last = table.last;
  rows.stride = 6 * table.width;
  rows.beyond = &beyond;
  all_.kernels.make_rows(rows);
  return beyond;
}

template <class Real>
void FusedDescriptor<Real>::find_outside(int k, int type) {
  const PlanTable<Real>& table = all_.tables[plan_->neighbors[type].network];
  const PairGeometry& pairs = pairs_->geometry;
  const NeighborRun& run = runs(k)[type];
  for (std::size_t entry = run.begin; entry < run.begin + static_cast<std::size_t>(run.n); ++entry) {
    const double r[3] = {pairs.x[entry], pairs.y[entry], pairs.z[entry]};
    const double distance = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    const RawRow raw = raw_row(distance, plan_->cutoff);
    const double radial = (raw.s - plan_->davg) * plan_->inverse_std_r;
    const bool is_row = plan_->kind != RowKind::radial;
    OutsidePair pair{k, type, entry, plan_->kind == RowKind::by_inverse ? 1.0 / (distance + plan_->cutoff.protection) : radial, {is_row ? radial : 1.0}};
    const double at = (pair.argument - table.lo) * table.inverse_step;
    if (at >= -kOutside && at <= table.last + kOutside) continue;
    for (int b = 0; is_row && b < 3; ++b) pair.row[1 + b] = raw.angular * plan_->inverse_std_a * r[b];
    for (auto& row : rows_.row) row[entry - pairs_->first[k]] = Real(0);
    outside_.push_back(pair);
  }
}

// What neighbours of one type, excluded ones and empty slots of centre k add to its sums.
template <class Real>
void FusedDescriptor<Real>::sum_type(int k, int type, Real* own) {
  const NeighborPlan<Real>& neighbor = plan_->neighbors[type];
  const PlanTable<Real>& table = all_.tables[neighbor.network];
  const NeighborRun& run = runs(k)[type];
  const Real n_empty = static_cast<Real>(neighbor.sel - run.n_counted);
  const int n_phantom = static_cast<int>(neighbor.phantom.size());
  for (int p = 0; p < n_phantom; ++p) own[neighbor.phantom_column + p] += n_empty * neighbor.phantom[p];
  if (!neighbor.blank.empty()) {
    const Real n_blank = static_cast<Real>(run.n_counted - run.n);
    for (int p = 0; p < table.width; ++p) own[neighbor.column + p] += n_blank * neighbor.blank[p];
  }
  if (run.n == 0) return;
  if (make_rows(k, type) > kOutside) find_outside(k, type);
  all_.kernels.contract({view(run.begin - pairs_->first[k], run.n), plan_->kind, table.c.data(), table.width,
                         own + neighbor.column, plan_->sums_stride});
}

// First pass over neighbours: sums_ = sum_j row (x) c, empty slots included.
template <class Real>
void FusedDescriptor<Real>::sum_neighbors() {
  outside_.clear();
  const std::size_t size = static_cast<std::size_t>(plan_->n_rows) * plan_->sums_stride;
  for (int k = 0; k < pairs_->m; ++k) {
    Real* own = sums_.data() + k * size;
    std::fill_n(own, size, Real(0));
    for (int t = 0; t < all_.tree.n_types; ++t) sum_type(k, t, own);
  }
  if (!outside_.empty()) add_outside();
}

// Pairs that the table does not cover: the network itself, all pairs of one type in one batch.
template <class Real>
void FusedDescriptor<Real>::add_outside() {
  n_outside_ += static_cast<std::int64_t>(outside_.size());
  std::stable_sort(outside_.begin(), outside_.end(), [](const OutsidePair& a, const OutsidePair& b) { return a.type < b.type; });
  const std::size_t width = all_.tree.descriptors[number_].width;
  outside_c_.resize(outside_.size() * width);
  outside_c1_.resize(outside_.size() * width);
  std::vector<double> argument;
  for (std::size_t begin = 0, end; begin < outside_.size(); begin = end) {
    argument.clear();
    for (end = begin; end < outside_.size() && outside_[end].type == outside_[begin].type; ++end) argument.push_back(outside_[end].argument);
    const NeighborPlan<Real>& neighbor = plan_->neighbors[outside_[begin].type];
    const int channels = all_.tables[neighbor.network].channels;
    std::vector<double> c(argument.size() * channels), c1(argument.size() * channels);
    evaluate_exactly(all_.tree, all_.basis, neighbor.network, static_cast<int>(argument.size()), argument.data(), c.data(), c1.data());
    for (std::size_t k = begin; k < end; ++k) {
      std::copy_n(&c[(k - begin) * channels], channels, &outside_c_[k * width]);
      std::copy_n(&c1[(k - begin) * channels], channels, &outside_c1_[k * width]);
      Real* own = sums_.data() + static_cast<std::size_t>(outside_[k].center) * plan_->n_rows * plan_->sums_stride + neighbor.column;
      for (int b = 0; b < plan_->n_rows; ++b) {
        for (int p = 0; p < channels; ++p) own[b * plan_->sums_stride + p] += static_cast<Real>(outside_[k].row[b] * c[(k - begin) * channels + p]);
      }
    }
  }
}

// From sums over neighbours to inputs of the fitting network.
template <class Real>
void FusedDescriptor<Real>::make_inputs(Real* x, int x_stride) {
  const DescriptorPlan<Real>& plan = *plan_;
  const int m = pairs_->m;
  if (plan.has_map) {
    all_.kernels.gemm({plan.n_rows * m, &plan.map, sums_.data(), plan.sums_stride, t_.data(), plan.t_stride, nullptr, false});
  }
  for (int k = 0; k < m; ++k) {
    const Real* own = t() + static_cast<std::size_t>(k) * plan.n_rows * plan.t_stride;
    Real* to = x + static_cast<std::size_t>(k) * x_stride;
    if (plan.kind == RowKind::radial) {
      std::copy_n(own, plan.n, to);
    } else {
      all_.kernels.products({plan.n, plan.axis, own, plan.t_stride, to});
    }
  }
}

// From dE/dx to dE/d(sums), which is in g_t_ without a map and in sums_ with one.
template <class Real>
void FusedDescriptor<Real>::inputs_back(const Real* x, int x_stride) {
  const DescriptorPlan<Real>& plan = *plan_;
  const int m = pairs_->m;
  for (int k = 0; k < m; ++k) {
    const std::size_t own = static_cast<std::size_t>(k) * plan.n_rows * plan.t_stride;
    const Real* g_x = x + static_cast<std::size_t>(k) * x_stride;
    if (plan.kind == RowKind::radial) {
      std::copy_n(g_x, plan.n, g_t_.data() + own);
      std::fill(g_t_.data() + own + plan.n, g_t_.data() + own + plan.t_stride, Real(0));
      continue;
    }
    ProductsBackward<Real> back;
    back.forward = {plan.n, plan.axis, t() + own, plan.t_stride, nullptr};
    back.g_x = g_x;
    back.g_t = g_t_.data() + own;
    back.spread = spread_.data();
    all_.kernels.products_backward(back);
  }
  if (plan.has_map) {
    all_.kernels.gemm({plan.n_rows * m, &plan.map_back, g_t_.data(), plan.t_stride, sums_.data(), plan.sums_stride, nullptr, false});
  }
}

template <class Real>
void FusedDescriptor<Real>::outside_back(int k) {
  const Real* g = gradient_of_sums(k);
  const std::size_t width = all_.tree.descriptors[number_].width;
  for (std::size_t o = 0; o < outside_.size(); ++o) {
    const OutsidePair& pair = outside_[o];
    if (pair.center != k) continue;
    const NeighborPlan<Real>& neighbor = plan_->neighbors[pair.type];
    const double *c = &outside_c_[o * width], *c1 = &outside_c1_[o * width];
    double d_row[5] = {}, slope = 0;
    for (int b = 0; b < plan_->n_rows; ++b) {
      for (int p = 0; p < all_.tables[neighbor.network].channels; ++p) {
        const double g_b = static_cast<double>(g[b * plan_->sums_stride + neighbor.column + p]);
        if (plan_->kind != RowKind::radial) d_row[b] += g_b * c[p];
        slope += g_b * pair.row[b] * c1[p];
      }
    }
    d_row[plan_->kind == RowKind::by_inverse ? 4 : 0] += slope;
    for (int b = 0; b < 5; ++b) d_row_[b][pair.entry - pairs_->first[k]] = static_cast<Real>(d_row[b]);
  }
}

template <class Real>
void FusedDescriptor<Real>::project(int k, int type, const Real* g) {
  const NeighborRun& run = runs(k)[type];
  const NeighborPlan<Real>& neighbor = plan_->neighbors[type];
  const PlanTable<Real>& table = all_.tables[neighbor.network];
  const std::size_t first_row = run.begin - pairs_->first[k];
  make_rows(k, type);
  Project<Real> project;
  project.rows = view(first_row, run.n);
  project.kind = plan_->kind;
  project.table = table.c.data(), project.width = table.width;
  project.inverse_step = static_cast<Real>(table.inverse_step);
  project.g = g + neighbor.column, project.stride = plan_->sums_stride;
  for (int b = 0; b < 4; ++b) project.d_row[b] = d_row_[b].data() + first_row;
  project.d_argument = d_row_[4].data() + first_row;
  all_.kernels.project(project);
}

// Second pass over neighbours: pair gradients, and what they add up to.
template <class Real>
void FusedDescriptor<Real>::neighbors_back(const int* atoms, const BlockSums& sums) {
  const int n_types = all_.tree.n_types;
  for (int k = 0; k < pairs_->m; ++k) {
    for (auto& each : d_row_) grow(each, pairs_->first[k + 1] - pairs_->first[k]);
    for (int t = 0; t < n_types; ++t) {
      if (runs(k)[t].n > 0) project(k, t, gradient_of_sums(k));
    }
    if (!outside_.empty()) outside_back(k);
    ChainRule<Real> chain;
    chain.rows = &rows_;
    for (int b = 0; b < 4; ++b) chain.d_row[b] = d_row_[b].data();
    if (plan_->kind == RowKind::by_inverse) chain.d_inverse = d_row_[4].data(), chain.protection = plan_->cutoff.protection;
    chain_.run(all_.kernels.chain_rule, chain, *pairs_, n_types, k, atoms[k], sums);
  }
}

template <class Real>
std::size_t FusedDescriptor<Real>::bytes() const {
  const std::size_t reals = sums_.size() + t_.size() + g_t_.size() + spread_.size() + 5 * d_row_[0].size();
  return rows_.bytes() + reals * sizeof(Real) + chain_.bytes() + outside_.capacity() * sizeof(OutsidePair);
}

template class FusedDescriptor<float>;
template class FusedDescriptor<double>;

}  // namespace deepmd
