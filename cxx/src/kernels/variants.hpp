// How one kernel becomes three: its body is a template on the width of a vector, inlined into functions that are each
// compiled for one instruction set. No file is compiled with special flags for that, so no inline function of a library
// can end up in a version that the processor does not have. Helpers of a body must be DEEPMD_INLINE and no lambdas.
#pragma once

#include "kernels/isa.hpp"

#define DEEPMD_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPMD_HAS_VARIANTS 1
#define DEEPMD_FOR_AVX512 __attribute__((target("arch=x86-64-v4")))
#define DEEPMD_FOR_AVX2 __attribute__((target("arch=x86-64-v3")))
#else
#define DEEPMD_HAS_VARIANTS 0
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call, so their calling convention does not matter
#endif

namespace deepmd {

template <class Args>
using Kernel = void (*)(const Args&);

// Bytes of a vector and number of vector registers.
struct Narrow {
  static constexpr int kBytes = 16, kRegisters = 16;
};
struct Middle {
  static constexpr int kBytes = 32, kRegisters = 16;
};
struct Wide {
  static constexpr int kBytes = 64, kRegisters = 32;
};

}  // namespace deepmd

// Defines choose_<name><Real>(isa), the version of <name>_body<width, Real>(const Args<Real>&) for an instruction set.
#if DEEPMD_HAS_VARIANTS
#define DEEPMD_VARIANTS(name, Args)                                                                \
  template <class Real>                                                                            \
  struct name##_versions {                                                                         \
    DEEPMD_FOR_AVX512 static void avx512(const Args<Real>& args) { name##_body<Wide, Real>(args); } \
    DEEPMD_FOR_AVX2 static void avx2(const Args<Real>& args) { name##_body<Middle, Real>(args); }   \
    static void baseline(const Args<Real>& args) { name##_body<Narrow, Real>(args); }               \
  };                                                                                               \
  template <class Real>                                                                            \
  Kernel<Args<Real>> choose_##name(Isa isa) {                                                      \
    using Versions = name##_versions<Real>;                                                        \
    return isa == Isa::avx512 ? Versions::avx512 : isa == Isa::avx2 ? Versions::avx2 : Versions::baseline; \
  }                                                                                                \
  template Kernel<Args<float>> choose_##name<float>(Isa);                                          \
  template Kernel<Args<double>> choose_##name<double>(Isa);
#else
#define DEEPMD_VARIANTS(name, Args)                                                   \
  template <class Real>                                                               \
  struct name##_versions {                                                            \
    static void baseline(const Args<Real>& args) { name##_body<Narrow, Real>(args); }  \
  };                                                                                  \
  template <class Real>                                                               \
  Kernel<Args<Real>> choose_##name(Isa) {                                             \
    return name##_versions<Real>::baseline;                                           \
  }                                                                                   \
  template Kernel<Args<float>> choose_##name<float>(Isa);                             \
  template Kernel<Args<double>> choose_##name<double>(Isa);
#endif
