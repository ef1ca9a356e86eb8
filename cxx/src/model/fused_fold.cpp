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

StackedBasis stack(const PairDescriptor& d, const PairBasis& basis, int first_network, int t_i, const std::vector<int>& columns) {
  StackedBasis stacked;
  for (int t = 0; t < d.n_types; ++t) {
    const int k = first_network + d.network_of(t_i, t);
    stacked.v.insert(stacked.v.end(), basis.basis[k].begin(), basis.basis[k].end());
    for (int p = 0; p < basis.ranks[k]; ++p) stacked.row.push_back(columns[t] + p);
  }
  stacked.n_ranks = static_cast<int>(stacked.row.size());
  return stacked;
}

void expand(Fold& fold, const PairDescriptor& d, const StackedBasis& stacked) {
  fold.n = d.width;
  fold.axis = d.axis;
  fold.map.assign(static_cast<std::size_t>(fold.n_sums) * fold.n, 0.0);
  for (int p = 0; p < stacked.n_ranks; ++p) {
    std::copy_n(&stacked.v[static_cast<std::size_t>(p) * d.width], d.width,
                &fold.map[static_cast<std::size_t>(stacked.row[p]) * fold.n]);
  }
}

void rotate(Fold& fold, const PairDescriptor& d, const StackedBasis& stacked) {
  const int n = stacked.n_ranks, width = d.width;
  fold.n = n;
  fold.axis = std::min(n, d.axis);
  std::vector<double> first(static_cast<std::size_t>(n) * d.axis);
  for (int p = 0; p < n; ++p) std::copy_n(&stacked.v[static_cast<std::size_t>(p) * width], d.axis, &first[p * d.axis]);
  const std::vector<double> q = orthogonal_basis(first, n, d.axis);
  fold.map.assign(static_cast<std::size_t>(fold.n_sums) * n, 0.0);
  fold.left.assign(static_cast<std::size_t>(n) * width, 0.0);
  fold.right.assign(static_cast<std::size_t>(fold.axis) * d.axis, 0.0);
  for (int p = 0; p < n; ++p) {
    const double* v = &stacked.v[static_cast<std::size_t>(p) * width];
    std::copy_n(&q[static_cast<std::size_t>(p) * n], n, &fold.map[static_cast<std::size_t>(stacked.row[p]) * n]);
    for (int r = 0; r < n; ++r) {  // left = q^T v, right = its first rows and columns
      for (int m = 0; m < width; ++m) fold.left[static_cast<std::size_t>(r) * width + m] += q[static_cast<std::size_t>(p) * n + r] * v[m];
    }
  }
  for (int b = 0; b < fold.axis; ++b) std::copy_n(&fold.left[static_cast<std::size_t>(b) * width], d.axis, &fold.right[b * d.axis]);
}

// The sums of a radial descriptor are inputs, those in the filling with a weight of zero.
void take_as_they_are(Fold& fold, const PairDescriptor& d, const StackedBasis& stacked) {
  fold.n = fold.n_sums;
  fold.left.assign(static_cast<std::size_t>(fold.n) * d.width, 0.0);
  for (int p = 0; p < stacked.n_ranks; ++p) {
    std::copy_n(&stacked.v[static_cast<std::size_t>(p) * d.width], d.width,
                &fold.left[static_cast<std::size_t>(stacked.row[p]) * d.width]);
  }
}

std::vector<double> radial_weights(const Fold& fold, const PairDescriptor& d, const double* w, std::size_t outs) {
  std::vector<double> made(static_cast<std::size_t>(fold.n) * outs, 0.0);
  for (std::size_t p = 0; p < static_cast<std::size_t>(fold.n); ++p) {
    for (std::size_t m = 0; m < static_cast<std::size_t>(d.width); ++m) {
      const double factor = fold.left.empty() ? (m == p ? 1.0 : 0.0) : fold.left[p * d.width + m];
      if (factor == 0.0) continue;
      for (std::size_t o = 0; o < outs; ++o) made[p * outs + o] += fold.scale * factor * w[m * outs + o];
    }
  }
  return made;
}

// full [n][axis of the fold][n_out] = sum_{m, a} left[p][m] right[b][a] w[m][a][n_out]
std::vector<double> transform(const Fold& fold, const PairDescriptor& d, const double* w, int n_out) {
  const std::size_t outs = n_out;
  if (fold.left.empty()) return std::vector<double>(w, w + static_cast<std::size_t>(d.width) * d.axis * outs);
  std::vector<double> half(static_cast<std::size_t>(d.width) * fold.axis * outs, 0.0);  // [m][b][n_out]
  for (int m = 0; m < d.width; ++m) {
    for (int b = 0; b < fold.axis; ++b) {
      double* to = &half[(static_cast<std::size_t>(m) * fold.axis + b) * outs];
      for (int a = 0; a < d.axis; ++a) {
        const double factor = fold.right[b * d.axis + a];
        const double* from = w + (static_cast<std::size_t>(m) * d.axis + a) * outs;
        for (std::size_t o = 0; o < outs; ++o) to[o] += factor * from[o];
      }
    }
  }
  const std::size_t row = fold.axis * outs;
  std::vector<double> full(static_cast<std::size_t>(fold.n) * row, 0.0);
  for (int p = 0; p < fold.n; ++p) {
    for (int m = 0; m < d.width; ++m) {
      const double factor = fold.left[static_cast<std::size_t>(p) * d.width + m];
      for (std::size_t o = 0; o < row; ++o) full[p * row + o] += factor * half[m * row + o];
    }
  }
  return full;
}

}  // namespace

int n_inputs(const Fold& fold, const PairDescriptor& d) {
  return d.kind == RowKind::radial ? fold.n : n_products(fold.n, fold.axis);
}

Fold choose_fold(const PairDescriptor& d, const PairBasis& basis, int first_network, int t_i,
                 const std::vector<int>& columns, int n_sums) {
  Fold fold;
  fold.scale = d.scale();
  fold.n_sums = n_sums;
  if (!basis.spectral) {
    fold.n = d.width;
    fold.axis = d.axis;
    return fold;
  }
  const StackedBasis stacked = stack(d, basis, first_network, t_i, columns);
  if (d.kind == RowKind::radial && n_sums < d.width) {
    take_as_they_are(fold, d, stacked);
    return fold;
  }
  fold.has_map = true;
  const int folded = n_products(stacked.n_ranks, std::min(stacked.n_ranks, d.axis));
  if (d.kind != RowKind::radial && folded < n_products(d.width, d.axis)) {
    rotate(fold, d, stacked);
  } else {
    expand(fold, d, stacked);
  }
  return fold;
}

std::vector<double> fold_weights(const Fold& fold, const PairDescriptor& d, const double* w, int n_out) {
  const std::size_t outs = n_out;
  if (d.kind == RowKind::radial) return radial_weights(fold, d, w, outs);
  const std::vector<double> full = transform(fold, d, w, n_out);
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
