#include "kernels/row_sums.hpp"

#include <algorithm>

namespace deepmd {

template <class Real>
void row_sums(const Real* values, const std::int64_t* index, std::int64_t n_values, std::int64_t n_rows,
              std::int64_t width, Real* total) {
  std::fill(total, total + n_rows * width, Real(0));
  for (std::int64_t k = 0; k < n_values; ++k) {
    const Real* own = values + k * width;
    Real* target = total + index[k] * width;
    for (std::int64_t c = 0; c < width; ++c) target[c] += own[c];
  }
}

template void row_sums(const float*, const std::int64_t*, std::int64_t, std::int64_t, std::int64_t, float*);
template void row_sums(const double*, const std::int64_t*, std::int64_t, std::int64_t, std::int64_t, double*);

}  // namespace deepmd
