#include "neighbors/neighbors.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace deepmd {

Neighbors::Neighbors(double rcut, double skin) : rcut_(rcut), skin_(skin) {
  if (!(rcut > 0 && rcut < 1e6) || !(skin >= 0 && skin < 1e6)) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("neighbour list with cutoff ", rcut, " and skin ", skin,
                                            " Angstrom, expected a positive cutoff and a skin of 0 or more"));
  }
}

bool Neighbors::update(int n_atoms, const double* positions, const double* cell, const int* pbc) {
  const Cell now = make_cell(cell, pbc);
  check_positions(n_atoms, positions);
  if (is_built_ && is_valid_for(n_atoms, positions, now)) return false;
  is_built_ = false;
  build_cell_list(n_atoms, positions, now, rcut_ + skin_, list_);
  built_cell_ = now;
  built_positions_.assign(positions, positions + 3 * static_cast<std::size_t>(n_atoms));
  is_built_ = true;
  return true;
}

// Since the list was built, the cell has been deformed by F (rows_now = rows_built . F) and each atom has moved by u_i
// on top of F. A pair vector r of then is r . F + u_j - u_i now, at least |r| (1 - |F - 1|) - 2 max|u| long. Pairs that
// are not on the list had |r| >= rcut + skin. (With a fixed cell this is the usual rule, max|u| <= skin / 2.)
bool Neighbors::is_valid_for(int n_atoms, const double* positions, const Cell& cell) const {
  if (built_positions_.size() != 3 * static_cast<std::size_t>(n_atoms) || cell.periodic != built_cell_.periodic) {
    return false;
  }
  const Mat3 deformation = product(built_cell_.inverse, cell.rows);
  double strain2 = 0;
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = 0; b < 3; ++b) strain2 += std::pow(deformation[a][b] - (a == b ? 1 : 0), 2);
  }
  const double margin = (1 - std::sqrt(strain2)) * (rcut_ + skin_) - rcut_;
  if (skin_ == 0) {
    return cell.rows == built_cell_.rows && std::equal(built_positions_.begin(), built_positions_.end(), positions);
  }
  if (margin < 0) return false;
  for (std::size_t i = 0; i < built_positions_.size(); i += 3) {
    const Vec3 carried = times({built_positions_[i], built_positions_[i + 1], built_positions_[i + 2]}, deformation);
    const Vec3 moved = {positions[i] - carried[0], positions[i + 1] - carried[1], positions[i + 2] - carried[2]};
    if (4 * dot(moved, moved) > margin * margin) return false;
  }
  return true;
}

}  // namespace deepmd
