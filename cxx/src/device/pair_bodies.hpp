// The two passes over neighbours, one block per centre. Nothing per neighbour but the pair's gradient leaves the block.
#pragma once

#include "device/tile.hpp"

namespace deepmd::device {

// First pass: sums[c][b][m] = sum_j row[b] c_m of centre order[c], empty slots included.
template <class Real>
struct SumNeighbors {
  PairInputs<Real> in;
  Real* sums = nullptr;  // [n][4][sums_stride]

  static constexpr int kSlots = 4;  // channels of a thread at a time
  std::size_t shared_bytes() const {
    return Tile<Real>::bytes() + Arena::bytes_of<Real>(4 * kSlots * kThreads) +
           Arena::bytes_of<Real>(static_cast<std::size_t>(in.n_staged));
  }

  template <class Block>
  using Own = typename Block::template PerThread<Real>;

  // own[b * kSlots + s] += sum over the tile's neighbours of the thread's group.
  template <class Block>
  DEEPMD_BODY void add_tile(Block& block, const Tile<Real>& tile, const Real* table, int width, int m0, int lanes, int n,
                            Own<Block>* own) const {
    block.each([&](int t) {
      const int lane = t % lanes, groups = kThreads / lanes;
      for (int k = t / lanes; k < n; k += groups) {
        const Real* c = table + tile.offset[k];
        const Real u = tile.u[k], r0 = tile.row[0][k], r1 = tile.row[1][k], r2 = tile.row[2][k], r3 = tile.row[3][k];
DEEPMD_UNROLL
        for (int s = 0; s < kSlots; ++s) {
          const int m = m0 + lane + s * lanes;
          if (m >= width) break;
          Real value = c[5 * width + m];
DEEPMD_UNROLL
          for (int d = 4; d >= 0; --d) value = value * u + c[d * width + m];
          own[s][t] += value * r0;
          own[kSlots + s][t] += value * r1;
          own[2 * kSlots + s][t] += value * r2;
          own[3 * kSlots + s][t] += value * r3;
        }
      }
    });
  }

  // Neighbours of one type, for channels from m0 on.
  template <class Block>
  DEEPMD_BODY void add_type(Block& block, int i, int type, const Real* tables, Tile<Real>& tile, int m0, int lanes,
                            Own<Block>* own) const {
    const NeighborShape& neighbor = in.neighbors[in.types[i] * in.n_types + type];
    const int* run = in.list.run + static_cast<std::int64_t>(i) * (in.n_types + 1);
    const int n_listed = neighbor.exists ? run[type + 1] - run[type] : 0;
    const std::int64_t begin = in.list.first[i] + run[type];
    int n_counted = 0;
    for (int at = 0; at < n_listed; at += kThreads) {
      const int n = n_listed - at < kThreads ? n_listed - at : kThreads;
      const int n_inside = collect(block, in, i, neighbor, begin + at, n, tile, [](std::int64_t) {});
      n_counted += n_inside;
      if (neighbor.is_kept) add_tile(block, tile, tables + neighbor.table, neighbor.width, m0, lanes, n_inside, own);
      block.barrier();  // the tile is about to be written again
    }
    block.run([&](int t) {
      if (t >= lanes) return;
      const Real n_empty = static_cast<Real>(neighbor.sel - n_counted);
      DEEPMD_UNROLL
      for (int s = 0; s < kSlots; ++s) {
        const int m = m0 + t + s * lanes;
        if (m < neighbor.width) own[s][t] += n_empty * in.numbers[neighbor.phantom + m];
      }
    });
  }

  // Adds up the groups; to: the centre's sums at the first of these channels.
  template <class Block>
  DEEPMD_BODY void store(Block& block, Own<Block>* own, int lanes, int n_channels, Real* work, Real* to) const {
    const int span = lanes * kSlots;
    block.each([&](int t) {
      DEEPMD_UNROLL
      for (int b = 0; b < 4; ++b) {
        DEEPMD_UNROLL
        for (int s = 0; s < kSlots; ++s) work[(t / lanes * 4 + b) * span + s * lanes + t % lanes] = own[b * kSlots + s][t];
      }
    });
    block.each([&](int t) {
      for (int k = t; k < 4 * n_channels; k += kThreads) {
        const int b = k / n_channels, m = k % n_channels;
        Real sum = 0;
        for (int g = 0; g < kThreads / lanes; ++g) sum += work[(g * 4 + b) * span + m];
        to[static_cast<std::int64_t>(b) * in.sums_stride + m] = sum;
      }
    });
  }

  // All types from `type` on whose channels are added to the same columns; returns the first that is not.
  template <class Block>
  DEEPMD_BODY int sum_columns(Block& block, int i, int type, const Real* tables, Tile<Real>& tile, Real* work, Real* to) const {
    const NeighborShape* neighbors = in.neighbors + in.types[i] * in.n_types;
    int end = type + 1;
    while (end < in.n_types && neighbors[end].column == neighbors[type].column) ++end;
    int width = 0;
    for (int t = type; t < end; ++t) width = neighbors[t].width > width ? neighbors[t].width : width;
    const int lanes = width <= kLanes * kSlots ? kLanes : kWarp;
    for (int m0 = 0; m0 < width; m0 += lanes * kSlots) {
      Own<Block> own[4 * kSlots];
      block.run([&](int t) {
        for (int k = 0; k < 4 * kSlots; ++k) own[k][t] = Real(0);
      });
      for (int t = type; t < end; ++t) add_type(block, i, t, tables, tile, m0, lanes, own);
      const int n_channels = width - m0 < lanes * kSlots ? width - m0 : lanes * kSlots;
      store(block, own, lanes, n_channels, work, to + neighbors[type].column + m0);
    }
    return end;
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Arena arena(block.shared());
    Tile<Real> tile(arena);
    Real* work = arena.template take<Real>(4 * kSlots * kThreads);
    const Real* tables = stage_tables(block, in, arena);
    for (std::int64_t c = block.index(); c < in.n; c += block.n_blocks()) {
      Real* to = sums + c * 4 * in.sums_stride;
      for (int type = 0; type < in.n_types;) type = sum_columns(block, in.order[c], type, tables, tile, work, to);
    }
  }
};

// Second pass: the gradient of each listed pair, zero beyond the cutoff, and what a centre's pairs add up to.
template <class Real>
struct ProjectNeighbors {
  PairInputs<Real> in;
  const Real* g = nullptr;        // [n][4][sums_stride] dE/d(sums)
  double* gradient = nullptr;     // [entries of the chunk][3] dE/dr_ij; the first entry is that of centre `begin`
  double* vector = nullptr;       // the same of r_ij, or null
  int begin = 0;                  // the chunk's first atom
  double* own_force = nullptr;    // [n_local][3] sum of the gradients of each centre's pairs
  double* own_virial = nullptr;   // [n_local][9] -sum of g[a] r_ij[b]

  static constexpr int kTotals = 12;
  std::size_t shared_bytes() const {
    return Tile<Real>::bytes() + Arena::bytes_of<Real>(4 * static_cast<std::size_t>(in.widest_table)) +
           4 * Arena::bytes_of<Real>(kThreads) + Arena::bytes_of<double>(kTotals * kGroups) +
           Arena::bytes_of<double>(kTotals) + Arena::bytes_of<Real>(static_cast<std::size_t>(in.n_staged));
  }

  struct Shared {
    Real* g = nullptr;         // [4][widest_table]
    Real* d_row[4] = {};       // [kThreads]
    double *work = nullptr, *total = nullptr;
  };

  template <class Block>
  using Own = typename Block::template PerThread<double>;

  // d_row[b][k] = dE/d(row[b]) of the tile's neighbours: kLanes threads share one.
  template <class Block>
  DEEPMD_BODY void project_tile(Block& block, const NeighborShape& neighbor, const Real* tables, const Tile<Real>& tile, int n,
                                const Shared& shared) const {
    const int width = neighbor.width;
    const Real inverse_step = static_cast<Real>(neighbor.inverse_step);
    for (int k0 = 0; k0 < n; k0 += kGroups) {
      typename Block::template PerThread<Real> d[4];
      block.run([&](int t) {
        for (int b = 0; b < 4; ++b) d[b][t] = Real(0);
        const int k = k0 + t / kLanes;
        if (k >= n) return;
        const Real* c = tables + neighbor.table + tile.offset[k];
        const Real u = tile.u[k], r0 = tile.row[0][k], r1 = tile.row[1][k], r2 = tile.row[2][k], r3 = tile.row[3][k];
        Real s0 = 0, s1 = 0, s2 = 0, s3 = 0, slopes = 0;
        for (int m = t % kLanes; m < width; m += kLanes) {
          Real value = c[5 * width + m], slope = value;
          value = value * u + c[4 * width + m];
DEEPMD_UNROLL
          for (int p = 3; p >= 0; --p) {
            slope = slope * u + value;
            value = value * u + c[p * width + m];
          }
          const Real g0 = shared.g[m], g1 = shared.g[width + m], g2 = shared.g[2 * width + m], g3 = shared.g[3 * width + m];
          s0 += value * g0, s1 += value * g1, s2 += value * g2, s3 += value * g3;
          slopes += slope * (g0 * r0 + g1 * r1 + g2 * r2 + g3 * r3);
        }
        d[0][t] = s0 + slopes * inverse_step, d[1][t] = s1, d[2][t] = s2, d[3][t] = s3;
      });
      for (int b = 0; b < 4; ++b) block.sum_of_lanes(d[b]);
      block.run([&](int t) {
        const int k = k0 + t / kLanes, b = t % kLanes;
        if (k >= n || b >= 4) return;
        shared.d_row[b][k] = b == 0 ? d[0][t] : b == 1 ? d[1][t] : b == 2 ? d[2][t] : d[3][t];
      });
    }
    block.barrier();
  }

  // From dE/d(row) to dE/dr_ij for neighbour k of the tile.
  DEEPMD_BODY void chain_rule(const CenterShape& center, const Tile<Real>& tile, int k, const Shared& shared, double* pair) const {
    const double r[3] = {tile.r[0][k], tile.r[1][k], tile.r[2][k]};
    const double d[3] = {static_cast<double>(shared.d_row[1][k]), static_cast<double>(shared.d_row[2][k]),
                         static_cast<double>(shared.d_row[3][k])};
    const double r2 = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
    const double distance = sqrt(r2 < kClosestPair2 ? kClosestPair2 : r2);
    const RawRow raw = raw_row(distance, in.cutoff);
    const double along = r[0] * d[0] + r[1] * d[1] + r[2] * d[2];
    const double radial = (static_cast<double>(shared.d_row[0][k]) * raw.d_s_d_r * center.inverse_std_r +
                           along * raw.d_angular_d_r * center.inverse_std_a) / distance;
    for (int a = 0; a < 3; ++a) pair[a] = radial * r[a] + raw.angular * center.inverse_std_a * d[a];
  }

  DEEPMD_BODY void clear_entry(std::int64_t entry) const {
    const std::int64_t to = 3 * (entry - in.list.first[begin]);
    for (int a = 0; a < 3; ++a) {
      gradient[to + a] = 0.0;
      if (vector) vector[to + a] = 0.0;
    }
  }

  template <class Block>
  DEEPMD_BODY void finish_tile(Block& block, int i, std::int64_t first_entry, const Tile<Real>& tile, int n, const Shared& shared,
                               Own<Block>* totals) const {
    block.each([&](int t) {
      if (t >= n) return;
      double pair[3];
      chain_rule(in.centers[in.types[i]], tile, t, shared, pair);
      const std::int64_t to = 3 * (first_entry + tile.listed[t] - in.list.first[begin]);
      for (int a = 0; a < 3; ++a) {
        gradient[to + a] = pair[a];
        if (vector) vector[to + a] = tile.r[a][t];
        totals[a][t] += pair[a];
        for (int b = 0; b < 3; ++b) totals[3 + 3 * a + b][t] -= pair[a] * tile.r[b][t];
      }
    });
  }

  template <class Block>
  DEEPMD_BODY void project_type(Block& block, std::int64_t c, int type, const Real* tables, Tile<Real>& tile, const Shared& shared,
                                Own<Block>* totals) const {
    const int i = in.order[c];
    const NeighborShape& neighbor = in.neighbors[in.types[i] * in.n_types + type];
    const int* run = in.list.run + static_cast<std::int64_t>(i) * (in.n_types + 1);
    const int n_listed = run[type + 1] - run[type];
    const std::int64_t first_entry = in.list.first[i] + run[type];
    if (!neighbor.exists || !neighbor.is_kept) {
      block.run([&](int t) {
        for (int k = t; k < n_listed; k += kThreads) clear_entry(first_entry + k);
      });
      return;
    }
    const Real* own = g + c * 4 * in.sums_stride + neighbor.column;
    block.each([&](int t) {
      for (int k = t; k < 4 * neighbor.width; k += kThreads) {
        shared.g[k] = own[static_cast<std::int64_t>(k / neighbor.width) * in.sums_stride + k % neighbor.width];
      }
    });
    for (int at = 0; at < n_listed; at += kThreads) {
      const int n = n_listed - at < kThreads ? n_listed - at : kThreads;
      const int n_inside = collect(block, in, i, neighbor, first_entry + at, n, tile,
                                   [&](std::int64_t entry) { clear_entry(entry); });
      project_tile(block, neighbor, tables, tile, n_inside, shared);
      finish_tile(block, i, first_entry + at, tile, n_inside, shared, totals);
    }
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Arena arena(block.shared());
    Tile<Real> tile(arena);
    Shared shared;
    shared.g = arena.template take<Real>(4 * static_cast<std::size_t>(in.widest_table));
    for (int b = 0; b < 4; ++b) shared.d_row[b] = arena.template take<Real>(kThreads);
    shared.work = arena.template take<double>(kTotals * kGroups);
    shared.total = arena.template take<double>(kTotals);
    const Real* tables = stage_tables(block, in, arena);
    for (std::int64_t c = block.index(); c < in.n; c += block.n_blocks()) {
      const std::int64_t i = in.order[c];
      Own<Block> totals[kTotals];
      block.run([&](int t) {
        for (int k = 0; k < kTotals; ++k) totals[k][t] = 0.0;
      });
      for (int type = 0; type < in.n_types; ++type) project_type(block, c, type, tables, tile, shared, totals);
      sum_over_block<kTotals>(block, totals, shared.work, shared.total);
      block.each([&](int t) {
        if (t < 3) own_force[3 * i + t] = shared.total[t];
        if (t >= 3 && t < kTotals) own_virial[9 * i + t - 3] = shared.total[t];
      });
    }
  }
};

}  // namespace deepmd::device
