#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.hpp"
#include "model/frame.hpp"
#include "model/fused_fitting.hpp"
#include "model/fused_pairs.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// Where a block adds its results. All but energy may be null: not wanted.
struct BlockSums {
  double* atom_energy = nullptr;  // [n_local], set
  double* forces = nullptr;       // [n_all][3]
  double* virial = nullptr;       // [9][8]: lanes to be added up
  double* atom_virial = nullptr;  // [n_all][3][3]

  bool wants_gradient() const { return forces || virial || atom_virial; }
};

// A pair whose argument lies outside the table; its entry in the rows is without effect on the sums.
struct OutsidePair {
  int center = 0;         // number in the block
  int type = 0;           // of the neighbour
  std::size_t entry = 0;  // in the pair arrays
  double row[4] = {};
};

// Energies and derivatives of a block of centres of one type; one of these per thread, its buffers are kept.
template <class Real>
class FusedBlock {
 public:
  explicit FusedBlock(const FusedPlan<Real>& plan);

  // atoms [pairs.m]: local atoms that are all of the same type.
  void evaluate(const Frame& frame, const int* atoms, const BlockPairs& pairs, const BlockSums& sums);

  std::int64_t n_outside() const { return n_outside_; }
  std::size_t bytes() const;

 private:
  void make_room(const CenterPlan<Real>& center);
  void sum_neighbors(const CenterPlan<Real>& center);
  double make_rows(const CenterPlan<Real>& center, int k, int type);
  void find_outside(const CenterPlan<Real>& center, int k, int type);
  void make_inputs(const Frame& frame, const CenterPlan<Real>& center, const int* atoms);
  void inputs_back(const CenterPlan<Real>& center);
  void neighbors_back(const CenterPlan<Real>& center, const int* atoms, const BlockSums& sums);
  void add_outside(const CenterPlan<Real>& center);
  void outside_back(const CenterPlan<Real>& center, int k, std::size_t first_entry);
  void scatter(const NeighborRun& run, std::size_t first_entry, const BlockSums& sums) const;
  const NeighborRun* runs(int k) const { return &pairs_->runs[static_cast<std::size_t>(k) * plan_.tree.n_types]; }
  RowView<Real> view(std::size_t first_row, int n) const;

  const FusedPlan<Real>& plan_;
  FusedFitting<Real> fitting_;
  const BlockPairs* pairs_ = nullptr;
  PairRows<Real> rows_;  // of one centre: made again for the way back, which is cheaper than keeping those of a block
  aligned_vector<Real> sums_, t_, g_t_;  // [m][4][stride]
  aligned_vector<Real> x_;               // [m][x_stride], and dE/dx
  aligned_vector<Real> spread_;
  aligned_vector<Real> d_row_[4];        // of one centre
  aligned_vector<double> gradient_[3];
  std::vector<double> energy_;
  std::vector<OutsidePair> outside_;
  std::vector<double> outside_c_, outside_c1_;  // [outside][most channels]
  std::int64_t n_outside_ = 0;
};

}  // namespace deepmd
