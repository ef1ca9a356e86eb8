#include "pair_deepmd.h"

#include <cmath>
#include <cstdio>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace deepmd {

// LAMMPS' 9 components per atom are xx,yy,zz,xy,xz,yz,yx,zx,zy with the position first; ours are [force][position].
static const int kCentroidOrder[9] = {0, 4, 8, 3, 6, 7, 1, 2, 5};

// Closer atoms are refused by the engine, see deepmd_evaluate.
static const double kMinDistance = 0.05;

static const double kPi = 3.14159265358979323846;

void PairDeepMD::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  const bool fresh = list_is_new();
  if (fresh) check_ghost_cutoff();
  if (fresh) check_own_list();
  if (!special_checked_) {
    check_special_bonds();
    check_modifier();
  }
  const double factor = scale_factor();
  const int missing = adapter_.gather(*atom, neighbor_source(), fresh);
  if (missing >= 0) {
    error->one("pair_deepmd.cpp", __LINE__,
               "pair_style deepmd: " + name_atom(missing) +
                   " has a type of the model but no row in the neighbor list; map its type to NULL");
  }
  update_parameters();
  comparison_.is_done = false;
  const bool with_deviation = deviation_due() || (deviation_asked_ != 0 && models_.size() > 1);
  if (adapter_.n_local() > 0) {
    Wanted wanted;
    wanted.virial = vflag_global != 0 || with_deviation;
    wanted.atom_energy = eflag_atom != 0;
    wanted.atom_virial = vflag_atom != 0 || cvflag_atom != 0;
    wanted.comparison = with_deviation && compares_in_core();
    evaluate(with_deviation && !wanted.comparison ? models_.size() : 1, wanted);
    scatter(factor);
  }
  if (with_deviation) check_deviation();  // ranks without atoms take part
}

NeighborSource PairDeepMD::neighbor_source() const {
  if (!finds_neighbors_) return {list, 0.0};
  // A list that is made some steps after LAMMPS' build must also hold until the next one: atoms that have moved towards each
  // other by a skin since, and those that will.
  const double skins = neighbor->ago > 0 ? 2.0 : 1.0;
  return {nullptr, cutoff_ + skins * neighbor->skin};
}

bool PairDeepMD::list_is_new() {
  // ago counts the steps since the last build; the other marks notice a build in whose step this style was not called.
  const bool same = neighbor->ago > 0 && last_list_ == list && last_list_calls_ == neighbor->ncalls &&
                    last_list_step_ == neighbor->lastcall;
  last_list_ = list;
  last_list_calls_ = neighbor->ncalls;
  last_list_step_ = neighbor->lastcall;
  return !same;
}

void PairDeepMD::check_ghost_cutoff() const {
  double length[3] = {1.0, 1.0, 1.0};  // a triclinic box keeps its ghost cutoff in fractions of the box
  if (domain->triclinic) {
    const double* h = domain->h_inv;
    length[0] = std::sqrt(h[0] * h[0] + h[5] * h[5] + h[4] * h[4]);
    length[1] = std::sqrt(h[1] * h[1] + h[3] * h[3]);
    length[2] = h[2];
  }
  const bool with_rows = ghost_view() == GhostView::rows;
  const double least = with_rows ? ghost_reach() : cutoff_;
  for (int a = 0; a < domain->dimension; ++a) {
    if (comm->cutghost[a] >= least * length[a] * (1.0 - 1e-12)) continue;
    fail("pair_style deepmd: the ghost cutoff is smaller than the " + std::to_string(least) +
         " that the model needs; write 'comm_modify cutoff " + std::to_string(with_rows ? least : cutoff_ + neighbor->skin) +
         "'");
  }
}

double PairDeepMD::scale_factor() const {
  // The model is one many-body energy, so there is only one factor; fix adapt sets it for all pairs with '* *'.
  for (int i = 1; i <= atom->ntypes; ++i) {
    for (int j = i; j <= atom->ntypes; ++j) {
      if (scale_[i][j] == scale_[1][1]) continue;
      fail("pair_style deepmd: 'scale' must be the same for all types; write "
           "'fix adapt ... pair deepmd scale * * ...'");
    }
  }
  return scale_[1][1];
}

void PairDeepMD::evaluate(size_t n_models, const Wanted& wanted) {
  const size_t n_local = static_cast<size_t>(adapter_.n_local());
  const size_t n_all = static_cast<size_t>(adapter_.n_all());
  deepmd_input input = adapter_.input();
  input.fparam = fparam_.empty() ? nullptr : fparam_.data();
  input.aparam = aparam_.empty() ? nullptr : aparam_.data();
  input.ghost_aparam = ghost_aparam_.empty() ? nullptr : ghost_aparam_.data();
  outputs_.resize(n_models);
  int64_t n_outside = 0;
  for (size_t k = 0; k < n_models; ++k) {
    deepmd_output_init(&outputs_[k]);
    results_[k].forces.resize(3 * n_all);
    outputs_[k].energy = &results_[k].energy;
    outputs_[k].forces = results_[k].forces.data();
    if (with_spins_) {
      results_[k].spin_forces.resize(3 * n_all);
      outputs_[k].spin_forces = results_[k].spin_forces.data();
    }
    if (wanted.virial) outputs_[k].virial = results_[k].virial;
  }
  outputs_[0].n_outside = &n_outside;
  if (wanted.atom_energy) {  // of the model that moves the atoms; the others only watch
    results_[0].atom_energy.resize(n_local);
    outputs_[0].atom_energy = results_[0].atom_energy.data();
  }
  if (wanted.atom_virial) {
    results_[0].atom_virial.resize(9 * n_all);
    outputs_[0].atom_virial = results_[0].atom_virial.data();
  }
  if (wanted.comparison) {
    compare_in_core(input);
  } else {
    const deepmd_status status =
        deepmd_ensemble_evaluate(ensemble_.get(), &input, static_cast<int>(n_models), outputs_.data());
    if (status != DEEPMD_OK) fail_evaluation(status);
  }
  if (n_outside > 0) report_outside(n_outside);
}

void PairDeepMD::report_outside(int64_t n_pairs) {
  if (outside_reported_) return;
  outside_reported_ = true;
  error->warning("pair_deepmd.cpp", __LINE__,
                 "pair_style deepmd: on step " + std::to_string(update->ntimestep) + ", " + std::to_string(n_pairs) +
                     " pairs of atoms or couples of neighbors are outside of the range of the embedding's table; the network "
                     "itself answers for them, and this is not reported again");
}

void PairDeepMD::scatter_spin_forces(double factor) {
  // LAMMPS turns the unit vector of a spin with the frequency fm = -dE/ds / hbar, s = S / |S|.
  const double hbar = force->hplanck / (2.0 * kPi);
  for (int k = 0; k < adapter_.n_all(); ++k) {
    const int i = adapter_.lammps_index(k);
    const double* h = &results_[0].spin_forces[3 * static_cast<size_t>(k)];
    for (int a = 0; a < 3; ++a) atom->fm[i][a] += factor * energy_unit_ * h[a] * atom->sp[i][3] / hbar;
  }
}

void PairDeepMD::scatter(double factor) {
  if (with_spins_) scatter_spin_forces(factor);
  const double energy_factor = factor * energy_unit_;
  const double force_factor = energy_factor / length_unit_;
  const int n_all = adapter_.n_all();
  const ModelResult& result = results_[0];
  if (eflag_global) eng_vdwl += energy_factor * result.energy;
  if (vflag_global) {
    const double* w = result.virial;
    const double six[6] = {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]), 0.5 * (w[5] + w[7])};
    for (int c = 0; c < 6; ++c) virial[c] += energy_factor * six[c];
  }
  double** f = atom->f;
  for (int k = 0; k < n_all; ++k) {
    const int i = adapter_.lammps_index(k);
    const double* force = &result.forces[3 * static_cast<size_t>(k)];
    for (int a = 0; a < 3; ++a) f[i][a] += force_factor * force[a];
  }
  if (eflag_atom) {
    for (int k = 0; k < adapter_.n_local(); ++k) {
      eatom[adapter_.lammps_index(k)] += energy_factor * result.atom_energy[k];
    }
  }
  if (!vflag_atom && !cvflag_atom) return;
  for (int k = 0; k < n_all; ++k) {
    const int i = adapter_.lammps_index(k);
    const double* w = &result.atom_virial[9 * static_cast<size_t>(k)];
    if (vflag_atom) {
      const double six[6] = {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]), 0.5 * (w[5] + w[7])};
      for (int c = 0; c < 6; ++c) vatom[i][c] += energy_factor * six[c];
    }
    if (cvflag_atom) {
      for (int c = 0; c < 9; ++c) cvatom[i][c] += energy_factor * w[kCentroidOrder[c]];
    }
  }
}

std::string PairDeepMD::name_atom(int i) const {
  if (atom->tag_enable) return "atom " + std::to_string(atom->tag[i]);
  return "atom in line " + std::to_string(i) + " of rank " + std::to_string(comm->me);
}

void PairDeepMD::fail_evaluation(deepmd_status status) const {
  // One rank may be alone in failing: error->one stops all of them.
  const std::string step = " on step " + std::to_string(update->ntimestep);
  std::string message = "pair_style deepmd: " + std::string(deepmd_last_error()) + step;
  if (status == DEEPMD_ERROR_GEOMETRY) {
    const BadGeometry bad = adapter_.find_bad_geometry(kMinDistance);
    if (bad.found && bad.j >= 0) {
      char distance[32];
      std::snprintf(distance, sizeof(distance), "%.4g", bad.distance);
      message = "pair_style deepmd: " + name_atom(bad.i) + " and " + name_atom(bad.j) + " are " + distance +
                " Angstrom apart" + step + ", closer than the 0.05 that the model accepts; check the positions, or " +
                "remove one of them with 'delete_atoms overlap'";
    } else if (bad.found) {
      message = "pair_style deepmd: the position of " + name_atom(bad.i) + " is not finite" + step +
                "; check the time step and the starting positions";
    }
  }
  error->one("pair_deepmd.cpp", __LINE__, message + " [" + deepmd_status_name(status) + "]");
}

void* PairDeepMD::extract(const char* name, int& dimension) {
  const std::string key(name);
  if (key == "devi_f_flag" && models_.size() > 1) {
    dimension = 0;
    return &deviation_asked_;
  }
  if (key == "cut_coul") {
    dimension = 0;
    return &cutoff_;
  }
  if (key == "scale") {
    dimension = 2;
    return scale_;
  }
  return nullptr;
}

double PairDeepMD::memory_usage() {
  size_t n_doubles = aparam_.capacity() + all_forces_.capacity() + seen_forces_.capacity() + deviations_.capacity();
  for (const ModelResult& result : results_) {
    n_doubles += result.forces.capacity() + result.atom_energy.capacity() + result.atom_virial.capacity();
  }
  return LAMMPS_NS::Pair::memory_usage() + static_cast<double>(n_doubles * sizeof(double)) + adapter_.memory_usage();
}

}  // namespace deepmd
