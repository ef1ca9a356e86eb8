#include "kernels/products.hpp"

#include <algorithm>

#include "core/aligned_vector.hpp"
#include "kernels/gemm.hpp"
#include "kernels/vector.hpp"

namespace deepmd {
namespace {

template <class Width, class Real>
DEEPMD_INLINE void products_body(const Products<Real>& p) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  const std::ptrdiff_t stride = p.stride;
  Real* x = p.x;
  for (int a = 0; a < p.axis; ++a) {
    const Real* t = p.t + a;
    const Real t0 = t[0], t1 = t[stride], t2 = t[2 * stride], t3 = t[3 * stride];
    const int n = p.n - a;
    // What is written behind the row's end is overwritten by the next row.
    for (int q = 0; q < n; q += kLanes) {
      store(x + q, load<V>(t + q) * t0 + load<V>(t + stride + q) * t1 + load<V>(t + 2 * stride + q) * t2 +
                       load<V>(t + 3 * stride + q) * t3);
    }
    x += n;
  }
}

// Rows of g_x on [axis][stride]: zero for q < a and from n on.
template <class Real>
DEEPMD_INLINE void spread_rows(const ProductsBackward<Real>& p, int stride) {
  const Real* from = p.g_x;
  for (int a = 0; a < p.forward.axis; ++a) {
    Real* to = p.spread + static_cast<std::ptrdiff_t>(a) * stride;
    for (int q = 0; q < a; ++q) to[q] = 0;
    for (int q = a; q < p.forward.n; ++q) to[q] = *from++;
    for (int q = p.forward.n; q < stride; ++q) to[q] = 0;
  }
}

template <class Width, class Real>
DEEPMD_INLINE void products_backward_body(const ProductsBackward<Real>& args) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  const ProductsBackward<Real> p = args;
  const int n = p.forward.n, axis = p.forward.axis, width = padded(n);
  const std::ptrdiff_t stride = p.forward.stride;
  const Real* t = p.forward.t;
  spread_rows(p, width);
  for (int q = 0; q < n; q += kLanes) {  // g_t[b][q] = sum_a g_x[a][q] t[b][a]
    V g0 = {}, g1 = {}, g2 = {}, g3 = {};
    const int end = axis < q + kLanes ? axis : q + kLanes;
    for (int a = 0; a < end; ++a) {
      const V g = load<V>(p.spread + static_cast<std::ptrdiff_t>(a) * width + q);
      g0 += g * t[a];
      g1 += g * t[stride + a];
      g2 += g * t[2 * stride + a];
      g3 += g * t[3 * stride + a];
    }
    store(p.g_t + q, g0), store(p.g_t + stride + q, g1);
    store(p.g_t + 2 * stride + q, g2), store(p.g_t + 3 * stride + q, g3);
  }
  alignas(kAlignment) V rows[4 * kLanes];
  for (int first = 0; first < axis; first += kLanes) {  // g_t[b][a] += sum_q g_x[a][q] t[b][q]
    for (int l = 0; l < kLanes; ++l) {
      V g0 = {}, g1 = {}, g2 = {}, g3 = {};
      const int a = first + l;
      const Real* spread = p.spread + static_cast<std::ptrdiff_t>(a) * width;
      for (int q = first; a < axis && q < n; q += kLanes) {
        const V g = load<V>(spread + q);
        g0 += g * load<V>(t + q);
        g1 += g * load<V>(t + stride + q);
        g2 += g * load<V>(t + 2 * stride + q);
        g3 += g * load<V>(t + 3 * stride + q);
      }
      rows[l] = g0, rows[kLanes + l] = g1, rows[2 * kLanes + l] = g2, rows[3 * kLanes + l] = g3;
    }
#pragma GCC unroll 4
    for (int b = 0; b < 4; ++b) {
      Real* to = p.g_t + b * stride + first;
      store(to, load<V>(to) + sums_of_rows<V, kLanes>(rows + b * kLanes));
    }
  }
}

}  // namespace

DEEPMD_VARIANTS(products, Products)
DEEPMD_VARIANTS(products_backward, ProductsBackward)

}  // namespace deepmd
