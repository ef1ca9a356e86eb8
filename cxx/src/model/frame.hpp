#pragma once

#include <cstddef>

#include "core/geometry.hpp"
#include "neighbors/neighbor_list.hpp"

namespace deepmd {

// One configuration, checked: what deepmd_input describes, with defaults filled in. Nothing here is owned.
struct Frame {
  int n_local = 0;
  int n_ghost = 0;
  const double* positions = nullptr;  // [n_all][3]
  const int* types = nullptr;         // [n_all]
  const double* cell = nullptr;       // [3][3], set if list.shift is
  ListView list;                      // n_centers == n_local, or n_all where ghosts have rows too
  const double* fparam = nullptr;     // [dim_fparam], null if the model takes none
  const double* aparam = nullptr;     // [n_local][dim_aparam], null if the model takes none
  const double* spins = nullptr;      // [n_all][3] Bohr magnetons, null if the model takes none
  const double* ghost_aparam = nullptr;  // [n_ghost][dim_aparam], for models of fragments where ghosts have no owners

  const double* aparam_of(int atom, int dim) const {
    return atom < n_local ? aparam + static_cast<std::ptrdiff_t>(atom) * dim
                          : ghost_aparam + static_cast<std::ptrdiff_t>(atom - n_local) * dim;
  }

  std::size_t n_all() const { return static_cast<std::size_t>(n_local) + static_cast<std::size_t>(n_ghost); }
};

// Where the answers go, as in deepmd_output. Null: not wanted.
struct Result {
  double* energy = nullptr;       // [1]
  double* forces = nullptr;       // [n_all][3]
  double* virial = nullptr;       // [3][3]
  double* atom_energy = nullptr;  // [n_local]
  double* atom_virial = nullptr;  // [n_all][3][3]
  double* spin_forces = nullptr;  // [n_all][3] -dE/d(spin)
};

// Where the answers of models of other kinds go, as in deepmd_atom_output; n_parts == 1 if there are weights, else width.
struct OutputResult {
  double* output = nullptr;         // [width]
  double* atom_output = nullptr;    // [n_local][width]
  const double* weights = nullptr;  // [n_local][width]; null: the derivatives of each component's sum
  double* forces = nullptr;         // [n_parts][n_all][3]
  double* virial = nullptr;         // [n_parts][3][3]
  double* atom_virial = nullptr;    // [n_parts][n_all][3][3]

  bool wants_derivatives() const { return forces || virial || atom_virial; }
};

}  // namespace deepmd
