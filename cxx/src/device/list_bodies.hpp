// Work on the neighbour list, done when it is new: rows sorted by the neighbour's type, and the list turned around, so
// that each atom knows the entries in which it is the neighbour.
#pragma once

#include "device/block.hpp"

namespace deepmd::device {

// Lets the number at `at` of a heap sink until it is larger than those below it.
template <class T>
DEEPMD_BODY void sink(T* heap, std::int64_t at, std::int64_t size) {
  const T own = heap[at];
  for (std::int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && heap[child + 1] > heap[child]) ++child;
    if (heap[child] <= own) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = own;
}

// By one thread: few numbers by insertion, many by a heap.
template <class T>
DEEPMD_BODY void sort_ascending(T* values, std::int64_t size) {
  constexpr std::int64_t kFew = 12;
  if (size <= kFew) {
    for (std::int64_t k = 1; k < size; ++k) {
      const T own = values[k];
      std::int64_t at = k;
      for (; at > 0 && values[at - 1] > own; --at) values[at] = values[at - 1];
      values[at] = own;
    }
    return;
  }
  for (std::int64_t at = size / 2; at-- > 0;) sink(values, at, size);
  for (std::int64_t last = size; last-- > 1;) {
    const T largest = values[0];
    values[0] = values[last];
    values[last] = largest;
    sink(values, 0, last);
  }
}

// A list of centres [0, n) as the engine keeps it between rebuilds.
struct DeviceList {
  const std::int64_t* first = nullptr;  // [n + 1]
  int* neighbor = nullptr;              // [first[n]] by type within each row, else in the order given
  int* shift = nullptr;                 // [first[n]][3] or null
  int* run = nullptr;                   // [n][n_types + 1] where in its row each type begins
};

// One thread per centre.
struct SortRows {
  int n = 0, n_types = 0;
  const int* types = nullptr;  // [n_all]
  const int* index = nullptr;  // [first[n]] as it came
  const int* index_shift = nullptr;
  DeviceList list;

  std::size_t shared_bytes() const { return 0; }

  DEEPMD_BODY void sort_row(int i) const {
    const std::int64_t begin = list.first[i], end = list.first[i + 1];
    int* run = list.run + static_cast<std::int64_t>(i) * (n_types + 1);
    for (int t = 0; t <= n_types; ++t) run[t] = 0;
    for (std::int64_t k = begin; k < end; ++k) ++run[types[index[k]] + 1];
    for (int t = 0; t < n_types; ++t) run[t + 1] += run[t];
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t to = begin + run[types[index[k]]]++;
      list.neighbor[to] = index[k];
      for (int a = 0; list.shift && a < 3; ++a) list.shift[3 * to + a] = index_shift[3 * k + a];
    }
    for (int t = n_types; t > 0; --t) run[t] = run[t - 1];
    run[0] = 0;
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        if (base + t < n) sort_row(static_cast<int>(base + t));
      });
    }
  }
};

// seen [k] of atom j lie in [first[j], first[j + 1]): the entries of the list whose neighbour is j, ascending.
struct TurnedList {
  std::int64_t* first = nullptr;  // [n_all + 1]
  std::int64_t* entry = nullptr;  // [n_entries]
};

// count [n_all], zero before: how often each atom is a neighbour.
struct CountSeen {
  std::int64_t n_entries = 0;
  const int* neighbor = nullptr;
  int* count = nullptr;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n_entries; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        if (base + t < n_entries) block.count_up(count + neighbor[base + t]);
      });
    }
  }
};

// The entries of each atom, in any order; count [n_all] is zero before.
struct FillSeen {
  std::int64_t n_entries = 0;
  const int* neighbor = nullptr;
  int* count = nullptr;
  TurnedList turned;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n_entries; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t entry = base + t;
        if (entry >= n_entries) return;
        const int j = neighbor[entry];
        turned.entry[turned.first[j] + block.count_up(count + j)] = entry;
      });
    }
  }
};

// Makes the order of each atom's entries ascending, so that sums over them are the same in every run. One thread per atom.
struct SortSeen {
  std::int64_t n = 0;
  TurnedList turned;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t j = base + t;
        if (j < n) sort_ascending(turned.entry + turned.first[j], turned.first[j + 1] - turned.first[j]);
      });
    }
  }
};

}  // namespace deepmd::device
