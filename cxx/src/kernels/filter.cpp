#include "kernels/filter.hpp"

#include <algorithm>

#include "kernels/variants.hpp"

#if DEEPMD_HAS_VARIANTS
#if defined(__GNUC__) && !defined(__clang__)  // the compiler's own header warns, wrongly, where it is used
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace deepmd {
namespace {

// Entries from `begin` on, one by one. Each is written; only those inside the cutoff move the place of the next one on.
template <bool kShifted>
DEEPMD_INLINE void filter_rest(const Filter& f, std::int64_t begin, Filtered& found) {
  const double* cell = f.cell;
  for (std::int64_t k = begin; k < f.n; ++k) {
    const int j = f.index[k];
    const double* other = f.positions + 3 * static_cast<std::ptrdiff_t>(j);
    double x = other[0] - f.center[0], y = other[1] - f.center[1], z = other[2] - f.center[2];
    if constexpr (kShifted) {
      const int* shift = f.shift + 3 * k;
      x += shift[0] * cell[0] + shift[1] * cell[3] + shift[2] * cell[6];
      y += shift[0] * cell[1] + shift[1] * cell[4] + shift[2] * cell[7];
      z += shift[0] * cell[2] + shift[1] * cell[5] + shift[2] * cell[8];
    }
    const double r2 = x * x + y * y + z * z;
    f.neighbor[found.n] = j;
    f.x[found.n] = x, f.y[found.n] = y, f.z[found.n] = z, f.r2[found.n] = r2;
    found.closest2 = std::min(found.closest2, r2);
    found.n += r2 < f.rcut2;
  }
}

Filtered filter_plain(const Filter& args) {
  const Filter f = args;
  Filtered found{0, f.rcut2};
  if (f.shift) {
    filter_rest<true>(f, 0, found);
  } else {
    filter_rest<false>(f, 0, found);
  }
  return found;
}

#if DEEPMD_HAS_VARIANTS

struct EightVectors {
  __m512d x, y, z;
};

// Adds shift . cell for eight entries whose 24 numbers follow each other.
DEEPMD_FOR_AVX512 DEEPMD_INLINE void add_shifts(const int* shift, const double* cell, EightVectors& r) {
  const __m512i low = _mm512_loadu_si512(shift);
  const __m512i high = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(shift + 16)));
  const __m512i places = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 0, 0, 0, 0, 0, 0, 0, 0);
  for (int b = 0; b < 3; ++b) {
    const __m512i along = _mm512_permutex2var_epi32(low, _mm512_add_epi32(places, _mm512_set1_epi32(b)), high);
    const __m512d n = _mm512_cvtepi32_pd(_mm512_castsi512_si256(along));
    r.x = _mm512_fmadd_pd(n, _mm512_set1_pd(cell[3 * b]), r.x);
    r.y = _mm512_fmadd_pd(n, _mm512_set1_pd(cell[3 * b + 1]), r.y);
    r.z = _mm512_fmadd_pd(n, _mm512_set1_pd(cell[3 * b + 2]), r.z);
  }
}

// Eight entries at a time; those inside the cutoff are moved together inside the register and stored.
DEEPMD_FOR_AVX512 Filtered filter_avx512(const Filter& args) {
  const Filter f = args;
  Filtered found{0, f.rcut2};
  const __m512d rcut2 = _mm512_set1_pd(f.rcut2);
  __m512d closest = rcut2;
  std::int64_t k = 0;
  for (; k + 8 <= f.n; k += 8) {
    const __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(f.index + k));
    const __m512i place = _mm512_mullo_epi64(_mm512_cvtepi32_epi64(index), _mm512_set1_epi64(3));
    EightVectors r;
    r.x = _mm512_sub_pd(_mm512_i64gather_pd(place, f.positions, 8), _mm512_set1_pd(f.center[0]));
    r.y = _mm512_sub_pd(_mm512_i64gather_pd(place, f.positions + 1, 8), _mm512_set1_pd(f.center[1]));
    r.z = _mm512_sub_pd(_mm512_i64gather_pd(place, f.positions + 2, 8), _mm512_set1_pd(f.center[2]));
    if (f.shift) add_shifts(f.shift + 3 * k, f.cell, r);
    const __m512d r2 = _mm512_fmadd_pd(r.x, r.x, _mm512_fmadd_pd(r.y, r.y, _mm512_mul_pd(r.z, r.z)));
    const __mmask8 inside = _mm512_cmp_pd_mask(r2, rcut2, _CMP_LT_OQ);
    closest = _mm512_min_pd(closest, r2);
    _mm512_storeu_pd(f.x + found.n, _mm512_maskz_compress_pd(inside, r.x));
    _mm512_storeu_pd(f.y + found.n, _mm512_maskz_compress_pd(inside, r.y));
    _mm512_storeu_pd(f.z + found.n, _mm512_maskz_compress_pd(inside, r.z));
    _mm512_storeu_pd(f.r2 + found.n, _mm512_maskz_compress_pd(inside, r2));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(f.neighbor + found.n), _mm256_maskz_compress_epi32(inside, index));
    found.n += __builtin_popcount(inside);
  }
  found.closest2 = _mm512_reduce_min_pd(closest);
  if (f.shift) {
    filter_rest<true>(f, k, found);
  } else {
    filter_rest<false>(f, k, found);
  }
  return found;
}

#endif

}  // namespace

FilterKernel choose_filter(Isa isa) {
#if DEEPMD_HAS_VARIANTS
  if (isa == Isa::avx512) return filter_avx512;
#endif
  (void)isa;
  return filter_plain;
}

}  // namespace deepmd
