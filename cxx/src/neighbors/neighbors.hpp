#pragma once

#include "neighbors/cell_list.hpp"

namespace deepmd {

// A list that is kept while no pair outside it can have come closer than rcut.
class Neighbors {
 public:
  // Throws unless 0 < rcut and 0 <= skin. Lengths in Angstrom.
  Neighbors(double rcut, double skin);

  // positions [n_atoms][3]; cell and pbc as in make_cell. Returns true if the list is new.
  bool update(int n_atoms, const double* positions, const double* cell, const int* pbc);

  const NeighborList& list() const { return list_; }

 private:
  bool is_valid_for(int n_atoms, const double* positions, const Cell& cell) const;

  double rcut_, skin_;
  NeighborList list_;
  bool is_built_ = false;
  Cell built_cell_{};
  std::vector<double> built_positions_;  // [n_atoms][3]
};

}  // namespace deepmd
