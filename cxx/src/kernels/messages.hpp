// What pairs and couples of pairs tell each other in training: rows with two ends, each with one and two ways back.
#pragma once

#include <cstdint>

#include "kernels/curves.hpp"

namespace deepmd {

// n rows of `width` numbers; row k has the ends first[k] of n_first and second[k] of n_second.
struct Messages {
  std::int64_t n = 0, width = 0, n_first = 0, n_second = 0;
  const std::int64_t *first = nullptr, *second = nullptr;
};

// x = own + p[first] + q[second], y = f(x). x may be null where y is the state of the curve.
template <class Real>
void message_values(const Curve& curve, const Messages& m, const Real* own, const Real* p, const Real* q, Real* x,
                    Real* y);

// d_x = f' d and its sums over each end.
template <class Real>
void message_slopes(const Curve& curve, const Messages& m, const Real* state, const Real* d, Real* d_x, Real* d_p,
                    Real* d_q);

// Cotangents of the three results of `message_slopes`.
template <class Real>
struct MessageTangent {
  const Real *x, *p, *q;
};

// With u = t.x + t.p[first] + t.q[second]: d_d = f' u, and d_x = f'' d u with its sums.
template <class Real>
void message_bends(const Curve& curve, const Messages& m, const Real* state, const Real* d,
                   const MessageTangent<Real>& t, Real* d_d, Real* d_x, Real* d_p, Real* d_q);

// The form sum_k sum_ac d[first[k]][a][c] h[k][a] g[second[k]][c], a < n_rows <= 4, c < width, and its derivative by
// each of the three. second may be null: then it is k.
template <class Real>
void form_by_sums(const Messages& m, int n_rows, const Real* h, const Real* g, Real* d);
template <class Real>
void form_by_rows(const Messages& m, int n_rows, const Real* d, const Real* g, Real* h);
template <class Real>
void form_by_values(const Messages& m, int n_rows, const Real* d, const Real* h, Real* g);

// The form sum_k sum_c u[first[k]][c] a[k][c] b[second[k]][c], and its derivative by each of the three.
template <class Real>
void product_by_first(const Messages& m, const Real* a, const Real* b, Real* u);
template <class Real>
void product_by_row(const Messages& m, const Real* u, const Real* b, Real* a);
template <class Real>
void product_by_second(const Messages& m, const Real* u, const Real* a, Real* b);

}  // namespace deepmd
