// Sums over neighbours in a Chebyshev basis, for training.
//
// The embedding network depends on one scalar, the normalised radial entry e of a pair. On its interval [lo, hi] it is
// written G(e) = sum_q T_q(z) Gamma[q], z = (2 e - lo - hi) / (hi - lo), so that
//     sum_j R_j (x) G(e_j) = B Gamma,   B[a][q] = sum_j R_j[a] T_q(z_j),
// and B depends on positions only. With H = (dE/dT) Gamma^T the derivative of E by the vector of a pair is
//     g_b = sum_a sum_q H[a][q] d(R[a] T_q)/d(vector_b),
// which is linear in H; its adjoint (`tangent`) is what the second backward pass needs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/pair_math.hpp"

namespace deepmd {

// Atoms and pairs of one or several frames; pairs are sorted by centre and shorter than the cutoff.
struct PairBatch {
  int n_atoms = 0;
  const std::int64_t* first = nullptr;     // [n_atoms + 1]
  const std::int32_t* neighbor = nullptr;  // [n_pairs] atom of the batch
  const double* vectors = nullptr;         // [n_pairs][3] Angstrom
  const std::int32_t* types = nullptr;     // [n_atoms]
  const std::int32_t* frame = nullptr;     // [n_atoms]
  int n_frames = 0;
};

// What the model fixes. Tables are indexed [type of centre][type of neighbour].
struct NodeBasis {
  Cutoff cutoff;
  int n_types = 0;
  int n_nodes = 0;                // K, a multiple of 8
  std::vector<double> davg;       // [n_types] of the radial entry (the angular means are zero)
  std::vector<double> inv_std_r;  // [n_types]
  std::vector<double> inv_std_a;  // [n_types]
  std::vector<double> lo;         // [n_types][n_types] interval of e
  std::vector<double> hi;
  std::vector<double> keep;       // [n_types][n_types] 0: the pair is excluded in the descriptor
  std::vector<double> sel;        // [n_types]
};

// B [n_atoms][4][n_types][K], phantoms of the empty slots included. Returns the number of pairs outside [lo, hi].
std::int64_t node_sum(const NodeBasis& basis, const PairBatch& batch, double* b);
// From H [n_atoms][4][n_types][K]: forces [n_atoms][3] and virial [n_frames][3][3].
void node_forces(const NodeBasis& basis, const PairBatch& batch, const double* h, double* forces, double* virial);
// Adjoint of node_forces: from dL/dforces [n_atoms][3] and dL/dvirial [n_frames][3][3] to dL/dH.
void node_tangent(const NodeBasis& basis, const PairBatch& batch, const double* d_forces, const double* d_virial,
                  double* d_h);

}  // namespace deepmd
