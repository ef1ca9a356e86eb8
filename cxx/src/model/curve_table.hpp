#pragma once

#include <functional>
#include <limits>
#include <vector>

#include "kernels/quintic_table.hpp"

namespace deepmd {

// A smooth curve in R^channels on [lo, hi]. Where its third derivative jumps, at a `knot`, intervals have to meet: then a
// table may end a little behind hi.
struct Curve {
  int channels = 0;
  double lo = 0, hi = 0;
  // Values c and derivatives c1, c2 [n][channels] at n points.
  std::function<void(int n, const double* e, double* c, double* c1, double* c2)> evaluate;
  double knot = -std::numeric_limits<double>::infinity();  // between lo and hi, else there is none
};

// Differences of a table to its curve at points between its nodes, relative to the curve's largest value (slope, or
// value where that is larger).
struct TableError {
  double value = 0, slope = 0;

  double largest() const { return value > slope ? value : slope; }
};

// Hermite polynomials of degree 5 on equal intervals: value, slope and curvature of the curve are met at each node, so
// that the table is twice continuously differentiable. With a knot, about as many
// intervals as said.
QuinticTable<double> build_table(const Curve& curve, int n_intervals);

TableError table_error(const QuinticTable<double>& table, const Curve& curve);

// The coarsest table whose error stays within `tolerance` (found to about a tenth of its step), with its error; no
// intervals if more than `most_intervals` would be needed.
struct FittedTable {
  QuinticTable<double> table;
  double error = 0;
};
FittedTable fit_table(const Curve& curve, double tolerance, int most_intervals);

// What a table says at e: values c and slopes c1 [channels]; for tests and measurements, the kernels have their own.
void look_up(const QuinticTable<double>& table, double e, double* c, double* c1);

}  // namespace deepmd
