#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.hpp"
#include "model/fused_chain.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// Couples of one kind of one centre whose products lie outside the table, which answers for the nearer end instead. They
// are found, and the networks asked, anew on the way back.
struct OutsideCouples {
  std::vector<std::size_t> j, k;  // entries of the centre
  std::vector<double> times;      // how often each counts, and the scale of the kind
  std::vector<double> at;         // [n][2] product and nearer end
  std::vector<double> g, g1;      // [n][2][width] what the network says there

  std::size_t size() const { return j.size(); }
};

// One descriptor of couples of neighbours (model/couple_descriptor.hpp) for a block of centres of one type, forward and
// backward; nothing is kept for a couple, only a list of the intervals that a centre's couples lie in.
template <class Real>
class FusedCouples {
 public:
  FusedCouples(const FusedPlan<Real>& all, int number);

  // Writes its inputs of the fitting network into x [pairs.m][x_stride], and zeros behind them up to a vector's end.
  void forward(int t_i, const BlockPairs& pairs, Real* x, int x_stride);
  // x holds dE/dx. Adds forces and virials.
  void backward(const Real* x, int x_stride, const int* atoms, const BlockSums& sums);

  std::int64_t n_outside() const { return n_outside_; }
  std::size_t bytes() const;

 private:
  void make_rows(int k);
  CoupleRuns runs(int k, const CoupleKind<Real>& kind) const;
  std::size_t start(int k, int type) const { return run(k, type).begin - pairs_->first[k]; }
  const NeighborRun& run(int k, int type) const {
    return pairs_->runs[static_cast<std::size_t>(k) * all_.tree.n_types + static_cast<std::size_t>(type)];
  }
  void sum_kind(int k, int number, Real* own);
  void list_intervals(int n_intervals);
  void find_outside(int k, int number);
  void add_outside(Real* own);
  void push_kind(int k, int number, const Real* g);
  void outside_back(const Real* g);

  const FusedPlan<Real>& all_;
  int number_;
  const CouplePlan<Real>& plan_;
  const BlockPairs* pairs_ = nullptr;
  int t_i_ = 0, first_x_ = 0;
  PairRows<double> rows_;             // of one centre
  aligned_vector<double> row_[3];     // angular parts
  aligned_vector<double> d_row_[4];   // dE/d(row); that of the radial part is zero
  aligned_vector<Real> moments_;      // [intervals][kBanks][kMoments]: zero between kinds
  aligned_vector<Real> polynomials_;  // [intervals][kMoments]
  std::vector<unsigned char> touched_;  // [intervals], whole words; zero between kinds
  std::vector<int> intervals_;        // touched ones of all centres and kinds in turn
  std::vector<std::size_t> first_;    // [m * kinds + 1] in intervals_
  std::size_t n_listed_ = 0, n_lists_ = 0;
  std::vector<char> is_outside_;      // [m * kinds] whether there are couples outside
  FusedChain<double> chain_;
  OutsideCouples outside_;
  std::int64_t n_outside_ = 0;
};

}  // namespace deepmd
