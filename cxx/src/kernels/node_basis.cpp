#include "kernels/node_basis.hpp"

#include <algorithm>
#include <cmath>

// The compiler makes one version of the inner loops per instruction set; the loader picks the right one.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DEEPMD_NO_CLONES)
#define DEEPMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPMD_CLONES
#endif
// Must be inlined into the clones, or they would call the version for the baseline.
#define DEEPMD_INLINE inline __attribute__((always_inline))
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call, so their calling convention does not matter
#endif

namespace deepmd {
namespace {

constexpr int kRow = 4;

// Row and Chebyshev values of one pair.
struct PairValues {
  double r;
  double row[kRow];
  double d_row0;    // d(row[0])/dr
  double angular;   // row[1 + a] = angular * vector[a]
  double d_angular;
  double z;
  double d_z;       // dz/dr
};

inline PairValues pair_values(const NodeBasis& basis, const double* v, int t_i, int t_j) {
  PairValues p;
  p.r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  const RawRow raw = raw_row(p.r, basis.cutoff);
  const double keep = basis.keep[t_i * basis.n_types + t_j];
  const double std_r = basis.inv_std_r[t_i] * keep;
  const double std_a = basis.inv_std_a[t_i] * keep;
  p.row[0] = (raw.s - basis.davg[t_i]) * std_r;
  p.d_row0 = raw.d_s_d_r * std_r;
  p.angular = raw.angular * std_a;
  p.d_angular = raw.d_angular_d_r * std_a;
  for (int a = 0; a < 3; ++a) p.row[1 + a] = p.angular * v[a];
  const double lo = basis.lo[t_i * basis.n_types + t_j], hi = basis.hi[t_i * basis.n_types + t_j];
  const double scale = 2.0 / (hi - lo);
  p.z = (p.row[0] - lo) * scale - 1.0;
  p.d_z = p.d_row0 * scale;
  return p;
}

// Eight values of q at a time; the compiler lowers this type to whatever the instruction set has.
typedef double Lanes __attribute__((vector_size(64), aligned(8)));
constexpr int kLanes = 8;

DEEPMD_INLINE Lanes load(const double* p) { return *reinterpret_cast<const Lanes*>(p); }
DEEPMD_INLINE void store(double* p, Lanes v) { *reinterpret_cast<Lanes*>(p) = v; }
DEEPMD_INLINE double total(Lanes v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

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

// b[a][q] += row[a] T_q(z), the rows of b `stride` apart.
DEEPMD_CLONES void accumulate(double z, const double* row, int n, std::int64_t stride, double* b) {
  ChebyshevBlock t = first_block(z);
  for (int q = 0; q < n; q += kLanes) {
    for (int a = 0; a < kRow; ++a) store(b + a * stride + q, load(b + a * stride + q) + row[a] * t.value);
    advance(t);
  }
}

// sums[a] = sum_q h[a][q] T_q(z), slopes[a] the same with T_q'.
DEEPMD_CLONES void contract(double z, const double* h, int n, std::int64_t stride, double* sums, double* slopes) {
  ChebyshevBlock t = first_block(z);
  Lanes s0 = {}, s1 = {}, s2 = {}, s3 = {}, d0 = {}, d1 = {}, d2 = {}, d3 = {};
  for (int q = 0; q < n; q += kLanes) {
    const Lanes h0 = load(h + q), h1 = load(h + stride + q), h2 = load(h + 2 * stride + q), h3 = load(h + 3 * stride + q);
    s0 += h0 * t.value;
    s1 += h1 * t.value;
    s2 += h2 * t.value;
    s3 += h3 * t.value;
    d0 += h0 * t.slope;
    d1 += h1 * t.slope;
    d2 += h2 * t.slope;
    d3 += h3 * t.slope;
    advance_with_slope(t);
  }
  sums[0] = total(s0);
  sums[1] = total(s1);
  sums[2] = total(s2);
  sums[3] = total(s3);
  slopes[0] = total(d0);
  slopes[1] = total(d1);
  slopes[2] = total(d2);
  slopes[3] = total(d3);
}

// d_h[a][q] += d_row[a] T_q(z) + row_slope[a] T_q'(z)
DEEPMD_CLONES void accumulate_tangent(double z, const double* d_row, const double* row_slope, int n,
                                      std::int64_t stride, double* d_h) {
  ChebyshevBlock t = first_block(z);
  for (int q = 0; q < n; q += kLanes) {
    for (int a = 0; a < kRow; ++a) {
      double* target = d_h + a * stride + q;
      store(target, load(target) + d_row[a] * t.value + row_slope[a] * t.slope);
    }
    advance_with_slope(t);
  }
}

// The rows of the slots that hold no neighbour: (-davg / dstd, 0, 0, 0), as many as sel minus the neighbours.
void add_phantoms(const NodeBasis& basis, int t_i, const int* counts, std::int64_t stride, double* b) {
  const double row0 = -basis.davg[t_i] * basis.inv_std_r[t_i];
  if (row0 == 0.0) return;
  for (int t = 0; t < basis.n_types; ++t) {
    const double lo = basis.lo[t_i * basis.n_types + t], hi = basis.hi[t_i * basis.n_types + t];
    const double row[kRow] = {(basis.sel[t] - counts[t]) * row0, 0.0, 0.0, 0.0};
    accumulate((row0 - lo) * 2.0 / (hi - lo) - 1.0, row, basis.n_nodes, stride,
               b + static_cast<std::int64_t>(t) * basis.n_nodes);
  }
}

}  // namespace

std::int64_t node_sum(const NodeBasis& basis, const PairBatch& batch, double* b) {
  const int n = basis.n_nodes, n_types = basis.n_types;
  const std::int64_t stride = static_cast<std::int64_t>(n_types) * n;  // from one row component to the next
  std::int64_t outside = 0;
#pragma omp parallel for schedule(static) reduction(+ : outside)
  for (int i = 0; i < batch.n_atoms; ++i) {
    double* own = b + i * kRow * stride;
    std::fill(own, own + kRow * stride, 0.0);
    std::vector<int> counts(n_types, 0);
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      ++counts[t_j];
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const PairValues pair = pair_values(basis, batch.vectors + 3 * p, t_i, t_j);
      if (!(pair.z <= 1.0 + 1e-9 && pair.z >= -1.0 - 1e-9)) ++outside;
      accumulate(std::min(1.0, std::max(-1.0, pair.z)), pair.row, n, stride, own + static_cast<std::int64_t>(t_j) * n);
    }
    add_phantoms(basis, t_i, counts.data(), stride, own);
  }
  return outside;
}

void node_forces(const NodeBasis& basis, const PairBatch& batch, const double* h, double* forces, double* virial) {
  const int n = basis.n_nodes, n_types = basis.n_types;
  const std::int64_t stride = static_cast<std::int64_t>(n_types) * n;  // from one row component to the next
  std::vector<double> gradients(3 * batch.first[batch.n_atoms]);
#pragma omp parallel for schedule(static)
  for (int i = 0; i < batch.n_atoms; ++i) {
    double sums[kRow], slopes[kRow];
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      const double* v = batch.vectors + 3 * p;
      double* g = gradients.data() + 3 * p;
      g[0] = g[1] = g[2] = 0.0;
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      contract(pair.z, h + i * kRow * stride + static_cast<std::int64_t>(t_j) * n, n, stride, sums, slopes);
      double radial = sums[0] * pair.d_row0;  // what multiplies the unit vector
      for (int a = 0; a < 3; ++a) radial += sums[1 + a] * pair.d_angular * v[a];
      for (int a = 0; a < kRow; ++a) radial += slopes[a] * pair.row[a] * pair.d_z;
      for (int a = 0; a < 3; ++a) g[a] = radial * v[a] / pair.r + sums[1 + a] * pair.angular;
    }
  }
  std::fill(forces, forces + 3 * static_cast<std::int64_t>(batch.n_atoms), 0.0);
  std::fill(virial, virial + 9 * static_cast<std::int64_t>(batch.n_frames), 0.0);
  for (int i = 0; i < batch.n_atoms; ++i) {  // serial: the order of the sums does not depend on the threads
    double* w = virial + 9 * static_cast<std::int64_t>(batch.frame[i]);
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const double* g = gradients.data() + 3 * p;
      const double* v = batch.vectors + 3 * p;
      const std::int64_t j = batch.neighbor[p];
      for (int a = 0; a < 3; ++a) {
        forces[3 * static_cast<std::int64_t>(i) + a] += g[a];
        forces[3 * j + a] -= g[a];
        for (int c = 0; c < 3; ++c) w[3 * a + c] -= g[a] * v[c];
      }
    }
  }
}

void node_tangent(const NodeBasis& basis, const PairBatch& batch, const double* d_forces, const double* d_virial,
                  double* d_h) {
  const int n = basis.n_nodes, n_types = basis.n_types;
  const std::int64_t stride = static_cast<std::int64_t>(n_types) * n;  // from one row component to the next
#pragma omp parallel for schedule(static)
  for (int i = 0; i < batch.n_atoms; ++i) {
    double* own = d_h + i * kRow * stride;
    std::fill(own, own + kRow * stride, 0.0);
    double d_row[kRow], row_slope[kRow];
    const int t_i = batch.types[i];
    const double* u_i = d_forces + 3 * static_cast<std::int64_t>(i);
    const double* u_w = d_virial + 9 * static_cast<std::int64_t>(batch.frame[i]);
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const std::int64_t j = batch.neighbor[p];
      const int t_j = batch.types[j];
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const double* v = batch.vectors + 3 * p;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      double d_g[3], along = 0.0;  // dL/dg of this pair and its component along the vector
      for (int a = 0; a < 3; ++a) {
        d_g[a] = u_i[a] - d_forces[3 * j + a];
        for (int c = 0; c < 3; ++c) d_g[a] -= u_w[3 * a + c] * v[c];
        along += d_g[a] * v[a] / pair.r;
      }
      d_row[0] = along * pair.d_row0;
      for (int a = 0; a < 3; ++a) d_row[1 + a] = along * pair.d_angular * v[a] + d_g[a] * pair.angular;
      for (int a = 0; a < kRow; ++a) row_slope[a] = along * pair.d_z * pair.row[a];
      accumulate_tangent(pair.z, d_row, row_slope, n, stride, own + static_cast<std::int64_t>(t_j) * n);
    }
  }
}

}  // namespace deepmd
