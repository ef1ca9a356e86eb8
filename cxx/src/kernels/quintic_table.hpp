#pragma once

#include "core/aligned_vector.hpp"

namespace deepmd {

// A curve in R^channels as polynomials of degree 5 on intervals of equal length: with x = (e - lo) / step, interval
// k = floor(x) and u = x - k in [0, 1), channel m is sum_d c[k][d][m] u^d. Answers for lo <= e < hi only.
template <class Real>
struct QuinticTable {
  double lo = 0, hi = 0, step = 1;
  int n_intervals = 0;
  int width = 0;  // channels, padded to a multiple of 8 with zeros
  int channels = 0;
  aligned_vector<Real> c;  // [n_intervals][6][width]
};

}  // namespace deepmd
