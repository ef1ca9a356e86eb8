// Vectors of numbers by the compiler's extension: one type for a given number of bytes, lowered to what the function
// is compiled for. Arithmetic among vectors, and of vectors with numbers, becomes single instructions; comparisons and
// copies of one number to all lanes do not (write v * x, not v * vector_of(x)).
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/variants.hpp"

namespace deepmd {

template <class T, int Bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
};
// Alignment of a vector in memory is that of its element.
template <class T, int Bytes>
using Vector = typename VectorOf<T, Bytes>::type;

template <class V, class T>
DEEPMD_INLINE V load(const T* p) {
  return *reinterpret_cast<const V*>(p);
}

template <class V, class T>
DEEPMD_INLINE void store(T* p, V v) {
  *reinterpret_cast<V*>(p) = v;
}

// A vector of doubles from as many numbers, and back.
template <class V, class Real>
DEEPMD_INLINE V load_as_double(const Real* p) {
  if constexpr (sizeof(Real) == sizeof(double)) {
    return load<V>(p);
  } else {
    return __builtin_convertvector(load<Vector<Real, sizeof(V) / 2>>(p), V);
  }
}

template <class V, class Real>
DEEPMD_INLINE void store_from_double(Real* p, V v) {
  if constexpr (sizeof(Real) == sizeof(double)) {
    store(p, v);
  } else {
    store(p, __builtin_convertvector(v, Vector<Real, sizeof(V) / 2>));
  }
}

// Sums of neighbouring lanes: (a0 + a1, a2 + a3, ..., b0 + b1, ...).
template <class V, int kLanes>
DEEPMD_INLINE V pair_sums(V a, V b) {
#if defined(__clang__)
  V even, odd;
  for (int k = 0; k < kLanes / 2; ++k) {
    even[k] = a[2 * k], even[kLanes / 2 + k] = b[2 * k];
    odd[k] = a[2 * k + 1], odd[kLanes / 2 + k] = b[2 * k + 1];
  }
  return even + odd;
#else
  using Index = Vector<std::conditional_t<sizeof(V) / kLanes == 8, std::int64_t, std::int32_t>, sizeof(V)>;
  Index even, odd;
  for (int k = 0; k < kLanes; ++k) even[k] = 2 * k, odd[k] = 2 * k + 1;
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
#endif
}

// out[l] = sum of the lanes of rows[l], for as many rows as a vector has lanes; rows is overwritten.
template <class V, int kLanes>
DEEPMD_INLINE V sums_of_rows(V* rows) {
  for (int n = kLanes; n > 1; n /= 2) {
    for (int k = 0; k < n / 2; ++k) rows[k] = pair_sums<V, kLanes>(rows[2 * k], rows[2 * k + 1]);
  }
  return rows[0];
}

// Exchanges the lanes that differ from their row in one bit only, kBit, for each two rows that differ in that bit.
template <class V, int kLanes, int kBit>
DEEPMD_INLINE void exchange(V* rows) {
#if !defined(__clang__)
  using Index = Vector<std::conditional_t<sizeof(V) / kLanes == 8, std::int64_t, std::int32_t>, sizeof(V)>;
  Index upper, lower;
  for (int l = 0; l < kLanes; ++l) {
    upper[l] = l & kBit ? kLanes + l - kBit : l;
    lower[l] = l & kBit ? kLanes + l : l + kBit;
  }
#endif
#pragma GCC unroll 8
  for (int r = 0; r < kLanes; ++r) {
    if (r & kBit) continue;
    const V a = rows[r], b = rows[r + kBit];
#if defined(__clang__)
    for (int l = 0; l < kLanes; ++l) {
      rows[r][l] = l & kBit ? b[l - kBit] : a[l];
      rows[r + kBit][l] = l & kBit ? b[l] : a[l + kBit];
    }
#else
    rows[r] = __builtin_shuffle(a, b, upper);
    rows[r + kBit] = __builtin_shuffle(a, b, lower);
#endif
  }
}

// As many rows as a vector has lanes, at most eight, become columns.
template <class V, int kLanes>
DEEPMD_INLINE void transpose(V* rows) {
  static_assert(kLanes <= 8, "rows of at most eight lanes");
  if constexpr (kLanes > 4) exchange<V, kLanes, 4>(rows);
  if constexpr (kLanes > 2) exchange<V, kLanes, 2>(rows);
  exchange<V, kLanes, 1>(rows);
}

template <class V, int kLanes>
DEEPMD_INLINE auto sum_of_lanes(V v) {
  auto sum = v[0];
  for (int k = 1; k < kLanes; ++k) sum += v[k];
  return sum;
}

}  // namespace deepmd
