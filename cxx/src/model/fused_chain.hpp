#pragma once

#include "core/aligned_vector.hpp"
#include "kernels/environment.hpp"
#include "model/fused_pairs.hpp"

namespace deepmd {

// Where a block adds its results. All but energy may be null: not wanted.
struct BlockSums {
  double* atom_energy = nullptr;  // [n_local], set
  double* forces = nullptr;       // [n_all][3]
  double* virial = nullptr;       // [9][8]: lanes to be added up
  double* atom_virial = nullptr;  // [n_all][3][3]

  bool wants_gradient() const { return forces || virial || atom_virial; }
};

// From dE/d(rows) of the neighbours of one centre to forces and virials; its buffers are kept.
template <class Real>
class FusedChain {
 public:
  // chain: with rows and d_row set; the rest is set here. k: number of the centre in the block, atom: in the frame.
  void run(Kernel<ChainRule<Real>> kernel, ChainRule<Real> chain, const BlockPairs& pairs, int n_types, int k, int atom,
           const BlockSums& sums);
  std::size_t bytes() const { return 3 * gradient_[0].size() * sizeof(double); }

 private:
  void scatter(const NeighborRun& run, std::size_t first_entry, const PairGeometry& pairs, const BlockSums& sums) const;

  aligned_vector<double> gradient_[3];
};

}  // namespace deepmd
