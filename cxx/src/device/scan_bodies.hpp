// Running sums over many counts: blocks add up tiles, one block adds up the tiles, blocks fill in their tiles.
#pragma once

#include "device/block.hpp"
#include "device/buffer.hpp"

namespace deepmd::device {

constexpr int kCountsEach = 16;                       // counts of a thread in one tile
constexpr int kScanTile = kThreads * kCountsEach;

// sums [kThreads + 1] in shared memory: those of the threads become what stands before each of them, counted from the
// last entry, which grows by all of them.
template <class Block>
DEEPMD_BODY void add_before(Block& block, std::int64_t* sums) {
  block.each([&](int t) {
    if (t != 0) return;
    std::int64_t before = sums[kThreads];
    for (int other = 0; other < kThreads; ++other) {
      const std::int64_t own = sums[other];
      sums[other] = before;
      before += own;
    }
    sums[kThreads] = before;
  });
}

template <class Count>
DEEPMD_BODY std::int64_t sum_of_counts(const Count* count, std::int64_t begin, std::int64_t n) {
  std::int64_t sum = 0;
  for (std::int64_t k = begin; k < begin + kCountsEach && k < n; ++k) sum += count[k];
  return sum;
}

// sums [n_tiles] of tiles of kScanTile counts.
struct SumTiles {
  std::int64_t n = 0;
  const int* count = nullptr;
  std::int64_t* sums = nullptr;

  DEEPMD_ANYWHERE std::int64_t n_tiles() const { return (n + kScanTile - 1) / kScanTile; }
  std::size_t shared_bytes() const { return Arena::bytes_of<std::int64_t>(kThreads + 1); }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    std::int64_t* own = Arena(block.shared()).take<std::int64_t>(kThreads + 1);
    for (std::int64_t tile = block.index(); tile < n_tiles(); tile += block.n_blocks()) {
      block.each([&](int t) {
        if (t == 0) own[kThreads] = 0;
        own[t] = sum_of_counts(count, tile * kScanTile + static_cast<std::int64_t>(t) * kCountsEach, n);
      });
      add_before(block, own);
      block.each([&](int t) {
        if (t == 0) sums[tile] = own[kThreads];
      });
    }
  }
};

// first[k] = sum of count before k, by one block, tile after tile; count becomes zero again.
template <class Count>
struct ScanCounts {
  std::int64_t n = 0;
  Count* count = nullptr;         // [n]
  std::int64_t* first = nullptr;  // [n + 1]

  std::size_t shared_bytes() const { return Arena::bytes_of<std::int64_t>(kThreads + 1); }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    if (block.index() != 0) return;
    std::int64_t* sums = Arena(block.shared()).take<std::int64_t>(kThreads + 1);
    block.each([&](int t) {
      if (t == 0) sums[kThreads] = 0;
    });
    for (std::int64_t base = 0; base < n; base += kScanTile) scan_tile(block, base, sums);
    block.each([&](int t) {
      if (t == 0) first[n] = sums[kThreads];
    });
  }

  // sums[kThreads] is what stands before the tile, and afterwards what stands before the next one.
  template <class Block>
  DEEPMD_BODY void scan_tile(Block& block, std::int64_t base, std::int64_t* sums) const {
    block.each([&](int t) { sums[t] = sum_of_counts(count, base + static_cast<std::int64_t>(t) * kCountsEach, n); });
    add_before(block, sums);
    block.each([&](int t) {
      std::int64_t at = sums[t];
      const std::int64_t begin = base + static_cast<std::int64_t>(t) * kCountsEach;
      for (std::int64_t k = begin; k < begin + kCountsEach && k < n; ++k) {
        first[k] = at;
        at += count[k];
        count[k] = 0;
      }
    });
  }
};

// The same by all blocks, each with what stands before its tile.
struct ScanTiles {
  ScanCounts<int> scan;
  const std::int64_t* before = nullptr;  // [n_tiles + 1]

  DEEPMD_ANYWHERE std::int64_t n_tiles() const { return (scan.n + kScanTile - 1) / kScanTile; }
  std::size_t shared_bytes() const { return scan.shared_bytes(); }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    std::int64_t* sums = Arena(block.shared()).take<std::int64_t>(kThreads + 1);
    for (std::int64_t tile = block.index(); tile < n_tiles(); tile += block.n_blocks()) {
      block.each([&](int t) {
        if (t == 0) sums[kThreads] = before[tile];
      });
      scan.scan_tile(block, tile * kScanTile, sums);
      block.each([&](int t) {
        if (t == 0 && tile + 1 == n_tiles()) scan.first[scan.n] = sums[kThreads];
      });
    }
  }
};

template <class Backend>
class Scanner {
 public:
  explicit Scanner(Backend& backend) : backend_(backend), sums_(backend), before_(backend) {}

  // first [n + 1] from count [n], which becomes zero.
  void scan(std::int64_t n, int* count, std::int64_t* first) {
    const ScanCounts<int> whole{n, count, first};
    if (n <= kScanTile) return backend_.launch_exactly(whole, 1);
    SumTiles tiles;
    tiles.n = n, tiles.count = count;
    tiles.sums = sums_.reserve(tiles.n_tiles());
    backend_.launch(tiles, tiles.n_tiles());
    backend_.launch_exactly(ScanCounts<std::int64_t>{tiles.n_tiles(), tiles.sums, before_.reserve(tiles.n_tiles() + 1)}, 1);
    backend_.launch(ScanTiles{whole, before_.data()}, tiles.n_tiles());
  }
  std::int64_t bytes() const { return sums_.bytes() + before_.bytes(); }

 private:
  Backend& backend_;
  Buffer<std::int64_t, Backend> sums_, before_;
};

}  // namespace deepmd::device
