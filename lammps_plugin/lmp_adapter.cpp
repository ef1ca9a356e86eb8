#include "lmp_adapter.hpp"

#include <cmath>
#include <unordered_map>

#include "atom.h"
#include "neigh_list.h"

namespace deepmd {

// A cutoff goes to units of LAMMPS and back, and may not be shorter then.
static const double kRounding = 1.0 + 1e-12;

void LmpAdapter::configure(const std::vector<int>& type_to_model, double length_unit, GhostView ghosts) {
  type_to_model_ = type_to_model;
  ghosts_ = ghosts;
  to_angstrom_ = 1.0 / length_unit;
  to_core_.clear();
}

bool LmpAdapter::visibility_changed(const LAMMPS_NS::Atom& atom) const {
  const int n = atom.nlocal + atom.nghost;
  if (static_cast<int>(to_core_.size()) != n || lammps_local_ != atom.nlocal) return true;
  for (int i = 0; i < n; ++i) {
    if ((to_core_[i] >= 0) != sees_type(atom.type[i])) return true;
  }
  return false;
}

void LmpAdapter::build_index(const LAMMPS_NS::Atom& atom) {
  const int n = atom.nlocal + atom.nghost;
  lammps_local_ = atom.nlocal;
  to_core_.assign(n, -1);
  to_lammps_.clear();
  for (int i = 0; i < n; ++i) {
    if (i == atom.nlocal) n_local_ = static_cast<int>(to_lammps_.size());
    if (!sees_type(atom.type[i])) continue;
    to_core_[i] = static_cast<int>(to_lammps_.size());
    to_lammps_.push_back(i);
  }
  if (atom.nghost == 0) n_local_ = static_cast<int>(to_lammps_.size());
}

int LmpAdapter::build_rows(const LAMMPS_NS::Atom& atom, const LAMMPS_NS::NeighList& list) {
  const bool with_ghosts = ghosts_ == GhostView::rows;
  const int n_rows = with_ghosts ? n_all() : n_local_;
  std::vector<int> row_of(n_rows, -1);  // the order of LAMMPS' rows is its own
  for (int ii = 0; ii < list.inum + (with_ghosts ? list.gnum : 0); ++ii) {
    const int i = list.ilist[ii];
    if ((i < atom.nlocal || with_ghosts) && to_core_[i] >= 0) row_of[to_core_[i]] = i;
  }
  first_.assign(1, 0);
  index_.clear();
  for (int k = 0; k < n_rows; ++k) {
    const int i = row_of[k];
    if (i < 0) return to_lammps_[k];
    const int* neighbors = list.firstneigh[i];
    for (int jj = 0; jj < list.numneigh[i]; ++jj) {
      // The upper bits of an entry mark special bonds.
      const int j = to_core_[neighbors[jj] & NEIGHMASK];
      if (j >= 0) index_.push_back(j);
    }
    first_.push_back(static_cast<int64_t>(index_.size()));
  }
  return -1;
}

bool LmpAdapter::names_owners(const LAMMPS_NS::Atom& atom) {
  if (owners_stamp_ != list_.stamp) {
    owners_known_ = find_owners(atom) < 0;
    owners_stamp_ = list_.stamp;
  }
  if (owners_known_) list_.owners = owners_.data();
  return owners_known_;
}

int LmpAdapter::find_owners(const LAMMPS_NS::Atom& atom) {
  owners_.clear();
  std::unordered_map<LAMMPS_NS::tagint, int> local;
  for (int k = 0; k < n_local_; ++k) local[atom.tag[to_lammps_[k]]] = k;
  for (int k = 0; k < n_all(); ++k) {
    const auto found = local.find(atom.tag[to_lammps_[k]]);
    if (found == local.end()) return to_lammps_[k];
    owners_.push_back(k < n_local_ ? k : found->second);
  }
  return -1;
}

int LmpAdapter::gather(const LAMMPS_NS::Atom& atom, const NeighborSource& source, bool list_is_new) {
  if (list_is_new || visibility_changed(atom)) {
    build_index(atom);
    const int missing = source.list ? build_rows(atom, *source.list) : -1;
    if (missing >= 0) return missing;
    list_.radius = source.list ? 0.0 : source.radius * to_angstrom_ * kRounding;
    const int lost = ghosts_ == GhostView::owners ? find_owners(atom) : -1;
    if (lost >= 0) return lost;
    list_.stamp = deepmd_new_stamp();
  }
  const size_t n = to_lammps_.size();
  positions_.resize(3 * n);
  bool retyped = types_.size() != n;
  types_.resize(n);
  for (size_t k = 0; k < n; ++k) {
    const int i = to_lammps_[k];
    const int type = type_to_model_[atom.type[i] - 1];
    retyped = retyped || types_[k] != type;
    types_[k] = type;
    for (int a = 0; a < 3; ++a) positions_[3 * k + a] = atom.x[i][a] * to_angstrom_;
  }
  if (retyped && !source.list) {  // the list is found anew, with the radius for this moment
    list_.radius = source.radius * to_angstrom_ * kRounding;
    list_.stamp = deepmd_new_stamp();
  }
  spins_.resize(with_spins_ ? 3 * n : 0);
  for (size_t k = 0; with_spins_ && k < n; ++k) {
    const double* spin = atom.sp[to_lammps_[k]];
    for (int a = 0; a < 3; ++a) spins_[3 * k + a] = spin[a] * spin[3];
  }
  const bool has_rows = !(list_.radius > 0.0);
  list_.size = sizeof(list_);
  list_.n_centers = has_rows ? static_cast<int>(first_.size()) - 1 : n_local_;
  list_.first = has_rows ? first_.data() : nullptr;
  list_.index = has_rows ? index_.data() : nullptr;
  list_.shift = nullptr;
  list_.owners = ghosts_ == GhostView::owners ? owners_.data() : nullptr;
  return -1;
}

deepmd_input LmpAdapter::input() const {
  deepmd_input input;
  deepmd_input_init(&input);
  input.n_local = n_local();
  input.n_ghost = n_ghost();
  input.positions = positions_.data();
  input.types = types_.data();
  input.list = &list_;
  input.spins = with_spins_ ? spins_.data() : nullptr;
  return input;
}

bool LmpAdapter::loses_bonded_pairs(const LAMMPS_NS::Atom& atom, const int* special_flag) const {
  if (atom.molecular == LAMMPS_NS::Atom::TEMPLATE) {  // bonds stand in the molecule, out of reach: better too strict
    return atom.nlocal > 0 && (special_flag[1] == 0 || special_flag[2] == 0 || special_flag[3] == 0);
  }
  if (atom.molecular != LAMMPS_NS::Atom::MOLECULAR || atom.nspecial == nullptr) return false;
  for (int i = 0; i < atom.nlocal; ++i) {
    if (!sees_type(atom.type[i])) continue;
    int first = 0;
    for (int order = 1; order <= 3; ++order) {
      const int last = atom.nspecial[i][order - 1];
      for (int k = first; k < last && special_flag[order] == 0; ++k) {
        const int partner = const_cast<LAMMPS_NS::Atom&>(atom).map(atom.special[i][k]);
        if (partner >= 0 && sees_type(atom.type[partner])) return true;
      }
      first = last;
    }
  }
  return false;
}

BadGeometry LmpAdapter::find_bad_geometry(double min_distance) const {
  BadGeometry bad;
  for (int k = 0; k < n_all(); ++k) {
    for (int a = 0; a < 3; ++a) {
      if (std::isfinite(positions_[3 * k + a])) continue;
      bad.found = true;
      bad.i = to_lammps_[k];
      return bad;
    }
  }
  bad.distance = min_distance;
  if (list_.first) {
    find_close_pair(list_, &bad);
    return bad;
  }
  deepmd_neighbors* search = nullptr;
  deepmd_list close{};
  if (deepmd_neighbors_new(min_distance, 0.0, &search) != DEEPMD_OK) return bad;
  if (deepmd_neighbors_update(search, n_all(), positions_.data(), nullptr, nullptr, &close, nullptr) == DEEPMD_OK) {
    find_close_pair(close, &bad);
  }
  deepmd_neighbors_free(search);
  return bad;
}

void LmpAdapter::find_close_pair(const deepmd_list& list, BadGeometry* bad) const {
  for (int i = 0; i < n_local_; ++i) {
    for (int64_t p = list.first[i]; p < list.first[i + 1]; ++p) {
      double r2 = 0.0;
      for (int a = 0; a < 3; ++a) {
        const size_t j = static_cast<size_t>(list.index[p]);
        const double d = positions_[3 * j + a] - positions_[3 * static_cast<size_t>(i) + a];
        r2 += d * d;
      }
      if (std::sqrt(r2) >= bad->distance) continue;
      bad->found = true;
      bad->distance = std::sqrt(r2);
      bad->i = to_lammps_[i];
      bad->j = to_lammps_[list.index[p]];
    }
  }
}

double LmpAdapter::memory_usage() const {
  const size_t n_ints = to_core_.capacity() + to_lammps_.capacity() + types_.capacity() + index_.capacity() +
                        owners_.capacity();
  return static_cast<double>(n_ints * sizeof(int) + positions_.capacity() * sizeof(double) +
                             first_.capacity() * sizeof(int64_t));
}

}  // namespace deepmd
