#pragma once

#include <vector>

#include "core/thread_team.hpp"
#include "model/frame.hpp"
#include "model/fused_pairs.hpp"

namespace deepmd {

// One model's part in a force call that it may share with other models. The calls come in this order; those with a
// `part` come from the thread of that number.
class LoopMember {
 public:
  virtual ~LoopMember() = default;
  virtual void begin(const Frame& frame, const Result& result) = 0;
  virtual void clear(int part) = 0;
  // atoms [pairs->m], all of one type; pairs: one set for each set of rules
  virtual void evaluate_block(int part, const int* atoms, const BlockPairs* pairs) = 0;
  virtual void add_up(int part) = 0;
  virtual void finish() = 0;
};

// Threads, the order of centres, and the neighbours of each block of them. Centres sorted by type are cut into one share
// per thread, and each share into blocks of one type; all models evaluate a block before the next one is made.
class FusedLoop {
 public:
  FusedLoop(const std::vector<PairRules>& rules, FilterKernel filter, int n_threads);

  int n_threads() const { return team_.size(); }
  const std::vector<PairRules>& rules() const { return rules_; }
  // block_sizes [n_types]: most centres in a block
  void run(const Frame& frame, LoopMember* const* members, int n_members, const int* block_sizes);
  void operator()(int part);

  std::size_t bytes_of_order() const { return order_.size() * sizeof(int); }
  std::size_t bytes_per_thread() const;

 private:
  void sort_centers();
  void evaluate_share(int part);

  std::vector<PairRules> rules_;
  ThreadTeam team_;
  std::vector<PairCollector> collectors_;  // [threads][rules]
  std::vector<BlockPairs> pairs_;          // [threads][rules]
  std::vector<int> order_;                 // [n_local] local atoms by type
  std::vector<int> first_;                 // [n_types + 1] in order_
  const Frame* frame_ = nullptr;
  LoopMember* const* members_ = nullptr;
  int n_members_ = 0;
  const int* block_sizes_ = nullptr;
  bool is_adding_up_ = false;
};

}  // namespace deepmd
