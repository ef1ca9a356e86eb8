#include "kernels/gemm.hpp"

#include <algorithm>

#include "kernels/vector.hpp"

namespace deepmd {
namespace {

constexpr int kPanel = 3;             // vectors in a panel
constexpr int kPanelBytes = 24 << 10;  // of a panel between two visits to c: what stays in the first-level cache

// A tile of kRows rows and kVectors vectors: its sums stay in registers while k runs.
template <class V, int kRows, int kVectors, class Real>
DEEPMD_INLINE void tile(const Gemm<Real>& g, int row, int column, int k0, int k1, const Real* w) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  V sum[kRows][kVectors];
  Real* c = g.c + static_cast<std::ptrdiff_t>(row) * g.ldc + column;
  const bool add = g.add || k0 > 0;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[i][v] = add ? load<V>(c + static_cast<std::ptrdiff_t>(i) * g.ldc + v * kLanes) : V{};
  }
  if (k0 == 0 && g.bias) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[i][v] += load<V>(g.bias + column + v * kLanes);
    }
  }
  const Real* a = g.a + static_cast<std::ptrdiff_t>(row) * g.lda;
  const std::ptrdiff_t lda = g.lda;
  for (int k = k0; k < k1; ++k, w += kVectors * kLanes) {
    V factor[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) factor[v] = load<V>(w + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Real x = a[i * lda + k];
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[i][v] += factor[v] * x;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) store(c + static_cast<std::ptrdiff_t>(i) * g.ldc + v * kLanes, sum[i][v]);
  }
}

template <class V, int kMost, int kVectors, class Real>
DEEPMD_INLINE void panel(const Gemm<Real>& g, int column, int k0, int k1, const Real* w) {
  int row = 0;
  for (; row + kMost <= g.m; row += kMost) tile<V, kMost, kVectors>(g, row, column, k0, k1, w);
  if constexpr (kMost == 8) {
    if (row + 4 <= g.m) tile<V, 4, kVectors>(g, row, column, k0, k1, w), row += 4;
  }
  if (row + 2 <= g.m) tile<V, 2, kVectors>(g, row, column, k0, k1, w), row += 2;
  if (row < g.m) tile<V, 1, kVectors>(g, row, column, k0, k1, w);
}

template <class Width, class Real>
DEEPMD_INLINE void gemm_body(const Gemm<Real>& g) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  constexpr int kRows = Width::kRegisters == 32 ? 8 : 4;
  const int k = g.w->k, n_vectors = g.w->n_vectors();
  const int n_parts = std::max(1, (k * kPanel * Width::kBytes + kPanelBytes - 1) / kPanelBytes);
  for (int part = 0; part < n_parts; ++part) {
    const int k0 = static_cast<int>(static_cast<std::int64_t>(k) * part / n_parts);
    const int k1 = static_cast<int>(static_cast<std::int64_t>(k) * (part + 1) / n_parts);
    for (int v = 0; v < n_vectors; v += kPanel) {
      const int in_panel = n_vectors - v < kPanel ? n_vectors - v : kPanel;
      const Real* w = g.w->data.data() + (static_cast<std::ptrdiff_t>(v) * k + static_cast<std::ptrdiff_t>(k0) * in_panel) * kLanes;
      if (in_panel == 3) panel<V, kRows, 3>(g, v * kLanes, k0, k1, w);
      if (in_panel == 2) panel<V, kRows, 2>(g, v * kLanes, k0, k1, w);
      if (in_panel == 1) panel<V, kRows, 1>(g, v * kLanes, k0, k1, w);
    }
  }
}

}  // namespace

DEEPMD_VARIANTS(gemm, Gemm)

template <class Real>
PackedMatrix<Real> pack(Isa isa, int k, int n, const double* w, int row_stride, int column_stride) {
  PackedMatrix<Real> packed;
  packed.k = k;
  packed.n = n;
  packed.lanes = vector_bytes(isa) / static_cast<int>(sizeof(Real));
  const int width = packed.n_vectors() * packed.lanes, panel = kPanel * packed.lanes;
  packed.data.assign(static_cast<std::size_t>(k) * width, Real(0));
  Real* to = packed.data.data();
  for (int column = 0; column < width; column += panel) {
    const int in_panel = std::min(panel, width - column);
    for (int i = 0; i < k; ++i, to += in_panel) {
      for (int j = 0; j < std::min(in_panel, n - column); ++j) {
        to[j] = static_cast<Real>(w[static_cast<std::ptrdiff_t>(i) * row_stride +
                                    static_cast<std::ptrdiff_t>(column + j) * column_stride]);
      }
    }
  }
  return packed;
}

template <class Real>
std::vector<Real> unpack(const PackedMatrix<Real>& packed) {
  const int width = packed.n_vectors() * packed.lanes, panel = kPanel * packed.lanes;
  std::vector<Real> w(static_cast<std::size_t>(packed.k) * packed.n);
  const Real* from = packed.data.data();
  for (int column = 0; column < width; column += panel) {
    const int in_panel = std::min(panel, width - column);
    for (int i = 0; i < packed.k; ++i, from += in_panel) {
      const int n = std::min(in_panel, packed.n - column);
      std::copy_n(from, n, w.begin() + static_cast<std::ptrdiff_t>(i) * packed.n + column);
    }
  }
  return w;
}

template std::vector<float> unpack(const PackedMatrix<float>&);
template std::vector<double> unpack(const PackedMatrix<double>&);
template PackedMatrix<float> pack(Isa, int, int, const double*, int, int);
template PackedMatrix<double> pack(Isa, int, int, const double*, int, int);

}  // namespace deepmd
