#include "model/fused_exact.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace deepmd {
namespace {

// c [n][P] = g [n][width] V^T: the rows of V are orthonormal.
void project(const std::vector<double>& g, const std::vector<double>& v, int n, int n_ranks, int width, double* c) {
  for (int i = 0; i < n; ++i) {
    for (int p = 0; p < n_ranks; ++p) {
      const double* row = &v[static_cast<std::size_t>(p) * width];
      c[static_cast<std::size_t>(i) * n_ranks + p] = std::inner_product(row, row + width, &g[static_cast<std::size_t>(i) * width], 0.0);
    }
  }
}

}  // namespace

void evaluate_exactly(const EnergyTree& tree, const PairBasis& basis, int network, int n, const double* argument,
                      double* c, double* c1) {
  const NumberedCurve curve = tree.curve(network);
  const PairDescriptor& descriptor = tree.descriptors[curve.descriptor];
  const std::size_t n_values = static_cast<std::size_t>(n) * descriptor.width;
  std::vector<double> g(n_values), g1(c1 ? n_values : 0);
  evaluate_pair_curve(descriptor, curve.network, n, argument, g.data(), c1 ? g1.data() : nullptr, nullptr);
  if (!basis.spectral) {
    std::copy(g.begin(), g.end(), c);
    if (c1) std::copy(g1.begin(), g1.end(), c1);
    return;
  }
  project(g, basis.basis[network], n, basis.ranks[network], descriptor.width, c);
  if (c1) project(g1, basis.basis[network], n, basis.ranks[network], descriptor.width, c1);
}

}  // namespace deepmd
