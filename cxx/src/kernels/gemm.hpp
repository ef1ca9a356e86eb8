#pragma once

#include "core/aligned_vector.hpp"
#include "kernels/variants.hpp"

namespace deepmd {

// Leading dimensions of kernel buffers are multiples of this many elements, so that whole vectors may be stored.
constexpr int kPad = 16;
constexpr int padded(int n) { return (n + kPad - 1) / kPad * kPad; }

// A constant matrix w [k][n], laid out once for products a w: panels of three vectors (the last one of one to three),
// each [k][panel width], filled up with zeros.
template <class Real>
struct PackedMatrix {
  int k = 0, n = 0;
  int lanes = 1;
  aligned_vector<Real> data;

  int n_vectors() const { return (n + lanes - 1) / lanes; }
};

// element(i, j) = w[i * row_stride + j * column_stride]
template <class Real>
PackedMatrix<Real> pack(Isa isa, int k, int n, const double* w, int row_stride, int column_stride);

// Back to [k][n].
template <class Real>
std::vector<Real> unpack(const PackedMatrix<Real>& packed);

// c [m][ldc] = a [m][lda] w, plus bias [n] in each row, plus what c holds if `add`. Columns up to the next multiple of
// kPad may be written too (to zero, or to the padding of bias). A row's result does not depend on the other rows.
template <class Real>
struct Gemm {
  int m = 0;
  const PackedMatrix<Real>* w = nullptr;
  const Real* a = nullptr;
  int lda = 0;
  Real* c = nullptr;
  int ldc = 0;
  const Real* bias = nullptr;  // [padded(n)] or null
  bool add = false;
};

template <class Real>
Kernel<Gemm<Real>> choose_gemm(Isa isa);

}  // namespace deepmd
