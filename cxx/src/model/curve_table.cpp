#include "model/curve_table.hpp"

#include <algorithm>
#include <cmath>

namespace deepmd {
namespace {

constexpr int kDegrees = 6;
constexpr int kPadding = 8;  // channels of a table: a multiple of this many
// Where the error of a Hermite polynomial of degree 5 is largest: that of the value in the middle, that of the slope at
// the zeros of (u^2 (1-u)^2 (1-2u))', u = 1/2 +- sqrt(5)/10.
constexpr double kCheckPoints[] = {0.5 - 0.22360679774997896, 0.5, 0.5 + 0.22360679774997896};
constexpr int kFirstIntervals = 20;
constexpr int kTrials = 12;
constexpr int kBatch = 64;  // points per call of the curve

// Coefficients of one channel by powers of u in [0, 1) from both ends; derivatives are with respect to u.
void hermite(const double* left, const double* right, double* c) {
  const double rise = right[0] - left[0];
  c[0] = left[0];
  c[1] = left[1];
  c[2] = 0.5 * left[2];
  c[3] = 10.0 * rise - 6.0 * left[1] - 4.0 * right[1] - 1.5 * left[2] + 0.5 * right[2];
  c[4] = -15.0 * rise + 8.0 * left[1] + 7.0 * right[1] + 1.5 * left[2] - right[2];
  c[5] = 6.0 * rise - 3.0 * (left[1] + right[1]) - 0.5 * (left[2] - right[2]);
}

struct Samples {
  std::vector<double> e, c, c1, c2;
};

Samples sample(const Curve& curve, std::vector<double> e) {
  Samples s;
  const std::size_t size = e.size() * static_cast<std::size_t>(curve.channels);
  s.c.resize(size), s.c1.resize(size), s.c2.resize(size);
  curve.evaluate(static_cast<int>(e.size()), e.data(), s.c.data(), s.c1.data(), s.c2.data());
  s.e = std::move(e);
  return s;
}

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// Where intervals begin and end.
QuinticTable<double> place_nodes(const Curve& curve, int n_intervals) {
  QuinticTable<double> table;
  table.lo = curve.lo;
  table.hi = curve.hi;
  table.step = (curve.hi - curve.lo) / n_intervals;
  table.n_intervals = n_intervals;
  if (curve.knot <= curve.lo || curve.knot >= curve.hi) return table;
  table.step = (curve.knot - curve.lo) / std::ceil((curve.knot - curve.lo) / table.step);
  table.n_intervals = static_cast<int>(std::ceil((curve.hi - curve.lo) / table.step));
  table.hi = curve.lo + table.n_intervals * table.step;
  return table;
}

}  // namespace

QuinticTable<double> build_table(const Curve& curve, int n_intervals) {
  QuinticTable<double> table = place_nodes(curve, n_intervals);
  n_intervals = table.n_intervals;
  table.channels = curve.channels;
  table.width = (curve.channels + kPadding - 1) / kPadding * kPadding;
  const auto n = static_cast<std::size_t>(n_intervals), channels = static_cast<std::size_t>(curve.channels);
  const auto width = static_cast<std::size_t>(table.width);
  std::vector<double> nodes(n + 1);
  for (std::size_t k = 0; k <= n; ++k) nodes[k] = curve.lo + static_cast<double>(k) * table.step;
  const Samples s = sample(curve, std::move(nodes));
  table.c.assign(n * kDegrees * width, 0.0);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t m = 0; m < channels; ++m) {
      double end[2][3], c[kDegrees];
      for (std::size_t side = 0; side < 2; ++side) {
        const std::size_t at = (k + side) * channels + m;
        end[side][0] = s.c[at];
        end[side][1] = s.c1[at] * table.step;
        end[side][2] = s.c2[at] * table.step * table.step;
      }
      hermite(end[0], end[1], c);
      for (std::size_t d = 0; d < kDegrees; ++d) table.c[(k * kDegrees + d) * width + m] = c[d];
    }
  }
  return table;
}

void look_up(const QuinticTable<double>& table, double e, double* c, double* c1) {
  const double x = (e - table.lo) / table.step;
  const int k = std::min(std::max(static_cast<int>(x), 0), table.n_intervals - 1);
  const double u = x - k;
  const auto width = static_cast<std::size_t>(table.width);
  const double* of_interval = table.c.data() + static_cast<std::size_t>(k) * kDegrees * width;
  for (int m = 0; m < table.channels; ++m) {
    double value = 0, slope = 0;
    for (std::size_t d = kDegrees; d-- > 0;) {
      slope = slope * u + value;
      value = value * u + of_interval[d * width + static_cast<std::size_t>(m)];
    }
    c[m] = value;
    c1[m] = slope / table.step;
  }
}

TableError table_error(const QuinticTable<double>& table, const Curve& curve) {
  TableError worst;
  double largest_value = 1e-300, largest_slope = 1e-300;
  const auto channels = static_cast<std::size_t>(curve.channels);
  std::vector<double> c(channels), c1(channels), points;
  for (int k = 0; k < table.n_intervals; ++k) {
    for (const double u : kCheckPoints) points.push_back(table.lo + (k + u) * table.step);
    if (k + 1 < table.n_intervals && points.size() < kBatch) continue;
    const Samples s = sample(curve, std::move(points));
    points = {};
    largest_value = std::max(largest_value, largest_of(s.c));
    largest_slope = std::max(largest_slope, largest_of(s.c1));
    for (std::size_t p = 0; p < s.e.size(); ++p) {
      look_up(table, s.e[p], c.data(), c1.data());
      for (std::size_t m = 0; m < channels; ++m) {
        worst.value = std::max(worst.value, std::abs(c[m] - s.c[p * channels + m]));
        worst.slope = std::max(worst.slope, std::abs(c1[m] - s.c1[p * channels + m]));
      }
    }
  }
  // a curve that hardly moves is not asked for more digits of its slope than rounding leaves
  return {worst.value / largest_value, worst.slope / std::max(largest_slope, largest_value)};
}

// The error falls with the fifth power of the step (that of the slope) until rounding takes over: each trial tells where
// to look next, and the answer is bracketed between a table that is too coarse and one that is fine enough.
FittedTable fit_table(const Curve& curve, double tolerance, int most_intervals) {
  FittedTable best;
  int too_coarse = 0, n = std::min(kFirstIntervals, most_intervals);
  for (int trial = 0; trial < kTrials; ++trial) {
    QuinticTable<double> table = build_table(curve, n);
    const double error = table_error(table, curve).largest();
    const double wanted = n * std::pow(error / tolerance, 0.2);
    if (error <= tolerance) {
      best = {std::move(table), error};
      if (n <= 1.1 * wanted || n - too_coarse <= 1 + n / 10) break;
      n = std::max(too_coarse + 1, std::min(n - 1, static_cast<int>(1.03 * wanted)));
    } else {
      too_coarse = n;
      const int upper = best.table.n_intervals ? best.table.n_intervals : most_intervals + 1;
      if (upper - too_coarse <= 1 + (best.table.n_intervals ? upper / 10 : 0)) break;
      // a trial too coarse to be in the range where the law holds must not send the next one too far
      const double next = std::min({1.03 * wanted, 6.0 * n, upper - 1.0});
      n = std::max(too_coarse + 1, static_cast<int>(next));
    }
  }
  return best;
}

}  // namespace deepmd
