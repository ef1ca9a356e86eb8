// Sums over neighbours in a Chebyshev basis, for training.
//
// The embedding network depends on one scalar, the normalised radial entry e of a pair. On its interval [lo, hi] it is
// written G(e) = sum_q T_q(z) Gamma[q], z = (2 e - lo - hi) / (hi - lo), so that
//     sum_j R_j (x) G(e_j) = B Gamma,   B[a][q] = sum_j R_j[a] T_q(z_j),
// and B depends on positions only. With H = (dE/dT) Gamma^T the derivative of E by the vector of a pair is
//     g_b = sum_a sum_q H[a][q] d(R[a] T_q)/d(vector_b),
// which is linear in H; its adjoint (`node_tangent`) is what the second backward pass needs.
//
// R is the environment row, or the number one; where networks are weighted with the switch w, a second group of
// columns holds the sums with w R in place of R.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/pair_math.hpp"

namespace deepmd {

// Centres and their pairs, sorted by centre and shorter than the cutoff.
struct PairBatch {
  int n_centers = 0;
  const std::int64_t* first = nullptr;     // [n_centers + 1]
  const std::int32_t* neighbor = nullptr;  // [n_pairs] atom of `types`
  const double* vectors = nullptr;         // [n_pairs][3] Angstrom
  const std::int32_t* types = nullptr;     // [n_all], the centres first
};

// What the model fixes. Tables are indexed [type of centre][type of neighbour].
struct NodeBasis {
  Cutoff cutoff;
  int n_types = 0;
  int n_nodes = 0;                // K, a multiple of 8
  int n_rows = 4;                 // 4: R is the environment row; 1: R is the number one
  bool switched = false;          // whether there are sums with w R too
  bool pooled = false;            // empty slots are counted together and have type 0
  std::vector<double> davg;       // [n_types] of the radial entry (the angular means are zero)
  std::vector<double> inv_std_r;  // [n_types]
  std::vector<double> inv_std_a;  // [n_types]
  std::vector<double> lo;         // [n_types][n_types] interval of e
  std::vector<double> hi;
  std::vector<double> keep;       // [n_types][n_types] 0: the pair is excluded in the descriptor, its row is zero
  std::vector<double> sel;        // [n_types]; pooled: the total stands first

  int n_groups() const { return switched ? 2 : 1; }
  std::int64_t n_columns() const { return static_cast<std::int64_t>(n_groups()) * n_types * n_nodes; }
};

// B [n_centers][n_rows][n_groups][n_types][K], empty slots included. Returns the number of pairs outside [lo, hi].
std::int64_t node_sum(const NodeBasis& basis, const PairBatch& batch, double* b);
// From H of the shape of B: g [n_pairs][3].
void node_gradient(const NodeBasis& basis, const PairBatch& batch, const double* h, double* g);
// Adjoint of node_gradient: from dL/dg [n_pairs][3] to dL/dH.
void node_tangent(const NodeBasis& basis, const PairBatch& batch, const double* d_g, double* d_h);

}  // namespace deepmd
