#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/energy_tree.hpp"
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
};

std::unique_ptr<FusedPotential> make_fused_potential(EnergyTree tree, PairBasis basis, const FusedOptions& options);

}  // namespace deepmd
