#include "model/fused_chain.hpp"

#include <algorithm>

namespace deepmd {

template <class Real>
void FusedChain<Real>::run(Kernel<ChainRule<Real>> kernel, ChainRule<Real> chain, const BlockPairs& pairs, int n_types, int k,
                           int atom, const BlockSums& sums) {
  alignas(kAlignment) double total[3 * 8] = {}, unused[9 * 8] = {};
  chain.pairs = &pairs.geometry;
  chain.begin = pairs.first[k], chain.end = pairs.first[k + 1];
  for (int b = 0; b < 3; ++b) {
    if (gradient_[b].size() < chain.end - chain.begin) gradient_[b].resize(chain.end - chain.begin);
    chain.gradient[b] = gradient_[b].data();
  }
  chain.total = total;
  chain.virial = sums.virial ? sums.virial : unused;
  kernel(chain);
  const NeighborRun* runs = &pairs.runs[static_cast<std::size_t>(k) * n_types];
  for (int t = 0; t < n_types; ++t) scatter(runs[t], chain.begin, pairs.geometry, sums);
  for (int b = 0; sums.forces && b < 3; ++b) {
    for (int l = 0; l < 8; ++l) sums.forces[3 * static_cast<std::size_t>(atom) + b] += total[8 * b + l];
  }
}

template <class Real>
void FusedChain<Real>::scatter(const NeighborRun& run, std::size_t first_entry, const PairGeometry& pairs,
                               const BlockSums& sums) const {
  for (std::size_t k = run.begin; k < run.begin + static_cast<std::size_t>(run.n); ++k) {
    const auto j = static_cast<std::size_t>(pairs.neighbor[k]);
    const double g[3] = {gradient_[0][k - first_entry], gradient_[1][k - first_entry], gradient_[2][k - first_entry]};
    if (sums.forces) {
      for (int a = 0; a < 3; ++a) sums.forces[3 * j + a] -= g[a];
    }
    if (sums.atom_virial) {
      const double r[3] = {pairs.x[k], pairs.y[k], pairs.z[k]};
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) sums.atom_virial[9 * j + 3 * a + b] -= g[a] * r[b];
      }
    }
  }
}

template class FusedChain<float>;
template class FusedChain<double>;

}  // namespace deepmd
