#include "kernels/isa.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.hpp"
#include "kernels/variants.hpp"

namespace deepmd {
namespace {

constexpr Isa kAll[] = {Isa::baseline, Isa::avx2, Isa::avx512};

Isa isa_of_processor() {
#if DEEPMD_HAS_VARIANTS
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    return Isa::avx512;
  }
  if (has_avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

}  // namespace

Isa best_isa() {
  const Isa best = isa_of_processor();
  const char* wanted = std::getenv("DEEPMD_ISA");
  if (!wanted || !*wanted) return best;
  for (const Isa isa : kAll) {
    if (std::string(wanted) == isa_name(isa)) return std::min(isa, best);
  }
  throw Error(DEEPMD_ERROR_ARGUMENT, text("DEEPMD_ISA: got '", wanted, "', expected baseline, avx2 or avx512"));
}

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

int vector_bytes(Isa isa) { return isa == Isa::avx512 ? 64 : isa == Isa::avx2 ? 32 : 16; }

}  // namespace deepmd
