#include "model/fused_tables.hpp"

#include <algorithm>
#include <limits>
#include <memory>

#include "core/error.hpp"
#include "model/curve_table.hpp"

namespace deepmd {
namespace {

// Relative to the largest value: tables of files that are not compressed. A curve of the inverse distance is made of
// several factors, whose rounding errors a fine table would reproduce; one of the product of two rows has a wide range.
constexpr double kRounding = 1e-12, kRoundingOfProducts = 1e-10;
// Tables of an uncompressed file reach to this share of the shortest pair of the training data, or to this distance
// where that is unknown: closer pairs are answered by the networks.
struct Reach {
  double share, unknown;  // of the shortest pair; in Angstrom
};
constexpr Reach kReach = {0.5, 0.5};
constexpr Reach kReachOfCouples = {0.8, 0.8};  // as the range grows with the inverse square
constexpr double kMargin = 1e-6;      // of the range, at both ends, for arguments that are off by rounding
constexpr double kShortestRange = 0.1;  // of a table: on less, rounding would spoil the slopes
constexpr double kLongestReach = 0.9;   // of the cutoff, for tables by inverse distance
constexpr double kMostBytes = 512.0 * 1024 * 1024;  // of all tables

// c = G V^T for points of one curve; `basis` [rank][width], null: c = G.
Curve make_curve(const PairDescriptor& descriptor, int network, const std::vector<double>* basis, int rank) {
  Curve curve;
  curve.channels = rank;
  if (!basis) {
    curve.evaluate = [&descriptor, network](int n, const double* e, double* c, double* c1, double* c2) {
      evaluate_pair_curve(descriptor, network, n, e, c, c1, c2);
    };
    return curve;
  }
  curve.evaluate = [&descriptor, network, basis, rank](int n, const double* e, double* c, double* c1, double* c2) {
    const auto width = static_cast<std::size_t>(descriptor.width);
    std::vector<double> g[3];
    for (auto& values : g) values.resize(static_cast<std::size_t>(n) * width);
    evaluate_pair_curve(descriptor, network, n, e, g[0].data(), g[1].data(), g[2].data());
    double* const projected[3] = {c, c1, c2};
    for (int d = 0; d < 3; ++d) {
      for (std::size_t p = 0; p < static_cast<std::size_t>(n); ++p) {
        for (std::size_t q = 0; q < static_cast<std::size_t>(rank); ++q) {
          double sum = 0;
          for (std::size_t m = 0; m < width; ++m) sum += (*basis)[q * width + m] * g[d][p * width + m];
          projected[d][p * static_cast<std::size_t>(rank) + q] = sum;
        }
      }
    }
  };
  return curve;
}

const PairDescriptor& descriptor_of(const EnergyTree& tree, int network) {
  return tree.descriptors[static_cast<std::size_t>(tree.curve(network).descriptor)];
}

void check_record(const EnergyTree& tree, const CompressionRecord& record) {
  const auto fail = [](const std::string& reason) {
    throw Error(DEEPMD_ERROR_FORMAT, "has a compression record that does not fit its networks: " + reason +
                                         "; compress the model anew");
  };
  if (!record.spectral) return;
  if (record.ranks.size() != static_cast<std::size_t>(tree.n_networks())) fail("another number of ranks");
  for (std::size_t k = 0; k < record.ranks.size(); ++k) {
    const int rank = record.ranks[k], width = descriptor_of(tree, static_cast<int>(k)).width;
    if (rank < 1 || rank > width) fail(text("rank ", rank, " for networks of ", width, " outputs"));
    if (record.basis[k].size() != static_cast<std::size_t>(rank) * static_cast<std::size_t>(width)) {
      fail("a basis of another shape");
    }
  }
}

double shortest_of(const EnergyTree& tree, const CompressionRecord* record, Reach reach) {
  if (record) return record->shortest;
  return tree.min_pair_distance > 0 ? reach.share * tree.min_pair_distance : reach.unknown;
}

bool has_products(const EnergyTree& tree) {
  return !tree.couples.empty() || std::any_of(tree.descriptors.begin(), tree.descriptors.end(),
                     [](const PairDescriptor& each) { return each.kind == RowKind::by_inverse; });
}

std::string describe(const EnergyTree& tree, const CompressionRecord* record) {
  if (!record) return text("table to rounding (", has_products(tree) ? kRoundingOfProducts : kRounding, ")");
  if (!record->spectral || record->ranks.empty()) return text("exact table to ", record->tolerance, " eV/A");
  const auto range = std::minmax_element(record->ranks.begin(), record->ranks.end());
  const std::string ranks =
      *range.first == *range.second ? text(*range.first) : text(*range.first, "-", *range.second);
  std::string widths;
  for (const PairDescriptor& descriptor : tree.descriptors) widths += text(widths.empty() ? "" : " and ", descriptor.width);
  return text("spectral basis of ", ranks, " of ", widths, " to ", record->tolerance, " eV/A");
}

void place_curve(const PairDescriptor& descriptor, const ArgumentRange& range, Curve& curve) {
  const double hi = std::max(range.hi, range.lo + kShortestRange), margin = kMargin * (hi - range.lo);
  curve.lo = range.lo - margin;
  curve.hi = hi + margin;
  if (descriptor.kind != RowKind::by_inverse) return;
  curve.lo = range.lo;  // the cutoff, another jump of the third derivative
  curve.hi = range.hi + margin;
  curve.knot = argument_of(descriptor, 0, 0.0, descriptor.cutoff.rcut_smth);
}

// Most bytes for a table of this model.
double share_of_bytes(const EnergyTree& tree) {
  int n = tree.n_networks();
  for (const CoupleDescriptor& each : tree.couples) n += each.n_kinds();
  return kMostBytes / n;
}

QuinticTable<double> table_of(const EnergyTree& tree, const Curve& curve, double tolerance, PairBasis& made) {
  const double most = share_of_bytes(tree) / (6.0 * sizeof(double) * (curve.channels + 7));
  FittedTable fitted = fit_table(curve, tolerance, static_cast<int>(std::min(most, 1e6)));
  if (fitted.table.n_intervals == 0) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text("needs tables of more than ", share_of_bytes(tree) / 1048576.0,
                                               " MiB for each embedding network to reach ", tolerance));
  }
  made.largest_error = std::max(made.largest_error, fitted.error);
  return std::move(fitted.table);
}

// Tables of all kinds of a descriptor of couples, empty ones for kinds that do not count.
void add_couple_tables(const EnergyTree& tree, const CoupleDescriptor& descriptor, const CompressionRecord* record,
                       PairBasis& made) {
  const double tolerance = std::max(record ? record->table_tolerance : 0.0, kRoundingOfProducts);
  const double bound = std::max(descriptor.largest_product(shortest_of(tree, record, kReachOfCouples)), kShortestRange);
  for (int b = 0; b < descriptor.n_types; ++b) {
    for (int a = 0; a <= b; ++a) {
      made.couple_tables.emplace_back();
      if (descriptor.scale(a, b) == 0.0) continue;
      const DenseNetwork& network = descriptor.embedding[static_cast<std::size_t>(CoupleDescriptor::kind_of(a, b))];
      Curve curve;
      curve.channels = descriptor.width;
      curve.lo = -(1.0 + kMargin) * bound, curve.hi = (1.0 + kMargin) * bound;
      curve.evaluate = [&network](int n, const double* e, double* c, double* c1, double* c2) {
        evaluate_curve(network, n, e, c, c1, c2);
      };
      made.couple_tables.back() = table_of(tree, curve, tolerance, made);
    }
  }
}

}  // namespace

ArgumentRange argument_range(const EnergyTree& tree, int network, double shortest) {
  const NumberedCurve curve = tree.curve(network);
  const PairDescriptor& descriptor = tree.descriptors[static_cast<std::size_t>(curve.descriptor)];
  const double rcut = descriptor.cutoff.rcut;
  if (descriptor.kind == RowKind::by_inverse) {
    return {argument_of(descriptor, 0, 0.0, rcut), argument_of(descriptor, 0, 0.0, std::min(shortest, kLongestReach * rcut))};
  }
  ArgumentRange range{std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest()};
  const double largest_s = raw_row(std::min(shortest, rcut), descriptor.cutoff).s;
  for (int t_i = 0; t_i < tree.n_types; ++t_i) {
    for (int t_j = 0; t_j < tree.n_types; ++t_j) {
      const auto pair = static_cast<std::size_t>(t_i * tree.n_types + t_j);
      if (descriptor.network_of(t_i, t_j) != curve.network) continue;
      const bool has_pairs = descriptor.keep[pair] && tree.pair_keep[pair];  // else there are empty slots only
      const double empty = descriptor.empty_row(t_i);
      range.lo = std::min(range.lo, empty);
      range.hi = std::max(range.hi, has_pairs ? argument_of(descriptor, t_i, largest_s, shortest) : empty);
      if (descriptor.kind == RowKind::radial && !descriptor.keep[pair]) {  // excluded neighbours have the row zero
        range.lo = std::min(range.lo, 0.0);
        range.hi = std::max(range.hi, 0.0);
      }
    }
  }
  return range;
}

PairBasis build_pair_basis(const EnergyTree& tree, const CompressionRecord* record) {
  PairBasis made;
  if (record) check_record(tree, *record);
  made.spectral = record && record->spectral;
  const auto n_networks = static_cast<std::size_t>(tree.n_networks());
  made.tables.resize(n_networks);
  for (std::size_t k = 0; k < n_networks; ++k) {
    const PairDescriptor& descriptor = descriptor_of(tree, static_cast<int>(k));
    made.ranks.push_back(made.spectral ? record->ranks[k] : descriptor.width);
    const ArgumentRange range = argument_range(tree, static_cast<int>(k), shortest_of(tree, record, kReach));
    Curve curve = make_curve(descriptor, tree.curve(static_cast<int>(k)).network,
                             made.spectral ? &record->basis[k] : nullptr, made.ranks[k]);
    place_curve(descriptor, range, curve);
    const double finest = descriptor.kind == RowKind::by_inverse ? kRoundingOfProducts : 0.0;
    const double tolerance = std::max(record ? record->table_tolerance : kRounding, finest);
    made.tables[k] = table_of(tree, curve, tolerance, made);
  }
  for (const CoupleDescriptor& descriptor : tree.couples) add_couple_tables(tree, descriptor, record, made);
  if (made.spectral) made.basis = record->basis;
  made.description = describe(tree, record);
  return made;
}

}  // namespace deepmd
