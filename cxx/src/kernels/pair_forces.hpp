// Forces and virials of frames from the derivatives by pair vectors, and the adjoint, for training.
#pragma once

#include <cstdint>

namespace deepmd {

// Pairs of frames whose atoms are all centres.
struct PairEnds {
  int n_atoms = 0;
  int n_frames = 0;
  const std::int64_t* first = nullptr;     // [n_atoms + 1]
  const std::int32_t* neighbor = nullptr;  // [n_pairs]
  const double* vectors = nullptr;         // [n_pairs][3] Angstrom
  const std::int32_t* frame = nullptr;     // [n_atoms]
};

// F_i += g, F_j -= g, W[a][b] -= g[a] vector[b]; g [n_pairs][3], forces [n_atoms][3], virial [n_frames][3][3].
void pair_forces(const PairEnds& ends, const double* g, double* forces, double* virial);
// From dL/dforces and dL/dvirial to dL/dg.
void pair_forces_adjoint(const PairEnds& ends, const double* d_forces, const double* d_virial, double* d_g);

}  // namespace deepmd
