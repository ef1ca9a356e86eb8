// Eight numbers at a time for the kernels of training, compiled once for each instruction set.
#pragma once

// The compiler makes one version of the inner loops per instruction set; the loader picks the right one.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DEEPMD_NO_CLONES)
#define DEEPMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPMD_CLONES
#endif
// Must be inlined into the clones, or they would call the version for the baseline.
#define DEEPMD_INLINE inline __attribute__((always_inline))
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call, so their calling convention does not matter
#endif

namespace deepmd {

// The compiler lowers this type to whatever the instruction set has.
typedef double Lanes __attribute__((vector_size(64), aligned(8)));
constexpr int kLanes = 8;

DEEPMD_INLINE Lanes load(const double* p) { return *reinterpret_cast<const Lanes*>(p); }
DEEPMD_INLINE void store(double* p, Lanes v) { *reinterpret_cast<Lanes*>(p) = v; }
DEEPMD_INLINE double total(Lanes v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

}  // namespace deepmd
