#include "kernels/node_basis.hpp"

#include <algorithm>
#include <cmath>

// The inner loops run over q with a length that is a multiple of 8; the compiler makes one version per instruction set
// and the loader picks the right one.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DEEPMD_NO_CLONES)
#define DEEPMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPMD_CLONES
#endif

namespace deepmd {
namespace {

constexpr int kMaxNodes = 512;
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

// T_q(z), q < n, by blocks of eight: T_{q+8} = 2 T_8 T_q - T_{q-8}, with T_{-q} = T_q.
DEEPMD_CLONES void chebyshev(double z, int n, double* value) {
  double previous[8], start[9];
  start[0] = 1.0;
  start[1] = z;
  for (int q = 2; q <= 8; ++q) start[q] = 2.0 * z * start[q - 1] - start[q - 2];
  const double twice = 2.0 * start[8];
  for (int l = 0; l < 8; ++l) {
    value[l] = start[l];
    previous[l] = start[8 - l];
  }
  for (int q = 8; q < n; q += 8)
    for (int l = 0; l < 8; ++l) value[q + l] = twice * value[q - 8 + l] - (q == 8 ? previous[l] : value[q - 16 + l]);
}

// The same with derivatives by z.
DEEPMD_CLONES void chebyshev_derivative(double z, int n, double* value, double* slope) {
  double start[9], d_start[9];
  start[0] = 1.0;
  start[1] = z;
  d_start[0] = 0.0;
  d_start[1] = 1.0;
  for (int q = 2; q <= 8; ++q) {
    start[q] = 2.0 * z * start[q - 1] - start[q - 2];
    d_start[q] = 2.0 * start[q - 1] + 2.0 * z * d_start[q - 1] - d_start[q - 2];
  }
  const double twice = 2.0 * start[8], d_twice = 2.0 * d_start[8];
  double before[8], d_before[8];
  for (int l = 0; l < 8; ++l) {
    value[l] = start[l];
    slope[l] = d_start[l];
    before[l] = start[8 - l];
    d_before[l] = d_start[8 - l];
  }
  for (int q = 8; q < n; q += 8) {
    for (int l = 0; l < 8; ++l) {
      const double v = value[q - 8 + l], s = slope[q - 8 + l];
      value[q + l] = twice * v - before[l];
      slope[q + l] = d_twice * v + twice * s - d_before[l];
      before[l] = v;
      d_before[l] = s;
    }
  }
}

DEEPMD_CLONES void accumulate(const double* row, const double* value, int n, std::int64_t stride, double* b) {
  for (int a = 0; a < kRow; ++a) {
    double* target = b + a * stride;
    const double factor = row[a];
    for (int q = 0; q < n; ++q) target[q] += factor * value[q];
  }
}

// sums[a] = sum_q h[a][q] value[q] and slopes[a] with the slope.
DEEPMD_CLONES void contract(const double* h, const double* value, const double* slope, int n, std::int64_t stride,
                            double* sums, double* slopes) {
  for (int a = 0; a < kRow; ++a) {
    const double* source = h + a * stride;
    double lanes[8] = {0}, d_lanes[8] = {0};
    for (int q = 0; q < n; q += 8) {
      for (int l = 0; l < 8; ++l) {
        lanes[l] += source[q + l] * value[q + l];
        d_lanes[l] += source[q + l] * slope[q + l];
      }
    }
    double sum = 0.0, d_sum = 0.0;
    for (int l = 0; l < 8; ++l) {
      sum += lanes[l];
      d_sum += d_lanes[l];
    }
    sums[a] = sum;
    slopes[a] = d_sum;
  }
}

DEEPMD_CLONES void accumulate_tangent(const double* d_row, const double* row_slope, const double* value,
                                      const double* slope, int n, std::int64_t stride, double* d_h) {
  for (int a = 0; a < kRow; ++a) {
    double* target = d_h + a * stride;
    const double x = d_row[a], y = row_slope[a];
    for (int q = 0; q < n; ++q) target[q] += x * value[q] + y * slope[q];
  }
}

void add_phantoms(const NodeBasis& basis, int t_i, const int* counts, double* b) {
  double value[kMaxNodes];
  const double row0 = -basis.davg[t_i] * basis.inv_std_r[t_i];
  if (row0 == 0.0) return;
  const int n = basis.n_nodes;
  for (int t = 0; t < basis.n_types; ++t) {
    const double lo = basis.lo[t_i * basis.n_types + t], hi = basis.hi[t_i * basis.n_types + t];
    chebyshev((row0 - lo) * 2.0 / (hi - lo) - 1.0, n, value);
    const double factor = (basis.sel[t] - counts[t]) * row0;
    double* target = b + static_cast<std::int64_t>(t) * n;
    for (int q = 0; q < n; ++q) target[q] += factor * value[q];
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
    double value[kMaxNodes];
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      ++counts[t_j];
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const PairValues pair = pair_values(basis, batch.vectors + 3 * p, t_i, t_j);
      if (!(pair.z <= 1.0 + 1e-9 && pair.z >= -1.0 - 1e-9)) ++outside;
      chebyshev(std::min(1.0, std::max(-1.0, pair.z)), n, value);
      accumulate(pair.row, value, n, stride, own + static_cast<std::int64_t>(t_j) * n);
    }
    add_phantoms(basis, t_i, counts.data(), own);
  }
  return outside;
}

void node_forces(const NodeBasis& basis, const PairBatch& batch, const double* h, double* forces, double* virial) {
  const int n = basis.n_nodes, n_types = basis.n_types;
  const std::int64_t stride = static_cast<std::int64_t>(n_types) * n;  // from one row component to the next
  std::vector<double> gradients(3 * batch.first[batch.n_atoms]);
#pragma omp parallel for schedule(static)
  for (int i = 0; i < batch.n_atoms; ++i) {
    double value[kMaxNodes], slope[kMaxNodes], sums[kRow], slopes[kRow];
    const int t_i = batch.types[i];
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const int t_j = batch.types[batch.neighbor[p]];
      const double* v = batch.vectors + 3 * p;
      double* g = gradients.data() + 3 * p;
      g[0] = g[1] = g[2] = 0.0;
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      chebyshev_derivative(pair.z, n, value, slope);
      contract(h + i * kRow * stride + static_cast<std::int64_t>(t_j) * n, value, slope, n, stride, sums, slopes);
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
    double value[kMaxNodes], slope[kMaxNodes], d_row[kRow], row_slope[kRow];
    const int t_i = batch.types[i];
    const double* u_i = d_forces + 3 * static_cast<std::int64_t>(i);
    const double* u_w = d_virial + 9 * static_cast<std::int64_t>(batch.frame[i]);
    for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
      const std::int64_t j = batch.neighbor[p];
      const int t_j = batch.types[j];
      if (basis.keep[t_i * n_types + t_j] == 0.0) continue;
      const double* v = batch.vectors + 3 * p;
      const PairValues pair = pair_values(basis, v, t_i, t_j);
      chebyshev_derivative(pair.z, n, value, slope);
      double d_g[3], along = 0.0;  // dL/dg of this pair and its component along the vector
      for (int a = 0; a < 3; ++a) {
        d_g[a] = u_i[a] - d_forces[3 * j + a];
        for (int c = 0; c < 3; ++c) d_g[a] -= u_w[3 * a + c] * v[c];
        along += d_g[a] * v[a] / pair.r;
      }
      d_row[0] = along * pair.d_row0;
      for (int a = 0; a < 3; ++a) d_row[1 + a] = along * pair.d_angular * v[a] + d_g[a] * pair.angular;
      for (int a = 0; a < kRow; ++a) row_slope[a] = along * pair.d_z * pair.row[a];
      accumulate_tangent(d_row, row_slope, value, slope, n, stride, own + static_cast<std::int64_t>(t_j) * n);
    }
  }
}

}  // namespace deepmd
