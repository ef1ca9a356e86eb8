// Plain networks and their tables: derivatives by finite differences, tolerances, borders of intervals.
#include <random>

#include "check.hpp"
#include "core/error.hpp"
#include "model/curve_table.hpp"
#include "model/dense_network.hpp"
#include "model/fused_tables.hpp"

using namespace deepmd;

namespace {

const Activation kAll[] = {Activation::tanh,    Activation::none, Activation::relu, Activation::relu6, Activation::softplus,
                           Activation::sigmoid, Activation::silu, Activation::gelu, Activation::silut};
const Activation kSmooth[] = {Activation::tanh,    Activation::none, Activation::softplus,
                              Activation::sigmoid, Activation::silu, Activation::gelu};

DenseNetwork make_network(const std::vector<int>& widths, Activation activation, bool has_idt, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  DenseNetwork network;
  for (std::size_t k = 0; k + 1 < widths.size(); ++k) {
    DenseLayer layer;
    layer.n_in = widths[k];
    layer.n_out = widths[k + 1];
    layer.activation = activation;
    layer.skip = layer.n_out == layer.n_in ? 1 : layer.n_out == 2 * layer.n_in ? 2 : 0;
    const auto n = static_cast<std::size_t>(layer.n_in) * static_cast<std::size_t>(layer.n_out);
    for (std::size_t i = 0; i < n; ++i) layer.w.push_back(normal(random) / std::sqrt(layer.n_in));
    for (int o = 0; o < layer.n_out; ++o) layer.b.push_back(0.5 * normal(random));
    for (int o = 0; has_idt && layer.skip && o < layer.n_out; ++o) layer.idt.push_back(0.4 + 0.1 * normal(random));
    network.layers.push_back(layer);
  }
  return network;
}

Curve curve_of(const DenseNetwork& network, double lo, double hi) {
  return {network.n_out(), lo, hi, [&network](int n, const double* e, double* c, double* c1, double* c2) {
            evaluate_curve(network, n, e, c, c1, c2);
          }};
}

// A model of two types whose networks are those of make_network; only what the tables need.
EnergyTree make_tree(bool one_side) {
  PairDescriptor made;
  made.cutoff = {4.0, 0.5, 0.0};
  made.n_types = 2;
  made.axis = 2;
  made.width = 12;
  made.one_side = one_side;
  made.sel = {10, 20};
  made.davg_r = {0.1, 0.2};
  made.std_r = {0.3, 0.2};
  made.std_a = {0.3, 0.2};
  made.keep.assign(4, 1);
  for (unsigned k = 0; k < (one_side ? 2u : 4u); ++k) {
    made.embedding.push_back(make_network({1, 6, 12}, Activation::tanh, false, k));
  }
  EnergyTree tree;
  tree.n_types = 2;
  tree.pair_keep.assign(4, 1);
  tree.descriptors.push_back(made);
  return tree;
}

CompressionRecord make_record(const EnergyTree& tree, int rank) {
  CompressionRecord record;
  record.spectral = true;
  record.tolerance = 1e-6;
  record.table_tolerance = 1e-9;
  record.shortest = 0.8;
  for (std::size_t k = 0; k < tree.descriptors[0].embedding.size(); ++k) {
    record.ranks.push_back(rank);
    std::vector<double> basis(static_cast<std::size_t>(rank * tree.descriptors[0].width), 0.0);  // the first channels
    for (int q = 0; q < rank; ++q) basis[static_cast<std::size_t>(q * tree.descriptors[0].width + q)] = 1.0;
    record.basis.push_back(basis);
  }
  return record;
}

}  // namespace

TEST(derivatives_of_networks_are_those_of_their_values) {
  const double h = 1e-4;
  for (const Activation activation : kAll) {
    for (const bool has_idt : {false, true}) {
      const DenseNetwork network = make_network({1, 2, 5, 10, 10}, activation, has_idt, 3);
      std::vector<double> e;
      for (int k = 0; k < 40; ++k) {
        for (const double shift : {-h, 0.0, h}) e.push_back(-3.0 + 0.171 * k + shift);
      }
      const std::size_t width = 10;
      std::vector<double> g(e.size() * width), g1(g.size()), g2(g.size());
      evaluate_curve(network, static_cast<int>(e.size()), e.data(), g.data(), g1.data(), g2.data());
      const bool is_smooth = activation != Activation::relu && activation != Activation::relu6;
      for (std::size_t k = 0; k < 40; ++k) {
        for (std::size_t m = 0; m < width; ++m) {
          const std::size_t left = 3 * k * width + m, at = left + width, right = at + width;
          if (!is_smooth && std::abs(g[right] - 2 * g[at] + g[left]) > 1e-12) continue;  // a kink in between
          CHECK_NEAR((g[right] - g[left]) / (2 * h), g1[at], 1e-6);
          if (activation != Activation::silut) CHECK_NEAR((g1[right] - g1[left]) / (2 * h), g2[at], 1e-6);
        }
      }
    }
  }
}

TEST(values_without_derivatives_are_the_same_and_do_not_depend_on_the_number_of_points) {
  const DenseNetwork network = make_network({1, 4, 8, 16}, Activation::tanh, true, 5);
  std::vector<double> e;
  for (int k = 0; k < 77; ++k) e.push_back(0.1 * k - 2.0);
  std::vector<double> all(e.size() * 16), slopes(all.size()), one(16);
  evaluate_curve(network, 77, e.data(), all.data(), slopes.data(), nullptr);
  for (std::size_t k = 0; k < e.size(); ++k) {
    evaluate_curve(network, 1, &e[k], one.data(), nullptr, nullptr);
    const std::vector<double> plain = evaluate_network(network, {e[k]});
    for (std::size_t m = 0; m < 16; ++m) CHECK(one[m] == all[16 * k + m] && plain[m] == one[m]);
  }
}

TEST(tables_stay_within_their_tolerance_between_the_nodes) {
  std::mt19937 random(1);
  for (const Activation activation : kSmooth) {
    const DenseNetwork network = make_network({1, 5, 10, 20}, activation, true, 9);
    const Curve curve = curve_of(network, -1.3, 7.9);
    for (const double tolerance : {1e-5, 1e-9, 1e-12}) {
      const FittedTable fitted = fit_table(curve, tolerance, 100000);
      CHECK(fitted.table.n_intervals > 0 && fitted.error <= tolerance);
      CHECK(fitted.table.width == 24 && fitted.table.channels == 20);
      std::uniform_real_distribution<double> somewhere(curve.lo, curve.hi);
      double c[20], c1[20], g[20], g1[20], worst = 0, largest[2] = {0, 0}, off[2] = {0, 0};
      for (int k = 0; k < 3000; ++k) {
        const double e = somewhere(random);
        look_up(fitted.table, e, c, c1);
        evaluate_curve(network, 1, &e, g, g1, nullptr);
        for (int m = 0; m < 20; ++m) {
          largest[0] = std::max(largest[0], std::abs(g[m]));
          largest[1] = std::max(largest[1], std::abs(g1[m]));
          off[0] = std::max(off[0], std::abs(c[m] - g[m]));
          off[1] = std::max(off[1], std::abs(c1[m] - g1[m]));
        }
      }
      worst = std::max(off[0] / largest[0], off[1] / std::max(largest[0], largest[1]));
      CHECK(worst <= 1.1 * tolerance + 2e-13);
      if (fitted.table.n_intervals > 40 && tolerance > 1e-12) {  // and it is no finer than it has to be
        CHECK(table_error(build_table(curve, fitted.table.n_intervals * 3 / 4), curve).largest() > tolerance);
      }
    }
  }
}

// Where the third derivative of a curve jumps, a node keeps the error down.
TEST(tables_by_inverse_distance_have_nodes_where_the_switch_begins_and_ends) {
  for (const double protection : {0.0, 0.3}) {
    EnergyTree tree = make_tree(false);
    PairDescriptor& d = tree.descriptors[0];
    d.kind = RowKind::by_inverse;
    d.cutoff.protection = protection;
    d.factors.assign(4, std::vector<double>(12, 0.8));
    for (const double shortest : {0.3, 0.8, 3.9}) {  // below and above the switch's begin
      CompressionRecord record;
      record.tolerance = 1, record.table_tolerance = 1e-10, record.shortest = shortest;
      const QuinticTable<double> table = build_pair_basis(tree, &record).tables[1];
      const double begin = 1.0 / (0.5 + protection), end = 1.0 / (4.0 + protection), far = 1.0 / (std::min(shortest, 3.6) + protection);
      CHECK(table.lo == end && table.hi >= far && table.hi < far + table.step);
      CHECK(begin > far || std::abs((begin - end) / table.step - std::round((begin - end) / table.step)) < 1e-9);
      double c[12], slope[12], g[12], g1[12], before[12], behind[12], g2[12];
      for (double x = end + 1e-4; x < far; x += 0.0137) {
        look_up(table, x, c, slope);
        evaluate_pair_curve(d, 1, 1, &x, g, g1, g2);
        const double left = x - 1e-5, right = x + 1e-5;
        evaluate_pair_curve(d, 1, 1, &left, before, nullptr, nullptr);
        evaluate_pair_curve(d, 1, 1, &right, behind, nullptr, nullptr);
        for (int m = 0; m < 12; ++m) {
          CHECK_NEAR(c[m], g[m], 1e-9);
          CHECK_NEAR((behind[m] - before[m]) / 2e-5, g1[m], 1e-6 * (1 + std::abs(g2[m])));
          CHECK_NEAR((behind[m] - 2 * g[m] + before[m]) / 1e-10, g2[m], 2e-2 * (1 + std::abs(g2[m])));
        }
      }
    }
  }
}

TEST(tables_have_two_continuous_derivatives_across_the_borders_of_intervals) {
  const DenseNetwork network = make_network({1, 8, 16}, Activation::tanh, false, 2);
  const Curve curve = curve_of(network, -0.5, 3.5);
  const QuinticTable<double> table = build_table(curve, 7);  // coarse: jumps would be plain
  const auto width = static_cast<std::size_t>(table.width);
  for (int k = 0; k + 1 < table.n_intervals; ++k) {
    for (std::size_t m = 0; m < 16; ++m) {
      const double* left = table.c.data() + static_cast<std::size_t>(k) * 6 * width + m;
      const double* right = left + 6 * width;
      double end[3] = {0, 0, 0};
      for (std::size_t d = 0; d < 6; ++d) {
        end[0] += left[d * width];
        end[1] += static_cast<double>(d) * left[d * width];
        end[2] += static_cast<double>(d * (d - 1)) * left[d * width];
      }
      CHECK_NEAR(end[0], right[0], 1e-12);
      CHECK_NEAR(end[1], right[width], 1e-12);
      CHECK_NEAR(end[2], 2 * right[2 * width], 1e-11);
    }
  }
  for (std::size_t k = 0; k < table.c.size(); ++k) CHECK(std::isfinite(table.c[k]));
}

TEST(a_curve_with_a_kink_gets_no_table) {
  const DenseNetwork network = make_network({1, 4, 8}, Activation::relu, false, 2);
  const FittedTable fitted = fit_table(curve_of(network, -2.0, 2.0), 1e-9, 5000);
  CHECK(fitted.table.n_intervals == 0);
}

TEST(ranges_go_from_an_empty_slot_to_the_shortest_pair) {
  EnergyTree tree = make_tree(false);
  const ArgumentRange range = argument_range(tree, tree.descriptors[0].network_of(1, 0), 0.8);
  CHECK_NEAR(range.lo, -0.2 / 0.2, 1e-14);
  CHECK_NEAR(range.hi, (raw_row(0.8, tree.descriptors[0].cutoff).s - 0.2) / 0.2, 1e-14);
  tree.descriptors[0].keep[2] = 0;  // (1, 0)
  CHECK(argument_range(tree, tree.descriptors[0].network_of(1, 0), 0.8).hi == argument_range(tree, tree.descriptors[0].network_of(1, 0), 0.8).lo);
  const EnergyTree one_sided = make_tree(true);  // both centres use the network of a neighbour
  CHECK_NEAR(argument_range(one_sided, 0, 0.8).lo, -1.0, 1e-14);
  CHECK_NEAR(argument_range(one_sided, 0, 0.8).hi, (raw_row(0.8, tree.descriptors[0].cutoff).s - 0.2) / 0.2, 1e-14);
}

TEST(a_pair_basis_holds_tables_of_the_networks_or_of_their_projections) {
  for (const bool one_side : {false, true}) {
    EnergyTree tree = make_tree(one_side);
    tree.descriptors[0].keep[1] = tree.descriptors[0].keep[2] = 0;
    const CompressionRecord record = make_record(tree, 3);
    const PairBasis full = build_pair_basis(tree, nullptr), spectral = build_pair_basis(tree, &record);
    CHECK(!full.spectral && full.basis.empty() && full.largest_error <= 1e-12);
    CHECK(spectral.spectral && spectral.basis == record.basis && spectral.largest_error <= 1e-9);
    CHECK(full.tables.size() == tree.descriptors[0].embedding.size() && spectral.tables.size() == tree.descriptors[0].embedding.size());
    for (std::size_t k = 0; k < tree.descriptors[0].embedding.size(); ++k) {
      CHECK(full.ranks[k] == 12 && spectral.ranks[k] == 3 && full.tables[k].n_intervals > 0);
      const ArgumentRange range = argument_range(tree, static_cast<int>(k), 0.8);
      double c[12], p[12], slope[12];
      CHECK(spectral.tables[k].lo <= range.lo && spectral.tables[k].hi >= range.hi);
      for (const double e : {range.lo, 0.3 * range.lo + 0.7 * range.hi, range.hi}) {
        look_up(full.tables[k], e, c, slope);
        look_up(spectral.tables[k], e, p, slope);
        for (int q = 0; q < 3; ++q) CHECK_NEAR(p[q], c[q], 1e-8);
      }
    }
  }
}

TEST(a_record_that_does_not_fit_the_networks_is_refused) {
  const EnergyTree tree = make_tree(true);
  CompressionRecord record = make_record(tree, 3);
  record.ranks[1] = 13;
  CHECK_THROWS(build_pair_basis(tree, &record), Error, "rank 13");
  record = make_record(tree, 3);
  record.basis[0].pop_back();
  CHECK_THROWS(build_pair_basis(tree, &record), Error, "another shape");
  record = make_record(tree, 3);
  record.ranks.pop_back();
  CHECK_THROWS(build_pair_basis(tree, &record), Error, "number of ranks");
}
