#include "model/fused_loop.hpp"

#include <algorithm>

namespace deepmd {

FusedLoop::FusedLoop(const std::vector<PairRules>& rules, FilterKernel filter, int n_threads)
    : rules_(rules), team_(n_threads), pairs_(team_.size() * rules.size()) {
  for (int part = 0; part < team_.size(); ++part) {
    for (const PairRules& each : rules_) collectors_.emplace_back(each, filter);
  }
}

void FusedLoop::run(const Frame& frame, LoopMember* const* members, int n_members, const int* block_sizes) {
  frame_ = &frame;
  members_ = members;
  n_members_ = n_members;
  block_sizes_ = block_sizes;
  sort_centers();
  is_adding_up_ = false;
  team_.run(*this);
  if (team_.size() > 1) {
    is_adding_up_ = true;
    team_.run(*this);
  }
  for (int k = 0; k < n_members; ++k) members[k]->finish();
}

void FusedLoop::operator()(int part) {
  if (!is_adding_up_) return evaluate_share(part);
  for (int k = 0; k < n_members_; ++k) members_[k]->add_up(part);
}

void FusedLoop::sort_centers() {
  const int n_types = rules_[0].n_types, n = frame_->n_local;
  if (order_.size() < static_cast<std::size_t>(n)) order_.resize(n);
  first_.assign(n_types + 1, 0);
  for (int i = 0; i < n; ++i) ++first_[frame_->types[i] + 1];
  for (int t = 0; t < n_types; ++t) first_[t + 1] += first_[t];
  for (int i = 0; i < n; ++i) order_[first_[frame_->types[i]]++] = i;
  for (int t = n_types; t > 0; --t) first_[t] = first_[t - 1];
  first_[0] = 0;
}

void FusedLoop::evaluate_share(int part) {
  for (int k = 0; k < n_members_; ++k) members_[k]->clear(part);
  const std::int64_t n = frame_->n_local, n_parts = team_.size();
  const int begin = static_cast<int>(n * part / n_parts), end = static_cast<int>(n * (part + 1) / n_parts);
  for (int t = 0; t < rules_[0].n_types; ++t) {
    const int from = std::max(begin, first_[t]), to = std::min(end, first_[t + 1]);
    if (from >= to) continue;
    const std::int64_t n_centers = to - from, most = block_sizes_[t], n_blocks = (n_centers + most - 1) / most;
    for (std::int64_t b = 0; b < n_blocks; ++b) {  // of nearly equal size
      const int first = from + static_cast<int>(n_centers * b / n_blocks);
      const int last = from + static_cast<int>(n_centers * (b + 1) / n_blocks);
      const int* atoms = order_.data() + first;
      const std::size_t own = part * rules_.size();
      for (std::size_t r = own; r < own + rules_.size(); ++r) collectors_[r].collect(*frame_, atoms, last - first, pairs_[r]);
      for (int k = 0; k < n_members_; ++k) members_[k]->evaluate_block(part, atoms, &pairs_[own]);
    }
  }
}

std::size_t FusedLoop::bytes_per_thread() const {
  std::size_t most = 0;
  for (int part = 0; part < team_.size(); ++part) {
    std::size_t own = 0;
    for (std::size_t r = part * rules_.size(); r < (part + 1) * rules_.size(); ++r) own += collectors_[r].bytes() + pairs_[r].bytes();
    most = std::max(most, own);
  }
  return most;
}

}  // namespace deepmd
