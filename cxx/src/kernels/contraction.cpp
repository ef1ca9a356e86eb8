#include "kernels/contraction.hpp"

#include <cstddef>

#include "core/aligned_vector.hpp"
#include "kernels/gemm.hpp"
#include "kernels/vector.hpp"

namespace deepmd {
namespace {

constexpr int kDegree = 5;

// kVectors vectors of channels: their kRows sums stay in registers over all neighbours.
template <class V, int kRows, int kVectors, class Real>
DEEPMD_INLINE void contract_channels(const Contract<Real>& a, int channel) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  V sum[kRows][kVectors] = {};
  const int n = a.rows.n;
  const std::ptrdiff_t width = a.width;
  for (int k = 0; k < n; ++k) {
    const Real* c = a.table + a.rows.offset[k] + channel;
    const Real u = a.rows.u[k];
    Real row[kRows];
#pragma GCC unroll 4
    for (int b = 0; b < kRows; ++b) row[b] = a.rows.row[b][k];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      V value = load<V>(c + kDegree * width + v * kLanes);
#pragma GCC unroll 5
      for (int d = kDegree - 1; d >= 0; --d) value = value * u + load<V>(c + d * width + v * kLanes);
#pragma GCC unroll 4
      for (int b = 0; b < kRows; ++b) sum[b][v] += value * row[b];
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < kRows; ++b) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Real* to = a.sums + b * a.stride + channel + v * kLanes;
      store(to, load<V>(to) + sum[b][v]);
    }
  }
}

template <class Width, int kRows, class Real>
DEEPMD_INLINE void contract_rows(const Contract<Real>& a) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  constexpr int kMost = Width::kRegisters == 32 ? 5 : 2;
  const int n_vectors = a.width / kLanes;
  int v = 0;
  for (; v + kMost <= n_vectors; v += kMost) contract_channels<V, kRows, kMost>(a, v * kLanes);
  if constexpr (kMost > 4) {
    if (n_vectors - v == 4) contract_channels<V, kRows, 4>(a, v * kLanes);
    if (n_vectors - v == 3) contract_channels<V, kRows, 3>(a, v * kLanes);
    if (n_vectors - v == 2) contract_channels<V, kRows, 2>(a, v * kLanes);
  }
  if (n_vectors - v == 1) contract_channels<V, kRows, 1>(a, v * kLanes);
}

template <class Width, class Real>
DEEPMD_INLINE void contract_body(const Contract<Real>& a) {
  if (a.kind == RowKind::radial) return contract_rows<Width, 1>(a);
  contract_rows<Width, 4>(a);
}

// The lanes of one neighbour's sums, before they are added up: d_row, and d_argument behind it for tables by inverse distance.
template <class V, RowKind kKind, class Real>
DEEPMD_INLINE void project_neighbor(const Project<Real>& a, int k, V* lanes, int apart) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  const std::ptrdiff_t width = a.width, stride = a.stride;
  const Real* c = a.table + a.rows.offset[k];
  const Real u = a.rows.u[k];
  if constexpr (kKind == RowKind::radial) {
    V slopes = {};
    for (int m = 0; m < a.width; m += kLanes) {
      V slope = load<V>(c + kDegree * width + m) * Real(kDegree);
#pragma GCC unroll 5
      for (int d = kDegree - 1; d >= 1; --d) slope = slope * u + load<V>(c + d * width + m) * Real(d);
      slopes += slope * load<V>(a.g + m);
    }
    lanes[0] = slopes * (a.rows.row[0][k] * a.inverse_step);
    return;
  }
  const Real r0 = a.rows.row[0][k], r1 = a.rows.row[1][k], r2 = a.rows.row[2][k], r3 = a.rows.row[3][k];
  V s0 = {}, s1 = {}, s2 = {}, s3 = {}, slopes = {};
  for (int m = 0; m < a.width; m += kLanes) {
    V value = load<V>(c + kDegree * width + m), slope = value;
    value = value * u + load<V>(c + (kDegree - 1) * width + m);
#pragma GCC unroll 5
    for (int d = kDegree - 2; d >= 0; --d) {
      slope = slope * u + value;
      value = value * u + load<V>(c + d * width + m);
    }
    const V g0 = load<V>(a.g + m), g1 = load<V>(a.g + stride + m);
    const V g2 = load<V>(a.g + 2 * stride + m), g3 = load<V>(a.g + 3 * stride + m);
    s0 += value * g0;
    s1 += value * g1;
    s2 += value * g2;
    s3 += value * g3;
    slopes += slope * (g0 * r0 + g1 * r1 + g2 * r2 + g3 * r3);
  }
  lanes[0] = s0;
  if constexpr (kKind == RowKind::by_inverse) {
    lanes[4 * apart] = slopes * a.inverse_step;
  } else {
    lanes[0] += slopes * a.inverse_step;
  }
  lanes[apart] = s1;
  lanes[2 * apart] = s2;
  lanes[3 * apart] = s3;
}

template <class Width, RowKind kKind, class Real>
DEEPMD_INLINE void project_rows(const Project<Real>& a) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  constexpr int kSums = kKind == RowKind::radial ? 1 : kKind == RowKind::by_inverse ? 5 : 4;
  alignas(kAlignment) V lanes[kSums * kLanes];
  const int end = padded(a.rows.n);
  for (int k = 0; k < end; k += kLanes) {
    const int n = a.rows.n - k < kLanes ? a.rows.n - k : kLanes;
    for (int l = 0; l < n; ++l) project_neighbor<V, kKind>(a, k + l, lanes + l, kLanes);
    for (int l = n < 0 ? 0 : n; l < kLanes; ++l) {
      for (int b = 0; b < kSums; ++b) lanes[b * kLanes + l] = V{};
    }
#pragma GCC unroll 5
    for (int b = 0; b < kSums; ++b) {
      store((b < 4 ? a.d_row[b] : a.d_argument) + k, sums_of_rows<V, kLanes>(lanes + b * kLanes));
    }
#pragma GCC unroll 4
    for (int b = kSums; b < 4; ++b) store(a.d_row[b] + k, V{});
  }
}

template <class Width, class Real>
DEEPMD_INLINE void project_body(const Project<Real>& a) {
  if (a.kind == RowKind::radial) return project_rows<Width, RowKind::radial>(a);
  if (a.kind == RowKind::by_inverse) return project_rows<Width, RowKind::by_inverse>(a);
  project_rows<Width, RowKind::angular>(a);
}

}  // namespace

DEEPMD_VARIANTS(contract, Contract)
DEEPMD_VARIANTS(project, Project)

}  // namespace deepmd
