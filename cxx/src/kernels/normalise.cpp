#include "kernels/normalise.hpp"

#include <cmath>

#include "kernels/lanes.hpp"
#include "kernels/parts.hpp"

namespace deepmd {
namespace {

template <class Real>
DEEPMD_INLINE double sum_of(const Real* a, std::int64_t n) {
  double sums[kLanes] = {}, sum = 0;
  std::int64_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    for (int l = 0; l < kLanes; ++l) sums[l] += a[c + l];
  }
  for (; c < n; ++c) sum += a[c];
  for (int l = 0; l < kLanes; ++l) sum += sums[l];
  return sum;
}

template <class Real>
DEEPMD_INLINE double dot_of(const Real* a, const Real* b, std::int64_t n) {
  double sums[kLanes] = {}, sum = 0;
  std::int64_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    for (int l = 0; l < kLanes; ++l) sums[l] += static_cast<double>(a[c + l]) * b[c + l];
  }
  for (; c < n; ++c) sum += static_cast<double>(a[c]) * b[c];
  for (int l = 0; l < kLanes; ++l) sum += sums[l];
  return sum;
}

template <class Real>
DEEPMD_INLINE void values_body(const Normalise& rows, const Real* x, Real* y, Real* inverse) {
  const std::int64_t n = rows.width;
  for (std::int64_t k = 0; k < rows.n; ++k) {
    const Real* from = x + k * n;
    Real* __restrict to = y + k * n;
    const double mean = rows.centred ? sum_of(from, n) / n : 0.0;
    for (std::int64_t c = 0; c < n; ++c) to[c] = static_cast<Real>(from[c] - mean);
    const double square = dot_of(to, to, n);
    const double s = rows.centred ? std::sqrt(square / n + rows.eps) : std::fmax(std::sqrt(square), rows.eps);
    const double factor = square == square ? 1.0 / s : square;  // not a number stays what it is
    for (std::int64_t c = 0; c < n; ++c) to[c] = static_cast<Real>(to[c] * factor);
    inverse[k] = static_cast<Real>(factor);
  }
}

// to = (d - mean d - a y (y . d)) / s, mean only where centred
template <class Real>
DEEPMD_INLINE void slope_of(const Normalise& rows, const Real* y, double inverse, const Real* d, Real* __restrict to) {
  const std::int64_t n = rows.width;
  const double a = rows.centred ? 1.0 / n : 1.0, mean = rows.centred ? sum_of(d, n) / n : 0.0;
  const double along = a * dot_of(y, d, n);
  for (std::int64_t c = 0; c < n; ++c) to[c] = static_cast<Real>((d[c] - mean - y[c] * along) * inverse);
}

template <class Real>
DEEPMD_INLINE void slopes_body(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, Real* out) {
  const std::int64_t n = rows.width;
  for (std::int64_t k = 0; k < rows.n; ++k) slope_of(rows, y + k * n, inverse[k], d + k * n, out + k * n);
}

// With Pu and Pd for u and d: sum u J d = S = [Pu . Pd - a (y . u) (y . d)] / s, where y . Pu = y . u. By y and by s,
// as dy = J dx and ds = a y dx:  d_x = J [-a ((y . d) u + (y . u) d) / s] - a (S / s) y.
template <class Real>
DEEPMD_INLINE void bends_body(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, const Real* u,
                              Real* d_d, Real* d_x) {
  const std::int64_t n = rows.width;
  const double a = rows.centred ? 1.0 / n : 1.0;
  for (std::int64_t k = 0; k < rows.n; ++k) {
    const Real *own = y + k * n, *left = u + k * n, *right = d + k * n;
    Real *__restrict first = d_d + k * n, *__restrict second = d_x + k * n;
    const double i = inverse[k], yd = dot_of(own, right, n), yu = dot_of(own, left, n);
    const double means = rows.centred ? sum_of(left, n) * sum_of(right, n) / n : 0.0;
    const double form = (dot_of(left, right, n) - means - a * yu * yd) * i;
    slope_of(rows, own, i, left, first);
    for (std::int64_t c = 0; c < n; ++c) second[c] = static_cast<Real>(-a * i * (yd * left[c] + yu * right[c]));
    const double mean = rows.centred ? sum_of(static_cast<const Real*>(second), n) / n : 0.0;
    const double along = a * dot_of(own, static_cast<const Real*>(second), n) + a * form;
    for (std::int64_t c = 0; c < n; ++c) second[c] = static_cast<Real>((second[c] - mean - own[c] * along) * i);
  }
}

#define DEEPMD_NORMALISE(Real)                                                                                   \
  DEEPMD_CLONES void values_of(const Normalise& rows, const Real* x, Real* y, Real* inverse) {                   \
    values_body(rows, x, y, inverse);                                                                            \
  }                                                                                                              \
  DEEPMD_CLONES void slopes_of(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, Real* out) { \
    slopes_body(rows, y, inverse, d, out);                                                                       \
  }                                                                                                              \
  DEEPMD_CLONES void bends_of(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, const Real* u, \
                              Real* d_d, Real* d_x) {                                                            \
    bends_body(rows, y, inverse, d, u, d_d, d_x);                                                                \
  }
DEEPMD_NORMALISE(double)
DEEPMD_NORMALISE(float)

constexpr std::int64_t kLeast = 256;  // rows for a thread

Normalise some_rows(const Normalise& rows, std::int64_t n) { return {n, rows.width, rows.centred, rows.eps}; }

}  // namespace

template <class Real>
void normalise_values(const Normalise& rows, const Real* x, Real* y, Real* inverse) {
  in_parts(rows.n, kLeast, [=](std::int64_t a, std::int64_t b) {
    const std::int64_t at = a * rows.width;
    values_of(some_rows(rows, b - a), x + at, y + at, inverse + a);
  });
}

template <class Real>
void normalise_slopes(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, Real* out) {
  in_parts(rows.n, kLeast, [=](std::int64_t a, std::int64_t b) {
    const std::int64_t at = a * rows.width;
    slopes_of(some_rows(rows, b - a), y + at, inverse + a, d + at, out + at);
  });
}

template <class Real>
void normalise_bends(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, const Real* u, Real* d_d,
                     Real* d_x) {
  in_parts(rows.n, kLeast, [=](std::int64_t a, std::int64_t b) {
    const std::int64_t at = a * rows.width;
    bends_of(some_rows(rows, b - a), y + at, inverse + a, d + at, u + at, d_d + at, d_x + at);
  });
}

#define DEEPMD_INSTANCES(Real)                                                                               \
  template void normalise_values(const Normalise&, const Real*, Real*, Real*);                               \
  template void normalise_slopes(const Normalise&, const Real*, const Real*, const Real*, Real*);            \
  template void normalise_bends(const Normalise&, const Real*, const Real*, const Real*, const Real*, Real*, Real*);
DEEPMD_INSTANCES(double)
DEEPMD_INSTANCES(float)

}  // namespace deepmd
