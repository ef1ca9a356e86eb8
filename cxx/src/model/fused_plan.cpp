#include "model/fused_plan.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/fused_exact.hpp"
#include "model/fused_fold.hpp"

namespace deepmd {
namespace {

template <class Real>
aligned_vector<Real> padded_copy(const std::vector<double>& values, double factor = 1.0) {
  aligned_vector<Real> copy(padded(static_cast<int>(values.size())), Real(0));
  for (std::size_t k = 0; k < values.size(); ++k) copy[k] = static_cast<Real>(values[k] * factor);
  return copy;
}

template <class Real>
PlanTable<Real> make_table(const QuinticTable<double>& from, int lanes) {
  PlanTable<Real> table;
  table.lo = from.lo;
  table.inverse_step = 1.0 / from.step;
  table.last = std::nextafter(static_cast<double>(from.n_intervals), 0.0);
  table.channels = from.channels;
  table.width = (from.channels + lanes - 1) / lanes * lanes;
  table.c.assign(static_cast<std::size_t>(from.n_intervals) * 6 * table.width, Real(0));
  for (std::size_t row = 0; row < static_cast<std::size_t>(from.n_intervals) * 6; ++row) {
    for (int m = 0; m < from.channels; ++m) {
      table.c[row * table.width + m] = static_cast<Real>(from.c[row * from.width + m]);
    }
  }
  return table;
}

// What one empty slot adds: the table's own answer where it has one, so that a neighbour at the cutoff adds the same.
std::vector<double> phantom_row(const EnergyTree& tree, const PairBasis& basis, int network, double row0) {
  const QuinticTable<double>& table = basis.tables[network];
  std::vector<double> c(basis.spectral ? basis.ranks[network] : tree.width);
  const double at = (row0 - table.lo) / table.step;
  if (at >= 0.0 && at < table.n_intervals) {
    const int k = static_cast<int>(at);
    for (std::size_t m = 0; m < c.size(); ++m) {
      const double* polynomial = &table.c[static_cast<std::size_t>(k) * 6 * table.width + m];
      for (int d = 5; d >= 0; --d) c[m] = c[m] * (at - k) + polynomial[static_cast<std::size_t>(d) * table.width];
    }
  } else {
    evaluate_exactly(tree, basis, network, 1, &row0, c.data(), nullptr);
  }
  for (double& x : c) x *= row0;
  return c;
}

template <class Real>
PlanLayer<Real> make_layer(Isa isa, const DenseLayer& layer) {
  PlanLayer<Real> made;
  made.n_in = layer.n_in, made.n_out = layer.n_out;
  made.kind = layer.activation, made.threshold = layer.threshold, made.skip = layer.skip;
  made.w = pack<Real>(isa, layer.n_in, layer.n_out, layer.w.data(), layer.n_out, 1);
  made.w_back = pack<Real>(isa, layer.n_out, layer.n_in, layer.w.data(), 1, layer.n_out);
  made.bias = padded_copy<Real>(layer.b);
  if (!layer.idt.empty()) made.idt = padded_copy<Real>(layer.idt);
  return made;
}

// Weights of the descriptor become weights of the products; those of the parameters follow unchanged.
std::vector<double> first_weights(const Fold& fold, const EnergyTree& tree, const std::vector<double>& w, int n_out) {
  std::vector<double> folded = fold_weights(fold, tree, w.data(), n_out);
  const std::size_t n_descriptor = static_cast<std::size_t>(tree.width) * tree.axis * n_out;
  folded.insert(folded.end(), w.begin() + static_cast<std::ptrdiff_t>(n_descriptor), w.end());
  return folded;
}

// The first layer's skip as a matrix: the unit matrix, once or twice, seen from the products.
std::vector<double> skip_weights(const Fold& fold, const EnergyTree& tree, const DenseLayer& layer) {
  std::vector<double> unit(static_cast<std::size_t>(layer.n_in) * layer.n_out, 0.0);
  for (int i = 0; i < layer.n_out; ++i) unit[static_cast<std::size_t>(i % layer.n_in) * layer.n_out + i] = 1.0;
  return first_weights(fold, tree, unit, layer.n_out);
}

template <class Real>
void make_first_layer(Isa isa, const Fold& fold, const EnergyTree& tree, const DenseLayer& layer, CenterPlan<Real>& plan) {
  DenseLayer folded = layer;
  folded.n_in = plan.n_x + plan.n_extra;
  folded.w = first_weights(fold, tree, layer.w, layer.n_out);
  PlanLayer<Real> made = make_layer<Real>(isa, folded);
  made.w_back = pack<Real>(isa, layer.n_out, plan.n_x, folded.w.data(), 1, layer.n_out);
  if (layer.skip != 0) {
    const std::vector<double> skip = skip_weights(fold, tree, layer);
    made.has_skip_matrix = true;
    made.skip_matrix = pack<Real>(isa, folded.n_in, layer.n_out, skip.data(), layer.n_out, 1);
    made.skip_back = pack<Real>(isa, layer.n_out, plan.n_x, skip.data(), 1, layer.n_out);
  }
  plan.layers.push_back(std::move(made));
}

template <class Real>
void make_fitting(Isa isa, const Fold& fold, const EnergyTree& tree, int t_i, CenterPlan<Real>& plan) {
  const std::vector<DenseLayer>& layers = tree.fitting[t_i].layers;
  for (std::size_t k = 0; k + 1 < layers.size(); ++k) {
    if (k == 0) {
      make_first_layer(isa, fold, tree, layers[0], plan);
    } else {
      plan.layers.push_back(make_layer<Real>(isa, layers[k]));
    }
  }
  const DenseLayer& last = layers.back();
  const double scale = tree.energy_scale[t_i];
  plan.out = padded_copy<Real>(layers.size() == 1 ? first_weights(fold, tree, last.w, 1) : last.w, scale);
  plan.shift = tree.energy_shift[t_i] + scale * (last.b.empty() ? 0.0 : last.b[0]);
}

template <class Real>
std::vector<int> make_neighbors(const FusedPlan<Real>& all, int t_i, CenterPlan<Real>& plan) {
  const EnergyTree& tree = all.tree;
  std::vector<int> columns;
  for (int t = 0; t < tree.n_types; ++t) {
    NeighborPlan<Real> neighbor;
    neighbor.network = tree.network_of(t_i, t);
    neighbor.sel = tree.sel[t];
    const int width = all.tables[neighbor.network].width;
    neighbor.column = all.basis.spectral ? plan.n_sums : 0;
    plan.n_sums = neighbor.column + width;
    neighbor.phantom.assign(width, Real(0));
    const std::vector<double> c = phantom_row(tree, all.basis, neighbor.network, -plan.davg * plan.inverse_std_r);
    std::transform(c.begin(), c.end(), neighbor.phantom.begin(), [](double x) { return static_cast<Real>(x); });
    columns.push_back(neighbor.column);
    plan.neighbors.push_back(std::move(neighbor));
  }
  return columns;
}

template <class Real>
CenterPlan<Real> make_center(const FusedPlan<Real>& all, int t_i) {
  const EnergyTree& tree = all.tree;
  const Isa isa = all.kernels.isa;
  CenterPlan<Real> plan;
  plan.davg = tree.davg_r[t_i];
  plan.inverse_std_r = 1.0 / tree.std_r[t_i];
  plan.inverse_std_a = 1.0 / tree.std_a[t_i];
  const std::vector<int> columns = make_neighbors(all, t_i, plan);
  plan.sums_stride = padded(plan.n_sums);
  const Fold fold = choose_fold(tree, all.basis, t_i, columns, plan.n_sums);
  plan.has_map = fold.has_map;
  plan.n = fold.n;
  plan.axis = fold.axis;
  if (fold.has_map) {
    plan.map = pack<Real>(isa, fold.n_sums, fold.n, fold.map.data(), fold.n, 1);
    plan.map_back = pack<Real>(isa, fold.n, fold.n_sums, fold.map.data(), 1, fold.n);
  }
  plan.t_stride = fold.has_map ? padded(fold.n) : plan.sums_stride;
  plan.n_x = n_products(plan.n, plan.axis);
  plan.n_extra = tree.dim_fparam + tree.dim_aparam;
  plan.x_stride = padded(plan.n_x + plan.n_extra) + kPad;
  make_fitting(isa, fold, tree, t_i, plan);
  return plan;
}

}  // namespace

template <class Real>
FusedPlan<Real>::FusedPlan(EnergyTree tree_, PairBasis basis_, Isa isa)
    : tree(std::move(tree_)), basis(std::move(basis_)), kernels(isa) {
  for (const QuinticTable<double>& table : basis.tables) tables.push_back(make_table<Real>(table, kernels.lanes));
  for (int t = 0; t < tree.n_types; ++t) {
    centers.push_back(make_center(*this, t));
    for (const PlanLayer<Real>& layer : centers.back().layers) widest_layer = std::max(widest_layer, layer.n_out);
  }
  basis.tables.clear();
  tree.fitting.clear();
}

template <class Real>
std::size_t FusedPlan<Real>::bytes() const {
  std::size_t n = 0;
  for (const PlanTable<Real>& table : tables) n += table.c.size();
  for (const CenterPlan<Real>& center : centers) {
    n += center.map.data.size() + center.map_back.data.size();
    for (const PlanLayer<Real>& layer : center.layers) n += layer.w.data.size() + layer.w_back.data.size();
  }
  return n * sizeof(Real);
}

template struct FusedPlan<float>;
template struct FusedPlan<double>;

}  // namespace deepmd
