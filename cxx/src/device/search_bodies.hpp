// Pairs of atoms found from positions: atoms are sorted by type and bin of space, then each centre looks through the bins
// around it, type after type, so that its row comes out sorted by the neighbour's type. Periodicity is in the atoms (ghosts).
#pragma once

#include "device/list_bodies.hpp"

namespace deepmd::device {

constexpr int kFarthestBin = 2;  // bins to look at on either side; they are half a radius wide, or wider
constexpr int kBinRows = (2 * kFarthestBin + 1) * (2 * kFarthestBin + 1);

// Bins that fill the box around all atoms. A key is a bin for atoms of one type; bins along x have consecutive keys.
struct SearchGrid {
  double lo[3] = {}, inverse_edge[3] = {};
  int n_bins[3] = {1, 1, 1};
  int n_types = 1;
  double radius2 = 0;

  DEEPMD_ANYWHERE int n_cells() const { return n_bins[0] * n_bins[1] * n_bins[2]; }
  DEEPMD_ANYWHERE int n_keys() const { return n_cells() * n_types; }

  DEEPMD_BODY int bin(const double* position, int axis) const {
    const int at = static_cast<int>((position[axis] - lo[axis]) * inverse_edge[axis]);
    return at < n_bins[axis] ? at : n_bins[axis] - 1;
  }
  DEEPMD_BODY int key(int type, int x, int y, int z) const { return ((type * n_bins[2] + z) * n_bins[1] + y) * n_bins[0] + x; }
};

// Atoms sorted by key, and by number where keys are equal.
struct SortedBins {
  const std::int64_t* first = nullptr;  // [n_keys + 1]
  int* atom = nullptr;                  // [n_all]
};

// count [n_keys], zero before.
struct BinAtoms {
  SearchGrid grid;
  std::int64_t n_all = 0;
  const double* positions = nullptr;  // [n_all][3]
  const int* types = nullptr;         // [n_all]
  int *key = nullptr, *count = nullptr;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n_all; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t k = base + t;
        if (k >= n_all) return;
        const double* r = positions + 3 * k;
        key[k] = grid.key(types[k], grid.bin(r, 0), grid.bin(r, 1), grid.bin(r, 2));
        block.count_up(count + key[k]);
      });
    }
  }
};

// In any order within a key; count [n_keys] is zero before.
struct FillBins {
  std::int64_t n_all = 0;
  const int* key = nullptr;
  int* count = nullptr;
  SortedBins bins;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n_all; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t k = base + t;
        if (k < n_all) bins.atom[bins.first[key[k]] + block.count_up(count + key[k])] = static_cast<int>(k);
      });
    }
  }
};

// One thread per key.
struct SortBins {
  std::int64_t n_keys = 0;
  SortedBins bins;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < n_keys; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t k = base + t;
        if (k < n_keys) sort_ascending(bins.atom + bins.first[k], bins.first[k + 1] - bins.first[k]);
      });
    }
  }
};

// One block per centre [0, n). The first pass counts (list.neighbor is null): run and count [n] are written; the second one
// fills in the neighbours. Both go through the same candidates in the same order.
struct FindNeighbors {
  SearchGrid grid;
  int n = 0;
  const double* positions = nullptr;
  SortedBins bins;
  DeviceList list;
  int* count = nullptr;  // [n] of the first pass

  // Candidates of one type: kBinRows rows of bins along x.
  struct Candidates {
    unsigned* words = nullptr;       // [kWarps]
    std::int64_t* begin = nullptr;   // [kBinRows] of bins.atom
    int* before = nullptr;           // [kBinRows + 1] candidates in the rows before

    DEEPMD_BODY explicit Candidates(Arena& arena) {
      words = arena.take<unsigned>(kWarps);
      begin = arena.take<std::int64_t>(kBinRows);
      before = arena.take<int>(kBinRows + 1);
    }
    static constexpr std::size_t bytes() {
      return Arena::bytes_of<unsigned>(kWarps) + Arena::bytes_of<std::int64_t>(kBinRows) + Arena::bytes_of<int>(kBinRows + 1);
    }
    DEEPMD_BODY std::int64_t place(int candidate) const {
      int row = 0;
      while (before[row + 1] <= candidate) ++row;
      return begin[row] + candidate - before[row];
    }
  };
  std::size_t shared_bytes() const { return Candidates::bytes(); }

  template <class Block>
  DEEPMD_BODY void list_candidates(Block& block, const double* r, int type, const Candidates& found) const {
    block.each([&](int t) {
      if (t >= kBinRows) return;
      const int y = grid.bin(r, 1) + t % (2 * kFarthestBin + 1) - kFarthestBin, z = grid.bin(r, 2) + t / (2 * kFarthestBin + 1) - kFarthestBin;
      int n_row = 0;
      if (y >= 0 && y < grid.n_bins[1] && z >= 0 && z < grid.n_bins[2]) {
        const int x = grid.bin(r, 0), lo = x - kFarthestBin < 0 ? 0 : x - kFarthestBin;
        const int hi = x + kFarthestBin < grid.n_bins[0] ? x + kFarthestBin : grid.n_bins[0] - 1;
        found.begin[t] = bins.first[grid.key(type, lo, y, z)];
        n_row = static_cast<int>(bins.first[grid.key(type, hi, y, z) + 1] - found.begin[t]);
      }
      found.before[t + 1] = n_row;
    });
    block.each([&](int t) {
      if (t != 0) return;
      found.before[0] = 0;
      for (int row = 0; row < kBinRows; ++row) found.before[row + 1] += found.before[row];
    });
  }

  // Appends the neighbours of one type at place `at` of row i; returns where the next type begins.
  template <class Block>
  DEEPMD_BODY int find_type(Block& block, int i, int type, int at, const Candidates& found) const {
    const double* r = positions + 3 * static_cast<std::int64_t>(i);
    list_candidates(block, r, type, found);
    const int n_candidates = found.before[kBinRows];
    for (int base = 0; base < n_candidates; base += kThreads) {
      typename Block::template PerThread<int> is_near, neighbor;
      block.run([&](int t) {
        is_near[t] = 0;
        if (n_candidates - base <= t) return;
        const int j = bins.atom[found.place(base + t)];
        const double* other = positions + 3 * static_cast<std::int64_t>(j);
        const double x = other[0] - r[0], y = other[1] - r[1], z = other[2] - r[2];
        neighbor[t] = j;
        is_near[t] = j != i && x * x + y * y + z * z < grid.radius2;
      });
      block.ballot(is_near, found.words);
      const int n_near = all_flags(found.words);
      block.each([&](int t) {
        if (list.neighbor && is_near[t]) list.neighbor[list.first[i] + at + flags_below(found.words, t)] = neighbor[t];
      });
      at += n_near;
    }
    block.barrier();  // before the candidates of the next type
    return at;
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Arena arena(block.shared());
    const Candidates found(arena);
    for (std::int64_t c = block.index(); c < n; c += block.n_blocks()) {
      const int i = static_cast<int>(c);
      int* run = list.run + c * (grid.n_types + 1);
      int at = 0;
      for (int type = 0; type < grid.n_types; ++type) {
        const int begin = at;
        at = find_type(block, i, type, at, found);
        block.run([&](int t) {
          if (t == 0 && !list.neighbor) run[type] = begin;
        });
      }
      block.run([&](int t) {
        if (t != 0 || list.neighbor) return;
        run[grid.n_types] = at;
        count[c] = at;
      });
    }
  }
};

}  // namespace deepmd::device
