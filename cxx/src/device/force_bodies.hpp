// From pair gradients to forces, and the sums over atoms. Each number is written by one thread and added up in a fixed
// order: the same run twice gives the same bits.
#pragma once

#include "device/pair_bodies.hpp"

namespace deepmd::device {

// For the entries of centres [begin, end) of the list: forces[j] -= the gradients of the pairs in which j is the neighbour,
// and += its own sum if it is one of these centres. kLanes threads share an atom.
struct GatherForces {
  const FrameHeader* frame = nullptr;
  const std::int64_t* first = nullptr;  // of the list
  TurnedList turned;
  int begin = 0, end = 0;
  bool is_first = false, is_last = false;  // of the chunks: the first one sets what the others add to
  const double* gradient = nullptr;        // of the chunk, as ProjectNeighbors leaves it
  const double* vector = nullptr;
  const double* own_force = nullptr;
  double* forces = nullptr;       // [n_all][3]
  double* atom_virial = nullptr;  // [n_all][9] or null; needs vector

  std::size_t shared_bytes() const { return 0; }

  // The first of entries [from, to) that is not below `wanted`.
  static DEEPMD_BODY std::int64_t find(const std::int64_t* entries, std::int64_t from, std::int64_t to, std::int64_t wanted) {
    while (from < to) {
      const std::int64_t middle = (from + to) / 2;
      if (entries[middle] < wanted) {
        from = middle + 1;
      } else {
        to = middle;
      }
    }
    return from;
  }

  template <int kValues, class Block>
  DEEPMD_BODY void add_up(Block& block, std::int64_t base, typename Block::template PerThread<double>* sums) const {
    const std::int64_t first_entry = first[begin], last_entry = first[end];
    const int n_all = frame->n_all;
    block.run([&](int t) {
      for (int v = 0; v < kValues; ++v) sums[v][t] = 0.0;
      const std::int64_t j = base + t / kLanes;
      if (j >= n_all) return;
      std::int64_t from = turned.first[j], to = turned.first[j + 1];
      if (!is_first) from = find(turned.entry, from, to, first_entry);
      if (!is_last) to = find(turned.entry, from, to, last_entry);
      for (std::int64_t k = from + t % kLanes; k < to; k += kLanes) {
        const std::int64_t at = 3 * (turned.entry[k] - first_entry);
        if constexpr (kValues == 3) {
          for (int a = 0; a < 3; ++a) sums[a][t] += gradient[at + a];
        } else {
          for (int a = 0; a < 3; ++a) {
            for (int b = 0; b < 3; ++b) sums[3 * a + b][t] += gradient[at + a] * vector[at + b];
          }
        }
      }
    });
    for (int v = 0; v < kValues; ++v) block.sum_of_lanes(sums[v]);
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    const int n_all = frame->n_all;
    for (std::int64_t base = block.index() * kGroups; base < n_all; base += block.n_blocks() * kGroups) {
      if (forces) {
        typename Block::template PerThread<double> sums[3];
        add_up<3>(block, base, sums);
        block.run([&](int t) {
          const std::int64_t j = base + t / kLanes;
          if (t % kLanes != 0 || j >= n_all) return;
          for (int a = 0; a < 3; ++a) {
            double force = is_first ? 0.0 : forces[3 * j + a];
            if (j >= begin && j < end) force += own_force[3 * j + a];
            forces[3 * j + a] = force - sums[a][t];
          }
        });
      }
      if (atom_virial) {
        typename Block::template PerThread<double> sums[9];
        add_up<9>(block, base, sums);
        block.run([&](int t) {
          const std::int64_t j = base + t / kLanes;
          if (t % kLanes != 0 || j >= n_all) return;
          for (int v = 0; v < 9; ++v) atom_virial[9 * j + v] = (is_first ? 0.0 : atom_virial[9 * j + v]) - sums[v][t];
        });
      }
    }
  }
};

// Ten numbers for each of n things (the energy, nine components of the virial) added up: each block takes one part of the
// things and writes its own totals. A second launch of one block adds up the first one's totals.
struct AddUp {
  int n = 0;
  const double* energy = nullptr;  // [n * energy_stride]
  const double* virial = nullptr;  // [n * virial_stride] or null
  int energy_stride = 1, virial_stride = 9;
  double* totals = nullptr;  // [n_blocks][kValues]

  static constexpr int kValues = 10;
  static constexpr int kMostBlocks = 128;
  std::size_t shared_bytes() const {
    return Arena::bytes_of<double>(kValues * kGroups) + Arena::bytes_of<double>(kValues);
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Arena arena(block.shared());
    double* work = arena.take<double>(kValues * kGroups);
    double* total = arena.take<double>(kValues);
    const std::int64_t from = n * block.index() / block.n_blocks(), to = n * (block.index() + 1) / block.n_blocks();
    typename Block::template PerThread<double> sums[kValues];
    block.run([&](int t) {
      for (int v = 0; v < kValues; ++v) sums[v][t] = 0.0;
      for (std::int64_t i = from + t; i < to; i += kThreads) {
        sums[0][t] += energy[i * energy_stride];
        for (int v = 0; virial && v < 9; ++v) sums[1 + v][t] += virial[i * virial_stride + v];
      }
    });
    sum_over_block<kValues>(block, sums, work, total);
    block.each([&](int t) {
      if (t < kValues) totals[block.index() * kValues + t] = total[t];
    });
  }
};

}  // namespace deepmd::device
