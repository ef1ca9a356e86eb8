// Rows of unit length, or of zero mean and unit variance, with the ways back that training needs.
#pragma once

#include <cstdint>

namespace deepmd {

// y = P x / s. Centred: P takes the mean away and s^2 = mean (P x)^2 + eps; else P = 1 and s = max(|x|, eps).
struct Normalise {
  std::int64_t n = 0, width = 0;
  bool centred = false;
  double eps = 0;
};

// y and, for the ways back, 1 / s of each row.
template <class Real>
void normalise_values(const Normalise& rows, const Real* x, Real* y, Real* inverse);

// out = J d with J = dy/dx = P (1 - a y y^T) P / s, a = 1 / width or 1.
template <class Real>
void normalise_slopes(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, Real* out);

// The derivatives of sum u J d: d_d = J u, and d_x.
template <class Real>
void normalise_bends(const Normalise& rows, const Real* y, const Real* inverse, const Real* d, const Real* u, Real* d_d,
                     Real* d_x);

}  // namespace deepmd
