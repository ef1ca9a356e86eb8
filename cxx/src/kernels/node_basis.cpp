#include "kernels/node_basis.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/lanes.hpp"

namespace deepmd {
namespace {

// The components of a row are value[0], value[1] x, value[1] y, value[1] z; slope: d(value)/dr.
struct Row {
  double value[2];
  double slope[2];
};

// Rows and Chebyshev argument of one pair.
struct PairValues {
  double inverse_r;  // 0 for atoms on top of each other
  double z;
  double d_z;   // dz/dr
  Row row[2];   // R and, where it is asked for, w R
};

inline PairValues pair_values(const NodeBasis& basis, const double* v, int t_i, int t_j) {
  PairValues p;
  const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  p.inverse_r = r > 0.0 ? 1.0 / r : 0.0;
  const RawRow raw = raw_row(r, basis.cutoff);
  const double keep = basis.keep[t_i * basis.n_types + t_j];
  const double std_r = basis.inv_std_r[t_i] * keep, std_a = basis.inv_std_a[t_i] * keep;
  const Row row = {{(raw.s - basis.davg[t_i]) * std_r, raw.angular * std_a},
                   {raw.d_s_d_r * std_r, raw.d_angular_d_r * std_a}};
  const double lo = basis.lo[t_i * basis.n_types + t_j], hi = basis.hi[t_i * basis.n_types + t_j];
  const double scale = 2.0 / (hi - lo);
  p.z = (row.value[0] - lo) * scale - 1.0;
  p.d_z = row.slope[0] * scale;
  p.row[0] = basis.n_rows == 1 ? Row{{1.0, 0.0}, {0.0, 0.0}} : row;
  if (basis.switched) {
    double w, d_w;
    switch_function(r, basis.cutoff, w, d_w);
    for (int k = 0; k < 2; ++k) {
      p.row[1].value[k] = w * p.row[0].value[k];
      p.row[1].slope[k] = w * p.row[0].slope[k] + d_w * p.row[0].value[k];
    }
  }
  return p;
}

// The running block of T_q (and T_q') in a sweep over q: T_{q+8} = 2 T_8 T_q - T_{q-8}, with T_{-q} = T_q.
struct ChebyshevBlock {
  Lanes value, before, slope, slope_before;
  double twice, d_twice;
};

DEEPMD_INLINE ChebyshevBlock first_block(double z) {
  const double t2 = 2.0 * z * z - 1.0, t3 = 2.0 * z * t2 - z, t4 = 2.0 * t2 * t2 - 1.0, t5 = 2.0 * t2 * t3 - z;
  const double t6 = 2.0 * t3 * t3 - 1.0, t7 = 2.0 * t3 * t4 - z, t8 = 2.0 * t4 * t4 - 1.0;
  const double d2 = 4.0 * z, d3 = 2.0 * t2 + 2.0 * z * d2 - 1.0, d4 = 4.0 * t2 * d2;
  const double d5 = 2.0 * (d2 * t3 + t2 * d3) - 1.0, d6 = 4.0 * t3 * d3, d7 = 2.0 * (d3 * t4 + t3 * d4) - 1.0;
  const double d8 = 4.0 * t4 * d4;
  ChebyshevBlock t;
  t.value = Lanes{1.0, z, t2, t3, t4, t5, t6, t7};
  t.before = Lanes{t8, t7, t6, t5, t4, t3, t2, z};
  t.slope = Lanes{0.0, 1.0, d2, d3, d4, d5, d6, d7};
  t.slope_before = Lanes{d8, d7, d6, d5, d4, d3, d2, 1.0};
  t.twice = 2.0 * t8;
  t.d_twice = 2.0 * d8;
  return t;
}

DEEPMD_INLINE void advance(ChebyshevBlock& t) {
  const Lanes value = t.twice * t.value - t.before;
  t.before = t.value;
  t.value = value;
}

DEEPMD_INLINE void advance_with_slope(ChebyshevBlock& t) {
  const Lanes slope = t.d_twice * t.value + t.twice * t.slope - t.slope_before;
  t.slope_before = t.slope;
  t.slope = slope;
  advance(t);
}

// b[a][q] += row[a] T_q(z), the N rows of b `stride` apart.
template <int N>
DEEPMD_INLINE void accumulate_rows(double z, const double* row, int n, std::int64_t stride, double* b) {
  ChebyshevBlock t = first_block(z);
  for (int q = 0; q < n; q += kLanes) {
    for (int a = 0; a < N; ++a) store(b + a * stride + q, load(b + a * stride + q) + row[a] * t.value);
    advance(t);
  }
}

// sums[a] = sum_q h[a][q] T_q(z), slopes[a] the same with T_q'.
template <int N>
DEEPMD_INLINE void contract_rows(double z, const double* h, int n, std::int64_t stride, double* sums, double* slopes) {
  ChebyshevBlock t = first_block(z);
  Lanes s[N] = {}, d[N] = {};
  for (int q = 0; q < n; q += kLanes) {
    for (int a = 0; a < N; ++a) {
      const Lanes own = load(h + a * stride + q);
      s[a] += own * t.value;
      d[a] += own * t.slope;
    }
    advance_with_slope(t);
  }
  for (int a = 0; a < N; ++a) {
    sums[a] = total(s[a]);
    slopes[a] = total(d[a]);
  }
}

// d_h[a][q] += d_row[a] T_q(z) + row_slope[a] T_q'(z)
template <int N>
DEEPMD_INLINE void tangent_rows(double z, const double* d_row, const double* row_slope, int n, std::int64_t stride,
                                double* d_h) {
  ChebyshevBlock t = first_block(z);
  for (int q = 0; q < n; q += kLanes) {
    for (int a = 0; a < N; ++a) {
      double* target = d_h + a * stride + q;
      store(target, load(target) + d_row[a] * t.value + row_slope[a] * t.slope);
    }
    advance_with_slope(t);
  }
}

// The same, compiled for each instruction set.
DEEPMD_CLONES void accumulate(double z, const double* row, int n, std::int64_t stride, int n_rows, double* b) {
  n_rows == 1 ? accumulate_rows<1>(z, row, n, stride, b) : accumulate_rows<4>(z, row, n, stride, b);
}

DEEPMD_CLONES void contract(double z, const double* h, int n, std::int64_t stride, int n_rows, double* sums,
                            double* slopes) {
  n_rows == 1 ? contract_rows<1>(z, h, n, stride, sums, slopes) : contract_rows<4>(z, h, n, stride, sums, slopes);
}

DEEPMD_CLONES void accumulate_tangent(double z, const double* d_row, const double* row_slope, int n,
                                      std::int64_t stride, int n_rows, double* d_h) {
  n_rows == 1 ? tangent_rows<1>(z, d_row, row_slope, n, stride, d_h)
              : tangent_rows<4>(z, d_row, row_slope, n, stride, d_h);
}

// The slots that hold no neighbour have the entry -davg / dstd, no direction, and the switch 0.
void add_phantoms(const NodeBasis& basis, int t_i, const int* counts, std::int64_t stride, double* b) {
  const double entry = -basis.davg[t_i] * basis.inv_std_r[t_i];
  if (entry == 0.0 && basis.n_rows > 1) return;
  int taken = 0;
  for (int t = 0; t < basis.n_types; ++t) taken += counts[t];
  for (int t = 0; t < (basis.pooled ? 1 : basis.n_types); ++t) {
    const double lo = basis.lo[t_i * basis.n_types + t], hi = basis.hi[t_i * basis.n_types + t];
    const double n_empty = basis.sel[t] - (basis.pooled ? taken : counts[t]);
    const double row[4] = {n_empty * (basis.n_rows == 1 ? 1.0 : entry), 0.0, 0.0, 0.0};
    accumulate((entry - lo) * 2.0 / (hi - lo) - 1.0, row, basis.n_nodes, stride, basis.n_rows,
               b + static_cast<std::int64_t>(t) * basis.n_nodes);
  }
}

// Whether the pair has no part in the sums: the row of an excluded pair is zero, and so is its derivative.
inline bool absent(const NodeBasis& basis, int t_i, int t_j) {
  return basis.n_rows > 1 && basis.keep[t_i * basis.n_types + t_j] == 0.0;
}

// Where the columns of a pair begin.
inline std::int64_t column(const NodeBasis& basis, int group, int t_j) {
  return (static_cast<std::int64_t>(group) * basis.n_types + t_j) * basis.n_nodes;
}

}  // namespace

std::int64_t node_sum(const NodeBasis& basis, const PairBatch& batch, double* b) {
  const std::int64_t stride = basis.n_columns();
  std::int64_t outside = 0;
  for (int i = 0; i < batch.n_centers; ++i) {
    double* own = b + i * basis.n_rows * stride;
    std::fill(own, own + basis.n_rows * stride, 0.0);
    std::vector<int> counts(basis.n_types, 0);
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      ++counts[t_j];
      if (absent(basis, t_i, t_j)) continue;
      const double* v = batch.vectors + 3 * p;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      if (!(pair.z <= 1.0 + 1e-9 && pair.z >= -1.0 - 1e-9)) ++outside;
      const double z = std::min(1.0, std::max(-1.0, pair.z));
      for (int k = 0; k < basis.n_groups(); ++k) {
        const double* value = pair.row[k].value;
        const double row[4] = {value[0], value[1] * v[0], value[1] * v[1], value[1] * v[2]};
        accumulate(z, row, basis.n_nodes, stride, basis.n_rows, own + column(basis, k, t_j));
      }
    }
    add_phantoms(basis, t_i, counts.data(), stride, own);
  }
  return outside;
}

void node_gradient(const NodeBasis& basis, const PairBatch& batch, const double* h, double* gradient) {
  const std::int64_t stride = basis.n_columns();
  for (int i = 0; i < batch.n_centers; ++i) {
    double sums[4] = {}, slopes[4] = {};
    const double* own = h + i * basis.n_rows * stride;
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      const double* v = batch.vectors + 3 * p;
      double* g = gradient + 3 * p;
      g[0] = g[1] = g[2] = 0.0;
      if (absent(basis, t_i, t_j)) continue;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      double radial = 0.0;  // what multiplies the unit vector
      for (int k = 0; k < basis.n_groups(); ++k) {
        const Row& row = pair.row[k];
        contract(pair.z, own + column(basis, k, t_j), basis.n_nodes, stride, basis.n_rows, sums, slopes);
        radial += sums[0] * row.slope[0] + slopes[0] * row.value[0] * pair.d_z;
        for (int a = 0; a < 3; ++a) {
          radial += (sums[1 + a] * row.slope[1] + slopes[1 + a] * row.value[1] * pair.d_z) * v[a];
          g[a] += sums[1 + a] * row.value[1];
        }
      }
      for (int a = 0; a < 3; ++a) g[a] += radial * v[a] * pair.inverse_r;
    }
  }
}

void node_tangent(const NodeBasis& basis, const PairBatch& batch, const double* d_gradient, double* d_h) {
  const std::int64_t stride = basis.n_columns();
  for (int i = 0; i < batch.n_centers; ++i) {
    double* own = d_h + i * basis.n_rows * stride;
    std::fill(own, own + basis.n_rows * stride, 0.0);
    double d_row[4], row_slope[4];
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      if (absent(basis, t_i, t_j)) continue;
      const double *v = batch.vectors + 3 * p, *d_g = d_gradient + 3 * p;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      const double along = (d_g[0] * v[0] + d_g[1] * v[1] + d_g[2] * v[2]) * pair.inverse_r;
      for (int k = 0; k < basis.n_groups(); ++k) {
        const Row& row = pair.row[k];
        d_row[0] = along * row.slope[0];
        row_slope[0] = along * pair.d_z * row.value[0];
        for (int a = 0; a < 3; ++a) {
          d_row[1 + a] = along * row.slope[1] * v[a] + d_g[a] * row.value[1];
          row_slope[1 + a] = along * pair.d_z * row.value[1] * v[a];
        }
        accumulate_tangent(pair.z, d_row, row_slope, basis.n_nodes, stride, basis.n_rows, own + column(basis, k, t_j));
      }
    }
  }
}

}  // namespace deepmd
