// The host's side of block.hpp: the threads of a block take turns. For tests; not fast.
#pragma once

#include <cstring>

#include "device/block.hpp"

namespace deepmd::device {

template <class T>
struct NumberOfEach {
  T value[kThreads] = {};
  T& operator[](int t) { return value[t]; }
  const T& operator[](int t) const { return value[t]; }
};

class HostBlock {
 public:
  template <class T>
  using PerThread = NumberOfEach<T>;

  // is_reversed: the last thread first. A body whose answer depends on that has a race.
  HostBlock(std::int64_t index, std::int64_t n_blocks, unsigned char* shared, bool is_reversed)
      : index_(index), n_blocks_(n_blocks), shared_(shared), is_reversed_(is_reversed) {}
  std::int64_t index() const { return index_; }
  std::int64_t n_blocks() const { return n_blocks_; }
  unsigned char* shared() const { return shared_; }

  template <class F>
  void each(F&& f) {
    for (int t = 0; t < kThreads; ++t) f(is_reversed_ ? kThreads - 1 - t : t);
  }
  template <class F>
  void run(F&& f) {
    each(f);
  }
  void barrier() {}

  template <class T>
  void sum_of_lanes(NumberOfEach<T>& v) {
    for (int apart = 1; apart < kLanes; apart *= 2) {
      const NumberOfEach<T> before = v;
      for (int t = 0; t < kThreads; ++t) v[t] = before[t] + before[t ^ apart];
    }
  }
  void ballot(const NumberOfEach<int>& flag, unsigned* words) {
    std::memset(words, 0, kWarps * sizeof(unsigned));
    for (int t = 0; t < kThreads; ++t) words[t / kWarp] |= (flag[t] ? 1u : 0u) << (t % kWarp);
  }
  int count_up(int* place) { return (*place)++; }

 private:
  std::int64_t index_, n_blocks_;
  unsigned char* shared_;
  bool is_reversed_;
};

}  // namespace deepmd::device
