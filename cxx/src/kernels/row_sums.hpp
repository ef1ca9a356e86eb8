// Sums of rows that share an index, for training: the adjoint of taking rows by an index.
#pragma once

#include <cstdint>

namespace deepmd {

// total[index[k]] += values[k] for rows of `width` numbers, in the order of k; n_rows rows of total, which start at 0.
template <class Real>
void row_sums(const Real* values, const std::int64_t* index, std::int64_t n_values, std::int64_t n_rows,
              std::int64_t width, Real* total);

}  // namespace deepmd
