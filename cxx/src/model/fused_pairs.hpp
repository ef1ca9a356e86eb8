#pragma once

#include <vector>

#include "core/aligned_vector.hpp"
#include "model/frame.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// Neighbours of one type of one centre: entries [begin, begin + n) of the pair arrays, filled up to a multiple of kPad.
struct NeighborRun {
  std::size_t begin = 0;
  int n = 0;
  int n_counted = 0;  // neighbours that use up slots: n, or more where the descriptor excludes the pair of types
};

// A pair whose argument lies outside the table; its entry in the pair arrays is without effect on the sums.
struct OutsidePair {
  int center = 0;         // number in the block
  int type = 0;           // of the neighbour
  std::size_t entry = 0;  // in the pair arrays
  double row[4] = {};
};

// Filters the list of one centre to the cutoff and sorts it by neighbour type.
template <class Real>
class PairCollector {
 public:
  explicit PairCollector(const FusedPlan<Real>& plan) : plan_(plan), cursor_(plan.tree.n_types) {}

  // Rows of centre i (number `center` in the block) behind `end`, which moves; runs [n_types]. Throws
  // DEEPMD_ERROR_GEOMETRY if a pair is too close.
  void collect(const Frame& frame, int i, int center, PairArrays<Real>& pairs, std::size_t& end, NeighborRun* runs,
               std::vector<OutsidePair>& outside);
  std::size_t bytes() const;

 private:
  int filter(const Frame& frame, int i);
  void sort_by_type(const Frame& frame, int i, int n, const CenterPlan<Real>& center, PairArrays<Real>& pairs,
                    std::size_t& end, NeighborRun* runs);
  void find_outside(const CenterPlan<Real>& plan, int center, int type, const NeighborRun& run, PairArrays<Real>& pairs,
                    std::vector<OutsidePair>& outside);

  const FusedPlan<Real>& plan_;
  aligned_vector<int> neighbor_, type_;
  aligned_vector<double> x_, y_, z_, r2_;
  std::vector<std::size_t> cursor_;  // [n_types]
};

}  // namespace deepmd
