#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace deepmd::device {

// Consecutive centres whose work fits into the memory set aside for it.
struct Chunk {
  int begin = 0, end = 0;
  std::int64_t n_entries = 0;
  std::vector<int> first_row;  // [n_types + 1] of the chunk's centres sorted by type

  int n() const { return end - begin; }
};

struct ChunkPlan {
  std::vector<Chunk> chunks;
  std::vector<int> order;  // [n_local] for each chunk from its first centre on: its atoms, by type
};

// Cuts centres [0, n) with rows first [n + 1] so that n_centers * bytes_per_center + n_entries * bytes_per_entry stays
// within the budget, with one centre at least in each chunk.
inline ChunkPlan plan_chunks(int n, const int* types, int n_types, const std::int64_t* first, std::int64_t bytes_per_center,
                             std::int64_t bytes_per_entry, std::int64_t budget) {
  ChunkPlan plan;
  plan.order.resize(static_cast<std::size_t>(n));
  for (int begin = 0; begin < n;) {
    Chunk chunk;
    chunk.begin = chunk.end = begin;
    std::int64_t bytes = 0;
    while (chunk.end < n) {
      const std::int64_t n_own = first[chunk.end + 1] - first[chunk.end];
      bytes += bytes_per_center + n_own * bytes_per_entry;
      if (bytes > budget && chunk.end > begin) break;
      chunk.n_entries += n_own;
      ++chunk.end;
    }
    chunk.first_row.assign(static_cast<std::size_t>(n_types) + 1, 0);
    for (int i = begin; i < chunk.end; ++i) ++chunk.first_row[static_cast<std::size_t>(types[i]) + 1];
    for (std::size_t t = 0; t < static_cast<std::size_t>(n_types); ++t) chunk.first_row[t + 1] += chunk.first_row[t];
    std::vector<int> next = chunk.first_row;
    for (int i = begin; i < chunk.end; ++i) plan.order[static_cast<std::size_t>(begin + next[static_cast<std::size_t>(types[i])]++)] = i;
    begin = chunk.end;
    plan.chunks.push_back(std::move(chunk));
  }
  return plan;
}

}  // namespace deepmd::device
