// A basis for spectral tables without the machinery of dp compress: leading eigenvectors of the Gram matrix of a network's
// values and slopes. Good to about 1e-8 of the largest value, which is enough for tests and timings.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "model/fused_tables.hpp"

namespace spectral {

// Eigenvectors of the symmetric a [n][n] as rows, largest eigenvalue first, by Jacobi rotations.
inline std::vector<double> eigenvectors(std::vector<double> a, int n) {
  const auto at = [n](int i, int j) { return static_cast<std::size_t>(i) * n + j; };
  std::vector<double> v(a.size(), 0.0);
  for (int i = 0; i < n; ++i) v[at(i, i)] = 1.0;
  for (int sweep = 0; sweep < 12; ++sweep) {
    for (int p = 0; p < n; ++p) {
      for (int q = p + 1; q < n; ++q) {
        if (std::abs(a[at(p, q)]) < 1e-300) continue;
        const double angle = 0.5 * std::atan2(2.0 * a[at(p, q)], a[at(p, p)] - a[at(q, q)]);
        const double c = std::cos(angle), s = std::sin(angle);
        for (int k = 0; k < n; ++k) {
          const double x = a[at(k, p)], y = a[at(k, q)];
          a[at(k, p)] = c * x + s * y, a[at(k, q)] = c * y - s * x;
        }
        for (int k = 0; k < n; ++k) {
          const double x = a[at(p, k)], y = a[at(q, k)], u = v[at(p, k)], w = v[at(q, k)];
          a[at(p, k)] = c * x + s * y, a[at(q, k)] = c * y - s * x;
          v[at(p, k)] = c * u + s * w, v[at(q, k)] = c * w - s * u;
        }
      }
    }
  }
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int i, int j) { return a[at(i, i)] > a[at(j, j)]; });
  std::vector<double> sorted;
  for (int i : order) sorted.insert(sorted.end(), &v[at(i, 0)], &v[at(i, 0)] + n);
  return sorted;
}

inline deepmd::CompressionRecord record(const deepmd::EnergyTree& tree, int n_ranks, double shortest) {
  deepmd::CompressionRecord made;
  made.spectral = true;
  made.tolerance = 1e-6;
  made.table_tolerance = 1e-9;
  made.shortest = shortest;
  const int n = 800;
  for (int k = 0; k < tree.n_networks(); ++k) {
    const deepmd::NumberedCurve curve = tree.curve(k);
    const deepmd::PairDescriptor& descriptor = tree.descriptors[curve.descriptor];
    const int width = descriptor.width;
    const deepmd::ArgumentRange range = deepmd::argument_range(tree, k, shortest);
    std::vector<double> e(n), g(static_cast<std::size_t>(n) * width), g1(g.size()), gram(static_cast<std::size_t>(width) * width, 0.0);
    for (int i = 0; i < n; ++i) e[i] = range.lo + (range.hi - range.lo) * i / (n - 1);
    deepmd::evaluate_pair_curve(descriptor, curve.network, n, e.data(), g.data(), g1.data(), nullptr);
    for (int i = 0; i < n; ++i) {
      const double *row = &g[static_cast<std::size_t>(i) * width], *slope = &g1[static_cast<std::size_t>(i) * width];
      for (int m = 0; m < width; ++m) {
        for (int l = 0; l < width; ++l) gram[static_cast<std::size_t>(m) * width + l] += row[m] * row[l] + 0.09 * slope[m] * slope[l];
      }
    }
    std::vector<double> v = eigenvectors(gram, width);
    const int rank = std::min(n_ranks, width);
    v.resize(static_cast<std::size_t>(rank) * width);
    made.ranks.push_back(rank);
    made.basis.push_back(v);
  }
  return made;
}

}  // namespace spectral
