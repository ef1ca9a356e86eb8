#pragma once

#include "core/geometry.hpp"
#include "neighbors/neighbor_list.hpp"

namespace deepmd {

// All ordered pairs closer than `radius`, in linear time, into `list` (storage is reused); rows in the order of atoms.
// Atoms are sorted into bins; periodic images are visited by walking over the cell's faces, so that cells smaller than
// the radius need no copies. positions [n_atoms][3] are finite and may lie outside the cell.
void build_cell_list(int n_atoms, const double* positions, const Cell& cell, double radius, NeighborList& list);

}  // namespace deepmd
