#include "model/fused_plan.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/curve_table.hpp"
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
PlanTable<Real> make_table(const QuinticTable<double>& from, int lanes, double scale = 1.0) {
  PlanTable<Real> table;
  table.lo = from.lo;
  table.inverse_step = 1.0 / from.step;
  table.last = std::nextafter(static_cast<double>(from.n_intervals), 0.0);
  table.channels = from.channels;
  table.width = (from.channels + lanes - 1) / lanes * lanes;
  table.c.assign(static_cast<std::size_t>(from.n_intervals) * 6 * table.width, Real(0));
  for (std::size_t row = 0; row < static_cast<std::size_t>(from.n_intervals) * 6; ++row) {
    for (int m = 0; m < from.channels; ++m) {
      table.c[row * table.width + m] = static_cast<Real>(scale * from.c[row * from.width + m]);
    }
  }
  return table;
}

// The curve at an argument: the table's own answer where it has one, so that a neighbour at the cutoff adds the same as
// an empty slot.
std::vector<double> curve_at(const EnergyTree& tree, const PairBasis& basis, int network, double argument) {
  const QuinticTable<double>& table = basis.tables[network];
  std::vector<double> c(basis.ranks[network]);
  const double at = (argument - table.lo) / table.step;
  if (at >= 0.0 && at < table.n_intervals) {
    std::vector<double> slopes(c.size());
    look_up(table, argument, c.data(), slopes.data());
  } else {
    evaluate_exactly(tree, basis, network, 1, &argument, c.data(), nullptr);
  }
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

// Weights of the descriptors become weights of the inputs made of them, first of pairs, then of couples; those of the
// constants become a part of `bias` [n_out]; those of the parameters follow unchanged.
std::vector<double> first_weights(const std::vector<Fold>& folds, const EnergyTree& tree, int t_i, const std::vector<double>& w,
                                  int n_out, std::vector<double>& bias) {
  std::vector<double> folded;
  const auto take = [&](int first, int n) {
    const auto begin = w.begin() + static_cast<std::ptrdiff_t>(first) * n_out;
    folded.insert(folded.end(), begin, begin + static_cast<std::ptrdiff_t>(n) * n_out);
  };
  for (std::size_t k = 0; k < folds.size(); ++k) {
    const PairDescriptor& descriptor = tree.descriptors[k];
    std::size_t row = descriptor.first_input;
    const std::vector<double> own = fold_weights(folds[k], descriptor, &w[row * n_out], n_out);
    folded.insert(folded.end(), own.begin(), own.end());
    row += static_cast<std::size_t>(descriptor.n_out());
    for (int c = 0; c < descriptor.n_constants(); ++c, ++row) {
      for (int o = 0; o < n_out; ++o) bias[o] += descriptor.constants[t_i][c] * w[row * n_out + o];
    }
  }
  for (const CoupleDescriptor& each : tree.couples) take(each.first_input, each.width);
  take(tree.n_descriptor_inputs(), tree.dim_fparam + tree.dim_aparam);
  return folded;
}

template <class Real>
void make_first_layer(Isa isa, const std::vector<Fold>& folds, const EnergyTree& tree, int t_i, const DenseLayer& layer,
                      CenterPlan<Real>& plan) {
  DenseLayer folded = layer;
  folded.n_in = plan.n_x + plan.n_extra;
  folded.w = first_weights(folds, tree, t_i, layer.w, layer.n_out, folded.b);
  PlanLayer<Real> made = make_layer<Real>(isa, folded);
  made.w_back = pack<Real>(isa, layer.n_out, plan.n_x, folded.w.data(), 1, layer.n_out);
  if (layer.skip != 0) {  // the unit matrix, once or twice, seen from the inputs
    std::vector<double> unit(static_cast<std::size_t>(layer.n_in) * layer.n_out, 0.0), bias(layer.n_out, 0.0);
    for (int i = 0; i < layer.n_out; ++i) unit[static_cast<std::size_t>(i % layer.n_in) * layer.n_out + i] = 1.0;
    const std::vector<double> skip = first_weights(folds, tree, t_i, unit, layer.n_out, bias);
    made.has_skip_matrix = true;
    made.skip_matrix = pack<Real>(isa, folded.n_in, layer.n_out, skip.data(), layer.n_out, 1);
    made.skip_back = pack<Real>(isa, layer.n_out, plan.n_x, skip.data(), 1, layer.n_out);
    made.skip_bias = padded_copy<Real>(bias);
  }
  plan.layers.push_back(std::move(made));
}

template <class Real>
void make_fitting(Isa isa, const std::vector<Fold>& folds, const EnergyTree& tree, int t_i, CenterPlan<Real>& plan) {
  const std::vector<DenseLayer>& layers = tree.fitting[t_i].layers;
  for (std::size_t k = 0; k + 1 < layers.size(); ++k) {
    if (k == 0) {
      make_first_layer(isa, folds, tree, t_i, layers[0], plan);
    } else {
      plan.layers.push_back(make_layer<Real>(isa, layers[k]));
    }
  }
  const DenseLayer& last = layers.back();
  const double scale = tree.energy_scale[t_i];
  std::vector<double> bias = last.b.empty() ? std::vector<double>(1, 0.0) : last.b;
  plan.out = padded_copy<Real>(layers.size() == 1 ? first_weights(folds, tree, t_i, last.w, 1, bias) : last.w, scale);
  plan.shift = tree.energy_shift[t_i] + scale * bias[0];
}

template <class Real>
aligned_vector<Real> filled_up(const std::vector<double>& values, double factor, int width) {
  aligned_vector<Real> filled(width, Real(0));
  std::transform(values.begin(), values.end(), filled.begin(), [&](double x) { return static_cast<Real>(factor * x); });
  return filled;
}

// Returns where the channels of each type begin in the sums.
template <class Real>
std::vector<int> make_neighbors(const FusedPlan<Real>& all, int number, int t_i, DescriptorPlan<Real>& plan) {
  const PairDescriptor& descriptor = all.tree.descriptors[number];
  const int first = all.tree.first_network(number);
  const bool is_radial = descriptor.kind == RowKind::radial;
  const double empty_row = descriptor.empty_row(t_i), empty_at = argument_of(descriptor, t_i, 0.0, descriptor.cutoff.rcut);
  std::vector<int> columns;
  for (int t = 0; t < descriptor.n_types; ++t) {
    NeighborPlan<Real> neighbor;
    neighbor.network = first + descriptor.network_of(t_i, t);
    neighbor.sel = descriptor.sel[t];
    const int width = all.tables[neighbor.network].width;
    neighbor.column = all.basis.spectral ? plan.n_sums : 0;
    plan.n_sums = neighbor.column + width;
    columns.push_back(neighbor.column);
    const int empty_type = descriptor.joint_slots ? 0 : t, empty = first + descriptor.network_of(t_i, empty_type);
    neighbor.phantom_column = columns[empty_type];
    neighbor.phantom = filled_up<Real>(curve_at(all.tree, all.basis, empty, empty_at), is_radial ? 1.0 : empty_row, all.tables[empty].width);
    if (is_radial && !descriptor.keep[t_i * descriptor.n_types + t]) {
      neighbor.blank = filled_up<Real>(curve_at(all.tree, all.basis, neighbor.network, 0.0), 1.0, width);
    }
    plan.neighbors.push_back(std::move(neighbor));
  }
  return columns;
}

// One descriptor of centres of one type; its inputs follow those of the descriptors before.
template <class Real>
DescriptorPlan<Real> make_descriptor(const FusedPlan<Real>& all, int number, int t_i, int first_x, Fold& fold) {
  const PairDescriptor& descriptor = all.tree.descriptors[number];
  const Isa isa = all.kernels.isa;
  DescriptorPlan<Real> plan;
  plan.kind = descriptor.kind;
  plan.cutoff = descriptor.cutoff;
  plan.n_rows = descriptor.kind == RowKind::radial ? 1 : 4;
  plan.davg = descriptor.davg_r[t_i];
  plan.inverse_std_r = 1.0 / descriptor.std_r[t_i];
  plan.inverse_std_a = 1.0 / descriptor.std_a[t_i];
  const std::vector<int> columns = make_neighbors(all, number, t_i, plan);
  plan.sums_stride = padded(plan.n_sums);
  fold = choose_fold(descriptor, all.basis, all.tree.first_network(number), t_i, columns, plan.n_sums);
  plan.has_map = fold.has_map;
  plan.n = fold.n;
  plan.axis = fold.axis;
  if (fold.has_map) {
    plan.map = pack<Real>(isa, fold.n_sums, fold.n, fold.map.data(), fold.n, 1);
    plan.map_back = pack<Real>(isa, fold.n, fold.n_sums, fold.map.data(), 1, fold.n);
  }
  plan.t_stride = fold.has_map ? padded(fold.n) : plan.sums_stride;
  plan.first_x = first_x;
  plan.n_x = n_inputs(fold, descriptor);
  return plan;
}

template <class Real>
CouplePlan<Real> make_couples(const CoupleDescriptor& descriptor, const QuinticTable<double>* tables, int lanes) {
  CouplePlan<Real> plan;
  plan.width = descriptor.width;
  for (int b = 0; b < descriptor.n_types; ++b) {
    for (int a = 0; a <= b; ++a) {
      const QuinticTable<double>& from = tables[CoupleDescriptor::kind_of(a, b)];
      CoupleKind<Real> kind;
      kind.a = a, kind.b = b, kind.scale = descriptor.scale(a, b);
      if (kind.scale == 0.0) continue;
      PlanTable<Real> table = make_table<Real>(from, lanes, kind.scale);
      kind.grid = {from.lo, from.hi, table.inverse_step, table.last};
      kind.n_intervals = from.n_intervals, kind.width = table.width;
      kind.c = std::move(table.c);
      plan.most_intervals = std::max(plan.most_intervals, kind.n_intervals);
      plan.kinds.push_back(std::move(kind));
    }
  }
  return plan;
}

template <class Real>
CenterPlan<Real> make_center(const FusedPlan<Real>& all, int t_i) {
  const EnergyTree& tree = all.tree;
  CenterPlan<Real> plan;
  std::vector<Fold> folds(tree.descriptors.size());
  for (std::size_t k = 0; k < folds.size(); ++k) {
    plan.descriptors.push_back(make_descriptor(all, static_cast<int>(k), t_i, plan.n_x, folds[k]));
    plan.n_x += plan.descriptors.back().n_x;
  }
  for (const CoupleDescriptor& each : tree.couples) {
    plan.couple_x.push_back(plan.n_x);
    plan.n_x += each.width;
  }
  plan.n_extra = tree.dim_fparam + tree.dim_aparam;
  plan.x_stride = padded(plan.n_x + plan.n_extra) + kPad;
  make_fitting(all.kernels.isa, folds, tree, t_i, plan);
  return plan;
}

}  // namespace

template <class Real>
FusedPlan<Real>::FusedPlan(EnergyTree tree_, PairBasis basis_, Isa isa)
    : tree(std::move(tree_)), basis(std::move(basis_)), kernels(isa) {
  for (const QuinticTable<double>& table : basis.tables) tables.push_back(make_table<Real>(table, kernels.lanes));
  for (const PairDescriptor& descriptor : tree.descriptors) rules_of.push_back(number_of_rules(PairRules(tree, descriptor)));
  const QuinticTable<double>* of_couples = basis.couple_tables.data();
  for (const CoupleDescriptor& descriptor : tree.couples) {
    couples.push_back(make_couples<Real>(descriptor, of_couples, kernels.lanes));
    couples.back().rules = number_of_rules(PairRules(tree, descriptor));
    of_couples += descriptor.n_kinds();
  }
  for (int t = 0; t < tree.n_types; ++t) {
    centers.push_back(make_center(*this, t));
    for (const PlanLayer<Real>& layer : centers.back().layers) widest_layer = std::max(widest_layer, layer.n_out);
  }
  basis.tables.clear();
  basis.couple_tables.clear();
  tree.fitting.clear();
}

// Its number among `rules`, where it is put if it is new.
template <class Real>
int FusedPlan<Real>::number_of_rules(const PairRules& own) {
  const auto known = std::find(rules.begin(), rules.end(), own);
  const int number = static_cast<int>(known - rules.begin());
  if (known == rules.end()) rules.push_back(own);
  return number;
}

template <class Real>
std::size_t FusedPlan<Real>::bytes() const {
  std::size_t n = 0;
  for (const CouplePlan<Real>& each : couples) {
    for (const CoupleKind<Real>& kind : each.kinds) n += kind.c.size();
  }
  for (const PlanTable<Real>& table : tables) n += table.c.size();
  for (const CenterPlan<Real>& center : centers) {
    for (const DescriptorPlan<Real>& each : center.descriptors) n += each.map.data.size() + each.map_back.data.size();
    for (const PlanLayer<Real>& layer : center.layers) n += layer.w.data.size() + layer.w_back.data.size();
  }
  return n * sizeof(Real);
}

template struct FusedPlan<float>;
template struct FusedPlan<double>;

}  // namespace deepmd
