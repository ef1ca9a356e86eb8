#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/energy_tree.hpp"
#include "model/fused_loop.hpp"
#include "model/fused_tables.hpp"
#include "model/potential.hpp"

namespace deepmd {

enum class Precision {
  float64,
  mixed,  // float32 tables, contraction and networks; float64 geometry, energies, forces and their sums
};

struct FusedOptions {
  Precision precision = Precision::float64;
  int n_threads = 0;  // 0: as core/thread_team.hpp decides
};

// The force call without a framework: see kernels/ for the passes.
class FusedPotential : public Potential {
 public:
  virtual Precision precision() const = 0;
  virtual const char* instruction_set() const = 0;  // "avx512", "avx2" or "baseline"
  virtual int n_threads() const = 0;
  // Memory held beside the model: what grows with the atoms, for the largest frame so far, and what each thread keeps.
  virtual std::size_t bytes_per_atom() const = 0;
  virtual std::size_t bytes_per_thread() const = 0;
  virtual std::size_t bytes_of_model() const = 0;  // tables and weights
  // Pairs so far for which the table had no answer and the network itself was evaluated.
  virtual std::int64_t n_outside() const = 0;

  // To share a force call: what takes part in the loop, the loop it would use alone, and what remains to be done if
  // n_outside pairs of the frame were outside its tables.
  virtual LoopMember& member() = 0;
  virtual FusedLoop& loop() = 0;
  virtual const int* block_sizes() const = 0;  // [n_types]
  virtual std::int64_t member_n_outside() const { return n_outside(); }
  virtual void amend(const Frame& frame, const Result& result, std::int64_t n_outside) { (void)frame, (void)result, (void)n_outside; }
};

// Whether two models see the same pairs and use as many threads, so that one loop can serve both.
bool can_share(FusedPotential& a, FusedPotential& b);

// Evaluates models [n] that can share with the first one; the pairs of each block are collected once. results [n].
// The numbers are those of separate calls, bit for bit.
void evaluate_together(const Frame& frame, FusedPotential* const* models, int n, const Result* results);

std::unique_ptr<FusedPotential> make_fused_potential(EnergyTree tree, PairBasis basis, const FusedOptions& options);

}  // namespace deepmd
