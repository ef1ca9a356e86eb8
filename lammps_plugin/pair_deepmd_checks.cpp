// What pair_style deepmd needs from the rest of a LAMMPS input, checked before it gives a wrong answer.
#include <cmath>

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "modify.h"
#include "neighbor.h"
#include "pair_deepmd.h"
#include "update.h"

namespace deepmd {

void PairDeepMD::check_surroundings() const {
  if (!force->newton_pair) {
    fail("pair_style deepmd: 'newton off' would lose the forces on ghost atoms; write 'newton on' before the box is "
         "created");
  }
  check_spins();
  if (neighbor->includegroup) {
    fail("pair_style deepmd: 'neigh_modify include' hides atoms from the model; map their types to NULL instead");
  }
  if (atom->firstgroupname != nullptr) {  // plugins cannot see whether comm_modify makes use of it
    fail("pair_style deepmd: 'atom_modify first' is there for 'comm_modify group', which hides ghost atoms from the model; "
         "leave both out, and map types that the model must not see to NULL");
  }
  const bool excludes = neighbor->nex_type > 0 || neighbor->nex_group > 0 || neighbor->nex_mol > 0;
  if (excludes && comm->me == 0) {
    error->warning("pair_deepmd.cpp", __LINE__,
                   "pair_style deepmd: pairs removed by 'neigh_modify exclude' are missing in the environments that "
                   "the model sees");
  }
}

void PairDeepMD::check_spins() const {
  if (!with_spins_) {
    if (atom->sp_flag) fail("pair_style deepmd: 'atom_style spin' needs a model of spins; use 'pair_style deepspin'");
    return;
  }
  if (!atom->sp_flag) fail("pair_style deepspin: the atoms have no spins; use 'atom_style spin'");
  if (std::string(update->unit_style) != "metal") fail("pair_style deepspin: spins need 'units metal'");
  if (!modify->get_fix_by_style("^nve/spin").empty()) {
    fail("pair_style deepspin: 'fix nve/spin' turns spins by LAMMPS' own styles pair spin/* and does not see the magnetic "
         "forces of a model; use 'fix nve' for atoms with fixed spins, or 'min_style spin' for spins");
  }
  if (models_.size() > 1) {
    fail("pair_style deepspin: deviations between models of spins are not computed; name one model");
  }
  if (info_.passes_messages && ghost_view() == GhostView::rows) {
    fail("pair_style deepspin: the model passes messages between atoms, which with spins runs on one rank only; run on "
         "one rank");
  }
}

GhostView PairDeepMD::ghost_view() const {
  const bool has_owners = comm->nprocs == 1 && atom->tag_enable;
  if (!info_.passes_messages) return info_.aparam_of_ghosts && has_owners ? GhostView::owners : GhostView::plain;
  return has_owners ? GhostView::owners : GhostView::rows;
}

double PairDeepMD::ghost_reach() const {
  // Atoms move by half the skin each between two builds of the list.
  return info_.receptive_field * length_unit_ + neighbor->skin;
}

std::string PairDeepMD::why_lammps_list() const {
  // special_flag of the neighbor class is set later than this is called.
  bool loses_bonded = false;
  for (int order = 1; order <= 3; ++order) {
    loses_bonded = loses_bonded || (force->special_lj[order] == 0.0 && force->special_coul[order] == 0.0);
  }
  if (force->pair != this) return "the style is part of a hybrid style";
  if (neighbor->nex_type > 0 || neighbor->nex_group > 0 || neighbor->nex_mol > 0) return "'neigh_modify exclude' removes pairs";
  if (loses_bonded && atom->molecular != LAMMPS_NS::Atom::ATOMIC) return "special_bonds of weight 0 would remove pairs";
  return "";
}

void PairDeepMD::check_own_list() {
  if (!finds_neighbors_) return;
  const std::string reason = why_lammps_list();
  if (reason.empty()) return;
  fail("pair_style deepmd: the GPU finds the neighbors, but since the run was set up " + reason +
       "; give the exclusion in the input (neigh_modify exclude), or leave out 'path cuda' with fixes that exclude atoms");
}

void PairDeepMD::ask_for_list() {
  finds_neighbors_ = false;
  if (models_find_neighbors_ && ghost_view() == GhostView::plain) {
    const std::string reason = why_lammps_list();
    finds_neighbors_ = reason.empty();
    const std::string words = finds_neighbors_ ? "the GPU finds the neighbors, LAMMPS makes no list for this style"
                                               : "LAMMPS makes the neighbor list, since " + reason;
    if (comm->me == 0 && words != list_printed_) LAMMPS_NS::utils::logmesg(lmp, "pair_style deepmd: " + words + "\n");
    list_printed_ = words;
  }
  if (finds_neighbors_) {
    list = nullptr;  // of an earlier run
    ghostneigh = 0;
    return;
  }
  int request = LAMMPS_NS::NeighConst::REQ_FULL;
  ghostneigh = ghost_view() == GhostView::rows ? 1 : 0;
  if (ghostneigh) {
    if (comm->mode != LAMMPS_NS::Comm::SINGLE) {
      fail("pair_style deepmd: the model passes messages between atoms, which on several ranks needs one ghost cutoff "
           "for all types; write 'comm_modify mode single'");
    }
    request |= LAMMPS_NS::NeighConst::REQ_GHOST;
    if (comm->cutghostuser < ghost_reach()) comm->cutghostuser = ghost_reach();
    if (force->pair != nullptr) force->pair->ghostneigh = 1;  // a hybrid style asked its styles too early
  }
  neighbor->add_request(this, request);
}

LAMMPS_NS::Compute* PairDeepMD::find_compute(const std::string& keyword, const std::string& id) const {
  LAMMPS_NS::Compute* found = modify->get_compute_by_id(id);
  if (found == nullptr) fail("pair_style deepmd: " + keyword + ": there is no compute with ID '" + id + "'");
  return found;
}

void PairDeepMD::check_computes() const {
  if (!settings_.ttm_fix.empty()) find_temperature_fix();
  if (!settings_.fparam_compute.empty()) {
    const std::string keyword = "fparam_from_compute";
    const LAMMPS_NS::Compute* source = find_compute(keyword, settings_.fparam_compute);
    const int dim = info_.dim_fparam;
    const bool fits = dim == 1 ? source->scalar_flag != 0 : source->vector_flag != 0 && source->size_vector == dim;
    if (!fits) {
      fail("pair_style deepmd: " + keyword + ": compute '" + settings_.fparam_compute + "' must give a global " +
           (dim == 1 ? std::string("scalar") : "vector of length " + std::to_string(dim)));
    }
  }
  if (!settings_.aparam_compute.empty()) {
    const std::string keyword = "aparam_from_compute";
    const LAMMPS_NS::Compute* source = find_compute(keyword, settings_.aparam_compute);
    const int dim = info_.dim_aparam;
    const int columns = source->size_peratom_cols;
    if (!source->peratom_flag || !(columns == dim || (columns == 0 && dim == 1))) {
      fail("pair_style deepmd: " + keyword + ": compute '" + settings_.aparam_compute + "' must give " +
           std::to_string(dim) + " value(s) per atom");
    }
  }
}

void PairDeepMD::check_special_bonds() {
  // Bonded pairs of weight 0 never enter LAMMPS' neighbor list, and the model would be blind to them.
  special_checked_ = true;
  const int lost = adapter_.loses_bonded_pairs(*atom, neighbor->special_flag) ? 1 : 0;
  int any = 0;
  MPI_Allreduce(&lost, &any, 1, MPI_INT, MPI_MAX, world);
  if (any) {
    fail("pair_style deepmd: special_bonds of weight 0 remove bonded pairs from the neighbor list of the model; write "
         "'special_bonds lj/coul 1 1 1', or tiny weights such as 'lj/coul 1e-50 1e-50 1e-50' for other pair styles");
  }
}

void PairDeepMD::check_modifier() const {
  if (info_.modifier.empty() || force->kspace == nullptr) return;
  const double width = force->kspace->g_ewald * length_unit_;  // 1/Angstrom
  if (std::abs(width - info_.ewald_beta) > 1e-6 * info_.ewald_beta) {
    fail("pair_style deepmd: gewald of kspace is " + format_number(width) + " per Angstrom, but the model is trained with "
         "ewald_beta " + format_number(info_.ewald_beta) + "; write 'kspace_modify gewald' with that number");
  }
}

}  // namespace deepmd
