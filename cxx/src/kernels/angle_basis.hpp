// Sums over couples of neighbours on nodes, for training.
//
// The network depends on c = A_j . A_k, the product of the normalised angular parts of two rows. On a grid of K places c_q
// it is written G(c) = sum_q L_q(c) G(c_q) with the polynomials L_q of degree 7 through the eight places around c, so that
//     sum_jk c_jk G(c_jk) = B G(nodes),   B[q] = sum_jk c_jk L_q(c_jk),
// and B depends on positions only. A couple of types a <= b stands in column b (b + 1) / 2 + a; couples of one type count
// in both orders and with themselves, others once. A second group of columns holds the sums of c w_j w_k L_q.
#pragma once

#include "kernels/node_basis.hpp"

namespace deepmd {

// What the model fixes.
struct AngleBasis {
  static constexpr int n_rows = 1;
  Cutoff cutoff;
  int n_types = 0;
  int n_nodes = 0;                // K, at least 8
  bool switched = false;          // whether there are sums with w_j w_k too
  double bound = 0;               // the grid covers [-bound, bound]
  std::vector<double> inv_std_a;  // [n_types]
  std::vector<double> keep;       // [n_types][n_types] 0: the pair is excluded in the descriptor, its row is zero

  int n_kinds() const { return n_types * (n_types + 1) / 2; }
  int n_groups() const { return switched ? 2 : 1; }
  std::int64_t n_columns() const { return static_cast<std::int64_t>(n_groups()) * n_kinds() * n_nodes; }
};

// B [n_centers][n_groups][n_kinds][K]. Returns the number of couples outside the grid.
std::int64_t angle_sum(const AngleBasis& basis, const PairBatch& batch, double* b);
// From H of the shape of B: g [n_pairs][3].
void angle_gradient(const AngleBasis& basis, const PairBatch& batch, const double* h, double* g);
// Adjoint of angle_gradient: from dL/dg [n_pairs][3] to dL/dH.
void angle_tangent(const AngleBasis& basis, const PairBatch& batch, const double* d_g, double* d_h);

}  // namespace deepmd
