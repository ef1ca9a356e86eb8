#pragma once

#include <vector>

#include "model/energy_tree.hpp"
#include "model/fused_tables.hpp"

namespace deepmd {

// How the sums over neighbours of centres of one type become inputs of the fitting network, for one descriptor.
//
// With C [4][n_sums] the sums and V [n_sums][M] the basis (a unit matrix for tables of the networks themselves), the
// descriptor is D = T^T T_< with T = C V / N and T_< its first columns. Three forms, the cheapest is taken:
//   plain    no basis: T = C;
//   expand   T = C V by a product;
//   fold     C is only rotated, T' = C O, so that T_< depends on its first columns alone; V goes into the weights.
// Then the inputs are the products of the first `axis` columns of T' with all n columns, each pair of columns once.
// Of a radial descriptor the columns themselves are inputs: fold means T' = C.
struct Fold {
  bool has_map = false;
  std::vector<double> map;  // [n_sums][n]
  int n_sums = 0, n = 0, axis = 0;
  // D[m][a] = scale * sum_{p, b} left[p][m] right[b][a] (T'^T T')[p][b], radial: D[m] = scale * sum_p left[p][m] T'[p];
  // empty: unit matrices
  std::vector<double> left, right;  // [n][width], [axis][axis of the descriptor]
  double scale = 1;
};

// columns[t]: where the channels of neighbours of type t begin in the sums; n_sums counts the filling between them.
// first_network: that of the descriptor in the basis.
Fold choose_fold(const PairDescriptor& descriptor, const PairBasis& basis, int first_network, int t_i,
                 const std::vector<int>& columns, int n_sums);

// Number of inputs of the fitting network.
int n_inputs(const Fold& fold, const PairDescriptor& descriptor);

// Weights [n_inputs][n_out] that act on the inputs as w [n_out of the descriptor][n_out] acts on the descriptor.
std::vector<double> fold_weights(const Fold& fold, const PairDescriptor& descriptor, const double* w, int n_out);

}  // namespace deepmd
