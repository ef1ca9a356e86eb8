// Neighbours of one centre as a block of threads handles them: its listed entries are filtered in tiles of one entry per
// thread, and those inside the cutoff are moved together in shared memory.
#pragma once

#include <cmath>

#include "device/list_bodies.hpp"
#include "device/shapes.hpp"

namespace deepmd::device {

constexpr double kClosestPair2 = 0.05 * 0.05;  // Angstrom^2, as kClosestPair of model/pair_blocks.hpp
constexpr double kOutsideTable = 1e-9;         // in intervals, as kOutside of model/fused_block.cpp

// What changes from call to call without a new list; in device memory, so that a recorded call can be replayed.
struct FrameHeader {
  double cell[9] = {};
  int n_local = 0, n_all = 0;
};

// Centres order[0, n) of a chunk, with all that their neighbours need.
template <class Real>
struct PairInputs {
  const FrameHeader* frame = nullptr;
  const double* positions = nullptr;  // [n_all][3]
  const int* types = nullptr;         // [n_all]
  DeviceList list;
  const int* order = nullptr;  // [n] atoms, by type
  int n = 0;
  const CenterShape* centers = nullptr;
  const NeighborShape* neighbors = nullptr;
  const Real* numbers = nullptr;
  std::int64_t n_staged = 0;  // so many of the numbers (the tables) are copied to shared memory first; 0: none
  Cutoff cutoff{};
  int n_types = 0, sums_stride = 0, widest_table = 0;
  FrameStatus* status = nullptr;
};

// Neighbours of one tile inside the cutoff, in shared memory.
template <class Real>
struct Tile {
  unsigned* words = nullptr;  // [kWarps]
  int* offset = nullptr;      // [kThreads] each: of the interval's polynomials in the model's numbers, after `table`
  Real* u = nullptr;
  Real* row[4] = {};
  int* listed = nullptr;      // its number among the tile's entries
  double* r[3] = {};          // r_ij

  DEEPMD_BODY explicit Tile(Arena& arena) {
    words = arena.take<unsigned>(kWarps);
    offset = arena.take<int>(kThreads);
    listed = arena.take<int>(kThreads);
    u = arena.take<Real>(kThreads);
    for (int b = 0; b < 4; ++b) row[b] = arena.take<Real>(kThreads);
    for (int b = 0; b < 3; ++b) r[b] = arena.take<double>(kThreads);
  }
  static constexpr std::size_t bytes() {
    return Arena::bytes_of<unsigned>(kWarps) + 2 * Arena::bytes_of<int>(kThreads) + 5 * Arena::bytes_of<Real>(kThreads) +
           3 * Arena::bytes_of<double>(kThreads);
  }
};

struct PairVector {
  double r[3] = {};
  double r2 = 0;
};

template <class Real>
DEEPMD_BODY PairVector pair_vector(const PairInputs<Real>& in, int i, std::int64_t entry) {
  PairVector v;
  const std::int64_t j = in.list.neighbor[entry];
  for (int a = 0; a < 3; ++a) v.r[a] = in.positions[3 * j + a] - in.positions[3 * static_cast<std::int64_t>(i) + a];
  if (in.list.shift) {
    const int* shift = in.list.shift + 3 * entry;
    const double* cell = in.frame->cell;
    for (int a = 0; a < 3; ++a) v.r[a] += shift[0] * cell[a] + shift[1] * cell[3 + a] + shift[2] * cell[6 + a];
  }
  v.r2 = v.r[0] * v.r[0] + v.r[1] * v.r[1] + v.r[2] * v.r[2];
  return v;
}

// One neighbour inside the cutoff, written to place `at` of the tile.
template <class Real>
DEEPMD_BODY void write_row(const PairInputs<Real>& in, const CenterShape& center, const NeighborShape& neighbor,
                           const PairVector& v, Tile<Real>& tile, int at) {
  const RawRow raw = raw_row(sqrt(v.r2 < kClosestPair2 ? kClosestPair2 : v.r2), in.cutoff);  // closer pairs are refused
  const double row0 = (raw.s - center.davg) * center.inverse_std_r;
  const double w = raw.angular * center.inverse_std_a;
  const double x = (row0 - neighbor.lo) * neighbor.inverse_step;
  const double from_zero = x < 0.0 ? 0.0 : x;
  const double inside = from_zero > neighbor.last ? neighbor.last : from_zero;
  if (fabs(x - inside) > kOutsideTable) in.status->is_outside = 1;
  const int interval = static_cast<int>(inside);
  tile.offset[at] = interval * 6 * neighbor.width;
  tile.u[at] = static_cast<Real>(inside - interval);
  tile.row[0][at] = static_cast<Real>(row0);
  for (int a = 0; a < 3; ++a) {
    tile.row[1 + a][at] = static_cast<Real>(w * v.r[a]);
    tile.r[a][at] = v.r[a];
  }
}

// Entries [begin, begin + n), n <= kThreads, of a row: those inside the cutoff go to the tile, for the others `leave(entry)`
// is called. Returns how many are inside.
template <class Real, class Block, class Leave>
DEEPMD_BODY int collect(Block& block, const PairInputs<Real>& in, int i, const NeighborShape& neighbor, std::int64_t begin,
                        int n, Tile<Real>& tile, Leave&& leave) {
  typename Block::template PerThread<PairVector> vector;
  typename Block::template PerThread<int> is_inside;
  block.run([&](int t) {
    is_inside[t] = 0;
    if (t >= n) return;
    vector[t] = pair_vector(in, i, begin + t);
    const double r2 = vector[t].r2;
    is_inside[t] = r2 < in.cutoff.rcut * in.cutoff.rcut;
    if (r2 < kClosestPair2) in.status->is_too_close = 1;
    if (!is_inside[t]) leave(begin + t);
  });
  block.ballot(is_inside, tile.words);
  block.each([&](int t) {
    if (!is_inside[t]) return;
    const int at = flags_below(tile.words, t);
    tile.listed[at] = t;
    write_row(in, in.centers[in.types[i]], neighbor, vector[t], tile, at);
  });
  return all_flags(tile.words);
}

// The tables in shared memory if that is wanted, else where they are.
template <class Real, class Block>
DEEPMD_BODY const Real* stage_tables(Block& block, const PairInputs<Real>& in, Arena& arena) {
  if (in.n_staged == 0) return in.numbers;
  Real* staged = arena.take<Real>(static_cast<std::size_t>(in.n_staged));
  block.each([&](int t) {
    for (std::int64_t k = t; k < in.n_staged; k += kThreads) staged[k] = in.numbers[k];
  });
  return staged;
}

}  // namespace deepmd::device
