#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.hpp"
#include "model/fused_chain.hpp"
#include "model/fused_pairs.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// A pair whose argument lies outside the table; its entry in the rows is without effect on the sums.
struct OutsidePair {
  int center = 0;         // number in the block
  int type = 0;           // of the neighbour
  std::size_t entry = 0;  // in the pair arrays
  double argument = 0;
  double row[4] = {};
};

// One descriptor of a block of centres of one type, forward and backward; its buffers are kept.
template <class Real>
class FusedDescriptor {
 public:
  FusedDescriptor(const FusedPlan<Real>& all, int number) : all_(all), number_(number) {}

  // Writes its inputs of the fitting network into x [pairs.m][x_stride], and what lies behind them up to a vector's end.
  void forward(int t_i, const BlockPairs& pairs, Real* x, int x_stride);
  // x holds dE/dx. Adds forces and virials.
  void backward(const Real* x, int x_stride, const int* atoms, const BlockSums& sums);

  std::int64_t n_outside() const { return n_outside_; }
  std::size_t bytes() const;

 private:
  void make_room();
  void sum_neighbors();
  void sum_type(int k, int type, Real* own);
  double make_rows(int k, int type);
  void find_outside(int k, int type);
  void add_outside();
  void make_inputs(Real* x, int x_stride);
  void inputs_back(const Real* x, int x_stride);
  void neighbors_back(const int* atoms, const BlockSums& sums);
  void project(int k, int type, const Real* g);
  void outside_back(int k);
  const NeighborRun* runs(int k) const { return &pairs_->runs[static_cast<std::size_t>(k) * all_.tree.n_types]; }
  const Real* t() const { return plan_->has_map ? t_.data() : sums_.data(); }
  const Real* gradient_of_sums(int k) const {
    return (plan_->has_map ? sums_ : g_t_).data() + static_cast<std::size_t>(k) * plan_->n_rows * plan_->sums_stride;
  }
  RowView<Real> view(std::size_t first_row, int n) const;

  const FusedPlan<Real>& all_;
  int number_;
  const DescriptorPlan<Real>* plan_ = nullptr;  // for the block's centres
  const BlockPairs* pairs_ = nullptr;
  PairRows<Real> rows_;  // of one centre: made again for the way back, which is cheaper than keeping those of a block
  aligned_vector<Real> sums_, t_, g_t_;  // [m][rows][stride]
  aligned_vector<Real> spread_;
  aligned_vector<Real> d_row_[5];        // of one centre; the last one is dE/d(inverse distance) beside the rows
  FusedChain<Real> chain_;
  std::vector<OutsidePair> outside_;
  std::vector<double> outside_c_, outside_c1_;  // [outside][width]
  std::int64_t n_outside_ = 0;
};

}  // namespace deepmd
