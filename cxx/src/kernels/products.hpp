#pragma once

#include "kernels/variants.hpp"

namespace deepmd {

// Inputs of the fitting network of one centre: x holds sum_b t[b][a] t[b][q] for a < axis and a <= q < n, row after row.
// The products with q < a are the same numbers, so the first layer's weights are added up instead.
template <class Real>
struct Products {
  int n = 0, axis = 0;
  const Real* t = nullptr;  // [4][stride], zero from n to the next multiple of kPad
  int stride = 0;
  Real* x = nullptr;        // [n_products(n, axis) + kPad]
};
constexpr int n_products(int n, int axis) { return axis * n - axis * (axis - 1) / 2; }

// From g_x = dE/dx to g_t = dE/dt [4][stride].
template <class Real>
struct ProductsBackward {
  Products<Real> forward;
  const Real* g_x = nullptr;
  Real* g_t = nullptr;
  Real* spread = nullptr;  // [axis][padded(n)], to work on
};

template <class Real>
Kernel<Products<Real>> choose_products(Isa isa);
template <class Real>
Kernel<ProductsBackward<Real>> choose_products_backward(Isa isa);

}  // namespace deepmd
