// Activation functions with two derivatives on flat arrays, for training. Each takes what `curve_values` leaves: the
// value of tanh, the argument of the others.
#pragma once

#include <cstdint>

#include "kernels/activation_kind.hpp"

namespace deepmd {

struct Curve {
  Activation kind = Activation::tanh;  // tanh, sigmoid, silu, gelu or silut
  double threshold = 3.0;              // of silut
};

// y = f(x). The first of each pair runs as one part of a call that has threads already.
template <class Real>
void curve_values_here(const Curve& curve, std::int64_t n, const Real* x, Real* y);
template <class Real>
void curve_values(const Curve& curve, std::int64_t n, const Real* x, Real* y);

// out = f' d
template <class Real>
void curve_slopes_here(const Curve& curve, std::int64_t n, const Real* state, const Real* d, Real* out);
template <class Real>
void curve_slopes(const Curve& curve, std::int64_t n, const Real* state, const Real* d, Real* out);

// d_d = f' u, d_x = f'' d u: the derivatives of sum u f' d.
template <class Real>
void curve_bends_here(const Curve& curve, std::int64_t n, const Real* state, const Real* d, const Real* u, Real* d_d,
                      Real* d_x);
template <class Real>
void curve_bends(const Curve& curve, std::int64_t n, const Real* state, const Real* d, const Real* u, Real* d_d,
                 Real* d_x);

}  // namespace deepmd
