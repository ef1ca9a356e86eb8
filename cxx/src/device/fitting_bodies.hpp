// From sums over neighbours to energies and back: products of columns, matrix products with what follows them, and the
// output. Rows are centres of one type.
#pragma once

#include <cmath>

#include "device/block.hpp"
#include "device/shapes.hpp"
#include "kernels/activation_math.hpp"

namespace deepmd::device {

// Inputs of the fitting network, as kernels/products.hpp says; the parameters of frame and atom follow.
template <class Real>
struct MakeProducts {
  std::int64_t n_rows = 0;
  int n = 0, axis = 0, n_x = 0, n_extra = 0;
  const Real* t = nullptr;  // [n_rows][4][t_stride]
  int t_stride = 0;
  const double* extra = nullptr;  // [n_local][n_extra], normalised
  const int* atoms = nullptr;     // [n_rows]
  Real* x = nullptr;              // [n_rows][x_stride]
  int x_stride = 0;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t c = block.index(); c < n_rows; c += block.n_blocks()) {
      const Real* own = t + c * 4 * t_stride;
      Real* to = x + c * x_stride;
      block.run([&](int thread) {
        for (int a = thread / kWarp; a < axis; a += kWarps) {
          const Real t0 = own[a], t1 = own[t_stride + a], t2 = own[2 * t_stride + a], t3 = own[3 * t_stride + a];
          const int row = a * n - a * (a - 1) / 2 - a;  // where (a, q) is, less q
          for (int q = a + thread % kWarp; q < n; q += kWarp) {
            to[row + q] = own[q] * t0 + own[t_stride + q] * t1 + own[2 * t_stride + q] * t2 + own[3 * t_stride + q] * t3;
          }
        }
        for (int k = thread; k < n_extra; k += kThreads) {
          to[n_x + k] = static_cast<Real>(extra[static_cast<std::int64_t>(atoms[c]) * n_extra + k]);
        }
      });
    }
  }
};

// From dE/dx to dE/dt; zero in the columns from n on, which are those of channels that fill up the tables.
template <class Real>
struct ProductsBack {
  std::int64_t n_rows = 0;
  int n = 0, axis = 0;
  const Real* t = nullptr;  // [n_rows][4][t_stride]
  int t_stride = 0;
  const Real* g_x = nullptr;
  int x_stride = 0;
  Real* g_t = nullptr;  // [n_rows][4][t_stride]

  std::size_t shared_bytes() const { return Arena::bytes_of<Real>(4 * static_cast<std::size_t>(n)); }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Real* own = Arena(block.shared()).template take<Real>(4 * static_cast<std::size_t>(n));
    for (std::int64_t c = block.index(); c < n_rows; c += block.n_blocks()) {
      const Real* from = t + c * 4 * t_stride;
      const Real* g = g_x + c * x_stride;
      Real* to = g_t + c * 4 * t_stride;
      block.each([&](int thread) {
        for (int k = thread; k < 4 * n; k += kThreads) own[k] = from[static_cast<std::int64_t>(k / n) * t_stride + k % n];
      });
      block.each([&](int thread) {
        for (int q = thread; q < t_stride; q += kThreads) {
          Real sum[4] = {};
          for (int a = 0; a <= q && a < axis && q < n; ++a) {  // the pair (a, q)
            const Real factor = g[a * n - a * (a - 1) / 2 - a + q];
            for (int b = 0; b < 4; ++b) sum[b] += factor * own[b * n + a];
          }
          for (int p = q; q < axis && p < n; ++p) {  // the pairs (q, p)
            const Real factor = g[q * n - q * (q - 1) / 2 - q + p];
            for (int b = 0; b < 4; ++b) sum[b] += factor * own[b * n + p];
          }
          for (int b = 0; b < 4; ++b) to[static_cast<std::int64_t>(b) * t_stride + q] = sum[b];
        }
      });
    }
  }
};

// What follows a product, element by element: finish(row, column, value). A device may multiply by a library and then apply
// this in a pass of its own.

// c = value, or c += value.
template <class Real>
struct Store {
  Real* c = nullptr;
  int stride = 0;
  bool add = false;

  DEEPMD_BODY void operator()(std::int64_t row, int column, Real value) const {
    Real& to = c[row * stride + column];
    to = add ? to + value : value;
  }
};

// h = act(value + bias) * idt + skip, slope = act' * idt.
template <class Real>
struct Activate {
  Activation kind = Activation::tanh;
  double threshold = 3.0;
  const Real *bias = nullptr, *idt = nullptr;  // [n_out], idt may be null
  const Real* skip = nullptr;                  // [rows][stride] the layer's inputs, or null
  int n_in = 0;                                // column of the skip: modulo n_in
  Real *h = nullptr, *slope = nullptr;
  int stride = 0;

  DEEPMD_BODY void operator()(std::int64_t row, int column, Real value) const {
    const Real z = value + bias[column];
    Real y, s;
    if (kind == Activation::tanh) {
      y = std::tanh(z);
      s = Real(1) - y * y;
    } else {
      const ValueAndSlope f = value_and_slope(kind, threshold, static_cast<double>(z));
      y = static_cast<Real>(f.value), s = static_cast<Real>(f.slope);
    }
    if (idt) y *= idt[column], s *= idt[column];
    if (skip) y += skip[row * stride + column % n_in];
    h[row * stride + column] = y;
    slope[row * stride + column] = s;
  }
};

// value = dE/d(inputs) of a layer but for its skip; these are the outputs of the layer before. g [rows][stride] holds
// dE/d(outputs) and gets dE/d(inputs) in g_in; g_pre gets it times the slope of the layer before.
template <class Real>
struct PassBack {
  int skip = 0, n_in = 0;
  const Real* g = nullptr;
  const Real* slope = nullptr;  // of the layer before
  Real *g_in = nullptr, *g_pre = nullptr;
  int stride = 0;

  DEEPMD_BODY void operator()(std::int64_t row, int column, Real value) const {
    const std::int64_t at = row * stride + column;
    if (skip >= 1) value += g[at];
    if (skip == 2) value += g[at + n_in];
    g_in[at] = value;
    g_pre[at] = value * slope[at];
  }
};

// c [m][n] = a [m][lda] w [k][n], followed by `finish`. A block makes a tile of kRows x kColumns.
template <class Real>
struct Product {
  std::int64_t m = 0;
  int n = 0, k = 0;
  const Real* a = nullptr;
  int lda = 0;
  const Real* w = nullptr;
};

template <class Real, class Finish>
struct MultiplyTiles {
  Product<Real> p;
  Finish finish;

  static constexpr int kRows = 64, kColumns = 64, kDepth = 16;
  static constexpr int kOwnRows = 8, kOwnColumns = 4;  // of a thread
  static_assert(kRows * kColumns == kThreads * kOwnRows * kOwnColumns, "a tile is cut evenly");

  std::size_t shared_bytes() const { return Arena::bytes_of<Real>(kDepth * (kRows + 1)) + Arena::bytes_of<Real>(kDepth * kColumns); }
  DEEPMD_ANYWHERE std::int64_t n_tiles() const { return (p.m + kRows - 1) / kRows * ((p.n + kColumns - 1) / kColumns); }

  DEEPMD_BODY void load(int t, std::int64_t row, int column, int depth, Real* a, Real* w) const {
    for (int e = t; e < kRows * kDepth; e += kThreads) {
      const int r = e / kDepth, d = e % kDepth;
      a[d * (kRows + 1) + r] = row + r < p.m && depth + d < p.k ? p.a[(row + r) * p.lda + depth + d] : Real(0);
    }
    for (int e = t; e < kDepth * kColumns; e += kThreads) {
      const int d = e / kColumns, c = e % kColumns;
      w[e] = column + c < p.n && depth + d < p.k ? p.w[static_cast<std::int64_t>(depth + d) * p.n + column + c] : Real(0);
    }
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    Arena arena(block.shared());
    Real* a = arena.template take<Real>(kDepth * (kRows + 1));
    Real* w = arena.template take<Real>(kDepth * kColumns);
    const int n_columns = (p.n + kColumns - 1) / kColumns;
    constexpr int kAcross = kColumns / kOwnColumns;  // threads along a row of the tile
    for (std::int64_t tile = block.index(); tile < n_tiles(); tile += block.n_blocks()) {
      const std::int64_t row = tile / n_columns * kRows;
      const int column = static_cast<int>(tile % n_columns) * kColumns;
      typename Block::template PerThread<Real> sum[kOwnRows * kOwnColumns];
      block.run([&](int t) {
        for (int e = 0; e < kOwnRows * kOwnColumns; ++e) sum[e][t] = Real(0);
      });
      for (int depth = 0; depth < p.k; depth += kDepth) {
        block.each([&](int t) { load(t, row, column, depth, a, w); });
        block.each([&](int t) {
          for (int d = 0; d < kDepth; ++d) {
            Real factor[kOwnColumns];
            DEEPMD_UNROLL
            for (int c = 0; c < kOwnColumns; ++c) factor[c] = w[d * kColumns + t % kAcross + c * kAcross];
            DEEPMD_UNROLL
            for (int r = 0; r < kOwnRows; ++r) {
              const Real x = a[d * (kRows + 1) + t / kAcross * kOwnRows + r];
              DEEPMD_UNROLL
              for (int c = 0; c < kOwnColumns; ++c) sum[r * kOwnColumns + c][t] += x * factor[c];
            }
          }
        });
      }
      block.run([&](int t) {
        DEEPMD_UNROLL
        for (int e = 0; e < kOwnRows * kOwnColumns; ++e) {
          const std::int64_t to_row = row + t / kAcross * kOwnRows + e / kOwnColumns;
          const int to_column = column + t % kAcross + e % kOwnColumns * kAcross;
          if (to_row < p.m && to_column < p.n) finish(to_row, to_column, sum[e][t]);
        }
      });
    }
  }
};

// `finish` alone, for values [m][n] of a product that a library made.
template <class Real, class Finish>
struct FinishElements {
  std::int64_t m = 0;
  int n = 0;
  const Real* values = nullptr;
  Finish finish;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t row = block.index(); row < m; row += block.n_blocks()) {
      block.run([&](int t) {
        for (int column = t; column < n; column += kThreads) finish(row, column, values[row * n + column]);
      });
    }
  }
};

// atom_energy[atoms[row]] = x . out + shift, in double precision; kLanes threads share a row.
template <class Real>
struct SumOutput {
  std::int64_t n_rows = 0;
  int n = 0;
  const Real* x = nullptr;
  int stride = 0;
  const Real* out = nullptr;  // [n]
  double shift = 0;
  const int* atoms = nullptr;  // [n_rows]
  double* atom_energy = nullptr;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kGroups; base < n_rows; base += block.n_blocks() * kGroups) {
      typename Block::template PerThread<double> sum;
      block.run([&](int t) {
        sum[t] = 0.0;
        const std::int64_t row = base + t / kLanes;
        if (row >= n_rows) return;
        for (int c = t % kLanes; c < n; c += kLanes) {
          sum[t] += static_cast<double>(x[row * stride + c]) * static_cast<double>(out[c]);
        }
      });
      block.sum_of_lanes(sum);
      block.run([&](int t) {
        const std::int64_t row = base + t / kLanes;
        if (t % kLanes == 0 && row < n_rows) atom_energy[atoms[row]] = sum[t] + shift;
      });
    }
  }
};

// The way back begins: g = out, and g_pre = out * slope where there is a hidden layer.
template <class Real>
struct SeedGradient {
  std::int64_t n_rows = 0;
  int n = 0;
  const Real* out = nullptr;
  const Real* slope = nullptr;  // null: no hidden layer, then g_pre is not written
  Real *g = nullptr, *g_pre = nullptr;
  int stride = 0;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t row = block.index(); row < n_rows; row += block.n_blocks()) {
      block.run([&](int t) {
        for (int c = t; c < n; c += kThreads) {
          g[row * stride + c] = out[c];
          if (slope) g_pre[row * stride + c] = out[c] * slope[row * stride + c];
        }
      });
    }
  }
};

}  // namespace deepmd::device
