#pragma once

namespace deepmd {

// Instruction sets that the kernels are compiled for, in ascending order.
enum class Isa { baseline, avx2, avx512 };

// The best one of this processor. The environment variable DEEPMD_ISA (baseline, avx2, avx512) lowers it.
Isa best_isa();

const char* isa_name(Isa isa);
int vector_bytes(Isa isa);

}  // namespace deepmd
