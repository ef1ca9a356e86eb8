#include "model/fused_fold.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/products.hpp"

namespace deepmd {
namespace {

// Orthogonal matrix q [n][n] (row-major) whose first columns span the columns of a [n][m], by Householder reflections.
std::vector<double> orthogonal_basis(std::vector<double> a, int n, int m) {
  std::vector<double> q(static_cast<std::size_t>(n) * n, 0.0), v(n);
  for (int i = 0; i < n; ++i) q[static_cast<std::size_t>(i) * n + i] = 1.0;
  for (int k = 0; k < std::min(n, m); ++k) {
    double norm2 = 0;
    for (int i = k; i < n; ++i) norm2 += a[i * m + k] * a[i * m + k];
    if (norm2 == 0) continue;
    for (int i = 0; i < n; ++i) v[i] = i < k ? 0.0 : a[i * m + k];
    v[k] += std::copysign(std::sqrt(norm2), v[k]);
    const double length2 = std::inner_product(v.begin(), v.end(), v.begin(), 0.0);
    for (int c = k; c < m; ++c) {  // a = (1 - 2 v v^T / v^T v) a
      double s = 0;
      for (int i = k; i < n; ++i) s += v[i] * a[i * m + c];
      for (int i = k; i < n; ++i) a[i * m + c] -= 2.0 * s / length2 * v[i];
    }
    for (int r = 0; r < n; ++r) {  // q = q (1 - 2 v v^T / v^T v)
      double s = 0;
      for (int i = k; i < n; ++i) s += q[r * n + i] * v[i];
      for (int i = k; i < n; ++i) q[r * n + i] -= 2.0 * s / length2 * v[i];
    }
  }
  return q;
}

// The basis vectors of all neighbour types below each other [n_ranks][width], and the row of the sums each belongs to.
struct StackedBasis {
  int n_ranks = 0;
  std::vector<double> v;
  std::vector<int> row;
};

StackedBasis stack(const EnergyTree& tree, const PairBasis& basis, int t_i, const std::vector<int>& columns) {
  StackedBasis stacked;
  for (int t = 0; t < tree.n_types; ++t) {
    const int k = tree.network_of(t_i, t);
    stacked.v.insert(stacked.v.end(), basis.basis[k].begin(), basis.basis[k].end());
    for (int p = 0; p < basis.ranks[k]; ++p) stacked.row.push_back(columns[t] + p);
  }
  stacked.n_ranks = static_cast<int>(stacked.row.size());
  return stacked;
}

void expand(Fold& fold, const EnergyTree& tree, const StackedBasis& stacked) {
  fold.n = tree.width;
  fold.axis = tree.axis;
  fold.map.assign(static_cast<std::size_t>(fold.n_sums) * fold.n, 0.0);
  for (int p = 0; p < stacked.n_ranks; ++p) {
    std::copy_n(&stacked.v[static_cast<std::size_t>(p) * tree.width], tree.width,
                &fold.map[static_cast<std::size_t>(stacked.row[p]) * fold.n]);
  }
}

void rotate(Fold& fold, const EnergyTree& tree, const StackedBasis& stacked) {
  const int n = stacked.n_ranks, width = tree.width;
  fold.n = n;
  fold.axis = std::min(n, tree.axis);
  std::vector<double> first(static_cast<std::size_t>(n) * tree.axis);
  for (int p = 0; p < n; ++p) std::copy_n(&stacked.v[static_cast<std::size_t>(p) * width], tree.axis, &first[p * tree.axis]);
  const std::vector<double> q = orthogonal_basis(first, n, tree.axis);
  fold.map.assign(static_cast<std::size_t>(fold.n_sums) * n, 0.0);
  fold.left.assign(static_cast<std::size_t>(n) * width, 0.0);
  fold.right.assign(static_cast<std::size_t>(fold.axis) * tree.axis, 0.0);
  for (int p = 0; p < n; ++p) {
    const double* v = &stacked.v[static_cast<std::size_t>(p) * width];
    std::copy_n(&q[static_cast<std::size_t>(p) * n], n, &fold.map[static_cast<std::size_t>(stacked.row[p]) * n]);
    for (int r = 0; r < n; ++r) {  // left = q^T v, right = its first rows and columns
      for (int m = 0; m < width; ++m) fold.left[static_cast<std::size_t>(r) * width + m] += q[static_cast<std::size_t>(p) * n + r] * v[m];
    }
  }
  for (int b = 0; b < fold.axis; ++b) std::copy_n(&fold.left[static_cast<std::size_t>(b) * width], tree.axis, &fold.right[b * tree.axis]);
}

// full [n][axis of the fold][n_out] = sum_{m, a} left[p][m] right[b][a] w[m][a][n_out]
std::vector<double> transform(const Fold& fold, const EnergyTree& tree, const double* w, int n_out) {
  const std::size_t outs = n_out;
  if (fold.left.empty()) return std::vector<double>(w, w + static_cast<std::size_t>(tree.width) * tree.axis * outs);
  std::vector<double> half(static_cast<std::size_t>(tree.width) * fold.axis * outs, 0.0);  // [m][b][n_out]
  for (int m = 0; m < tree.width; ++m) {
    for (int b = 0; b < fold.axis; ++b) {
      double* to = &half[(static_cast<std::size_t>(m) * fold.axis + b) * outs];
      for (int a = 0; a < tree.axis; ++a) {
        const double factor = fold.right[b * tree.axis + a];
        const double* from = w + (static_cast<std::size_t>(m) * tree.axis + a) * outs;
        for (std::size_t o = 0; o < outs; ++o) to[o] += factor * from[o];
      }
    }
  }
  const std::size_t row = fold.axis * outs;
  std::vector<double> full(static_cast<std::size_t>(fold.n) * row, 0.0);
  for (int p = 0; p < fold.n; ++p) {
    for (int m = 0; m < tree.width; ++m) {
      const double factor = fold.left[static_cast<std::size_t>(p) * tree.width + m];
      for (std::size_t o = 0; o < row; ++o) full[p * row + o] += factor * half[m * row + o];
    }
  }
  return full;
}

}  // namespace

Fold choose_fold(const EnergyTree& tree, const PairBasis& basis, int t_i, const std::vector<int>& columns, int n_sums) {
  Fold fold;
  const double n_slots = std::accumulate(tree.sel.begin(), tree.sel.end(), 0.0);
  fold.scale = 1.0 / (n_slots * n_slots);
  fold.n_sums = n_sums;
  if (!basis.spectral) {
    fold.n = tree.width;
    fold.axis = tree.axis;
    return fold;
  }
  const StackedBasis stacked = stack(tree, basis, t_i, columns);
  fold.has_map = true;
  const int folded = n_products(stacked.n_ranks, std::min(stacked.n_ranks, tree.axis));
  if (folded < n_products(tree.width, tree.axis)) {
    rotate(fold, tree, stacked);
  } else {
    expand(fold, tree, stacked);
  }
  return fold;
}

std::vector<double> fold_weights(const Fold& fold, const EnergyTree& tree, const double* w, int n_out) {
  const std::size_t outs = n_out;
  const std::vector<double> full = transform(fold, tree, w, n_out);
  std::vector<double> packed;
  packed.reserve(n_products(fold.n, fold.axis) * outs);
  for (int b = 0; b < fold.axis; ++b) {
    for (int p = b; p < fold.n; ++p) {
      const double* own = &full[(static_cast<std::size_t>(p) * fold.axis + b) * outs];
      const double* twin = p > b && p < fold.axis ? &full[(static_cast<std::size_t>(b) * fold.axis + p) * outs] : nullptr;
      for (std::size_t o = 0; o < outs; ++o) packed.push_back(fold.scale * (own[o] + (twin ? twin[o] : 0.0)));
    }
  }
  return packed;
}

}  // namespace deepmd
