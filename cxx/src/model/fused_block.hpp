#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.hpp"
#include "model/frame.hpp"
#include "model/fused_couples.hpp"
#include "model/fused_descriptor.hpp"
#include "model/fused_fitting.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// Energies and derivatives of a block of centres of one type; one of these per thread, its buffers are kept.
template <class Real>
class FusedBlock {
 public:
  explicit FusedBlock(const FusedPlan<Real>& plan);

  // atoms [pairs->m]: local atoms that are all of the same type; pairs: one set for each set of rules of the plan.
  void evaluate(const Frame& frame, const int* atoms, const BlockPairs* pairs, const BlockSums& sums);

  std::int64_t n_outside() const;
  std::size_t bytes() const;

 private:
  void add_parameters(const Frame& frame, const CenterPlan<Real>& center, const int* atoms, int m);

  const FusedPlan<Real>& plan_;
  std::vector<FusedDescriptor<Real>> descriptors_;
  std::vector<FusedCouples<Real>> couples_;
  FusedFitting<Real> fitting_;
  aligned_vector<Real> x_;  // [m][x_stride], and dE/dx
  std::vector<double> energy_;
};

}  // namespace deepmd
