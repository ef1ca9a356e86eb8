#include "output_model.hpp"

#include <algorithm>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "element_masses.hpp"
#include "error.h"
#include "force.h"
#include "lammps_units.hpp"
#include "neighbor.h"
#include "pair.h"
#include "pair_settings.hpp"
#include "universe.h"
#include "update.h"

namespace deepmd {

void OutputModel::fail(const std::string& message) const {
  error->all("output_model.cpp", __LINE__, style_ + ": " + message);
}

void OutputModel::open(const std::string& file, const std::string& kind) {
  if (std::string(update->unit_style) == "lj") {
    fail("'units lj' has no electron volts and Angstroms; use 'units metal' or 'units real'");
  }
  file_ = file;
  force_length_ = force->angstrom;
  try {
    model_ = open_shared_model({file, true, "", "", "modifier", share_of_node(world, universe->iworld, universe->nworlds)}, world);
  } catch (const SharedModelError& problem) {
    fail(problem.what());
  }
  deepmd_info info;
  std::memset(&info, 0, sizeof(info));
  info.size = sizeof(info);
  if (deepmd_model_info(model_.get(), &info) != DEEPMD_OK) fail(deepmd_last_error());
  const std::string got = info.kind;
  if (kind.empty() ? got != "dipole" && got != "polar" : got != kind) {
    fail("model " + file + " predicts '" + got + "', expected " + (kind.empty() ? "dipole or polar" : kind));
  }
  if (info.dim_aparam > 0 || (info.dim_fparam > 0 && !info.has_default_fparam)) {
    fail("model " + file + " takes fparam or aparam, which this style does not pass; train one without");
  }
  width_ = info.output_width;
  rcut_ = info.rcut;
  passes_messages_ = info.passes_messages != 0;
  type_map_.assign(info.type_map, info.type_map + info.n_types);
  sel_types_.assign(info.sel_types, info.sel_types + info.n_sel_types);
}

std::vector<int> OutputModel::resolve_types() const {
  if (!names_.empty()) {
    try {
      return map_elements(names_, type_map_, atom->ntypes);
    } catch (const SettingsError& problem) {
      std::string words = problem.what();  // which begins with the command that the words usually belong to
      fail(words.substr(words.find(": ") + 2));
    }
  }
  std::vector<int> map;
  for (int type = 1; type <= atom->ntypes; ++type) {
    const int n_types = static_cast<int>(type_map_.size());
    map.push_back(type <= n_types ? type - 1 : -1);
  }
  return map;
}

void OutputModel::prepare() {
  type_to_model_ = resolve_types();
  for (int type = 1; type <= atom->ntypes; ++type) {
    const int index = type_to_model_[type - 1];
    double mass = 0.0;
    if (!mass_of_type(*atom, *force, type, &mass)) continue;
    const int better = index >= 0 ? better_element(index, mass, type_map_) : -1;
    if (better >= 0) {
      fail("type " + std::to_string(type) + " has a mass of " + type_map_[better] + " rather than " + type_map_[index] +
           "; add 'elements' with the element of each type, NULL for types that the model must not see");
    }
  }
  const bool many = comm->nprocs > 1;
  if (passes_messages_ && (many || !atom->tag_enable)) {
    fail("model " + file_ + " passes messages between atoms, which this style evaluates on one rank only; run on one "
         "rank, with atom IDs");
  }
  if (force->pair == nullptr) fail("there is no pair style, whose cutoff decides on ghosts; write one");
  for (int a = 1; a <= atom->ntypes; ++a) {
    for (int b = 1; b <= atom->ntypes; ++b) {
      if (type_to_model_[a - 1] < 0 || type_to_model_[b - 1] < 0) continue;
      if (force->pair->cutsq[a][b] >= rcut_ * rcut_ * force_length_ * force_length_ * (1.0 - 1e-12)) continue;
      fail("the cutoff of the pair style is shorter than the model's cutoff of " +
           std::to_string(rcut_ * force_length_) + "; add 'zero' with that cutoff by hybrid/overlay");
    }
  }
  adapter_.configure(type_to_model_, force_length_, passes_messages_ ? GhostView::owners : GhostView::plain);
  special_checked_ = false;
}

void OutputModel::gather(const LAMMPS_NS::NeighList& list, bool list_is_new) {
  const int missing = adapter_.gather(*atom, {&list, 0.0}, list_is_new);
  if (missing >= 0) {
    error->one("output_model.cpp", __LINE__, style_ + ": an atom of the model has no row in the neighbor list; map its "
                                                      "type to NULL");
  }
  if (special_checked_) return;
  special_checked_ = true;
  const int lost = adapter_.loses_bonded_pairs(*atom, neighbor->special_flag) ? 1 : 0;
  int any = 0;
  MPI_Allreduce(&lost, &any, 1, MPI_INT, MPI_MAX, world);
  if (any) fail("special_bonds of weight 0 remove bonded pairs from the neighbor list of the model; write 'special_bonds "
                "lj/coul 1 1 1'");
}

void OutputModel::evaluate(const OutputRequest& request) const {
  deepmd_input input = adapter_.input();
  deepmd_atom_output output;
  deepmd_atom_output_init(&output);
  output.atom_output = request.atom_output;
  output.weights = request.weights;
  output.forces = request.forces;
  output.virial = request.virial;
  const deepmd_status status = deepmd_evaluate_output(model_.get(), &input, &output);
  if (status == DEEPMD_OK) return;
  // One rank may be alone in failing: error->one stops all of them.
  error->one("output_model.cpp", __LINE__, style_ + ": " + deepmd_last_error() + " on step " +
                                               std::to_string(update->ntimestep) + " [" + deepmd_status_name(status) + "]");
}

bool OutputModel::selects(int lammps_type) const {
  const int index = type_to_model_[lammps_type - 1];
  return std::find(sel_types_.begin(), sel_types_.end(), index) != sel_types_.end();
}

}  // namespace deepmd
