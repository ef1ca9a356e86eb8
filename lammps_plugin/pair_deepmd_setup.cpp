// pair_style deepmd before the first step: settings, models, coefficients.
#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps_units.hpp"
#include "memory.h"
#include "neighbor.h"
#include "pair_deepmd.h"
#include "universe.h"
#include "update.h"

namespace deepmd {
namespace {

std::vector<std::string> to_words(int narg, char** arg) { return std::vector<std::string>(arg, arg + narg); }

}  // namespace

PairDeepMD::PairDeepMD(LAMMPS_NS::LAMMPS* lmp, bool with_spins) : Pair(lmp), with_spins_(with_spins) {
  if (with_spins) adapter_.take_spins();
  single_enable = 0;
  restartinfo = 1;
  one_coeff = 1;
  manybody_flag = 1;
  writedata = 0;
  ewaldflag = pppmflag = 1;
  no_virial_fdotr_compute = 1;  // the virial comes from the pairs, not from wrapped positions
  centroidstressflag = LAMMPS_NS::CENTROID_AVAIL;
}

PairDeepMD::~PairDeepMD() {
  if (!allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
  memory->destroy(cutghost);
  memory->destroy(scale_);
}

void PairDeepMD::fail(const std::string& message) const { error->all("pair_deepmd.cpp", __LINE__, message); }

void PairDeepMD::settings(int narg, char** arg) {
  require_units();
  close_models();
  if (allocated) {
    for (int i = 1; i <= atom->ntypes; ++i) {
      for (int j = 1; j <= atom->ntypes; ++j) setflag[i][j] = 0;
    }
  }
  words_ = to_words(narg, arg);
  open_models();
}

void PairDeepMD::require_units() const {
  if (std::string(update->unit_style) == "lj") {
    fail("pair_style deepmd: 'units lj' has no electron volts and Angstroms; use 'units metal' or 'units real'");
  }
}

void PairDeepMD::open_models() {
  energy_unit_ = energy_unit(*force);
  length_unit_ = force->angstrom;
  const NodeShare node = share_of_node(world, universe->iworld, universe->nworlds);
  n_threads_ = node.n_threads;
  try {
    settings_ = parse_pair_settings(words_);
    for (const auto& path : settings_.models) {
      const bool observes = !models_.empty() && !settings_.observers.empty();
      const std::string& precision = observes ? settings_.observers : settings_.precision;
      models_.push_back(open_shared_model({path, settings_.selftest, settings_.path, precision, "short_range", node}, world));
    }
    ensemble_ = make_ensemble(models_);
    models_find_neighbors_ = models_find_neighbors(models_);
    read_model_facts();
  } catch (const SettingsError& problem) {
    close_models();
    fail(problem.what());
  } catch (const SharedModelError& problem) {
    close_models();
    fail(std::string("pair_style deepmd: ") + problem.what());
  }
  cutoff_ = info_.rcut * length_unit_;
  ghostneigh = ghost_view() == GhostView::rows ? 1 : 0;
  types_printed_ = false;
  results_.assign(models_.size(), ModelResult());
  outside_reported_ = false;
  print_models();
  prepare_deviations();
}

void PairDeepMD::close_models() {
  ensemble_.reset();
  models_.clear();
}

void PairDeepMD::read_model_facts() {
  info_ = describe_ensemble(ensemble_.get());
  if (with_spins_ != (info_.kind == "spin")) {
    throw SettingsError("pair_style deepmd: model " + settings_.models[0] + " predicts '" + info_.kind + "', expected '" +
                        (with_spins_ ? "spin" : "energy") + "'; use pair_style " + (with_spins_ ? "deepmd" : "deepspin"));
  }
  comm_forward = info_.aparam_of_ghosts ? info_.dim_aparam : 0;
  if (info_.aparam_of_ghosts && !settings_.ttm_fix.empty()) {
    throw SettingsError("pair_style deepmd: ttm gives temperatures, but the aparam of model " + settings_.models[0] +
                        " says which fragment an atom belongs to; use aparam_from_compute");
  }
  settings_.ttm_as_fparam = !settings_.ttm_fix.empty() && info_.dim_aparam == 0;
  check_parameter_counts(settings_,
                         {settings_.models[0], info_.dim_fparam, info_.dim_aparam, info_.has_default_fparam});
}

void PairDeepMD::require_models() {
  if (!models_.empty()) return;
  if (words_.empty()) fail("pair_style deepmd: no model file given; write 'pair_style deepmd graph.pth'");
  require_units();
  open_models();  // settings came from a restart file
}

void PairDeepMD::print_models() const {
  if (comm->me != 0) return;
  std::string text = "  >>> Info of model(s):\n";
  text += "  using " + std::to_string(settings_.models.size()) + " model(s): ";
  for (const auto& path : settings_.models) text += path + " ";
  text += "\n  rcut in model:      " + format_number(info_.rcut) + "\n";
  text += "  ntypes in model:    " + std::to_string(info_.type_map.size()) + "\n";
  text += "  engine:             deepmd " + std::string(deepmd_version()) + ", " + std::to_string(n_threads_) +
          " thread(s) per rank, self-test " + (settings_.selftest ? "passed" : "off") + "\n";
  text += "  path:               " + info_.path_description + "\n";
  if (!info_.modifier.empty()) {
    text += "  modifier:           " + info_.modifier + " is not part of these energies: kspace_style and fix dplr add it\n";
  }
  if (!settings_.observers.empty()) text += "  observers:          " + settings_.observers + "\n";
  if (info_.passes_messages) {
    text += "  messages:           atoms depend on others up to " + format_number(info_.receptive_field) +
            " Angstrom away" + (comm->nprocs > 1 ? "; ghosts reach as far\n" : "\n");
  }
  if (info_.dim_fparam > 0) {
    text += "  fparam:             " + std::to_string(info_.dim_fparam) + " from " +
            (settings_.ttm_as_fparam ? "the mean of fix " + settings_.ttm_fix
             : !settings_.fparam_compute.empty() ? "compute " + settings_.fparam_compute
                                               : settings_.fparam.empty() ? "the model" : "pair_style") + "\n";
  }
  if (info_.dim_aparam > 0) {
    text += "  aparam:             " + std::to_string(info_.dim_aparam) + " from " +
            (!settings_.ttm_fix.empty()          ? "fix " + settings_.ttm_fix
             : settings_.aparam_compute.empty() ? "pair_style"
                                                : "compute " + settings_.aparam_compute) + "\n";
  }
  text += describe_deviations();
  LAMMPS_NS::utils::logmesg(lmp, text);
}

void PairDeepMD::allocate() {
  if (allocated) return;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  memory->create(cutghost, n, n, "pair:cutghost");
  memory->create(scale_, n, n, "pair:scale");
  allocated = 1;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      setflag[i][j] = 0;
      cutsq[i][j] = 0.0;
      cutghost[i][j] = 0.0;
      scale_[i][j] = 1.0;
    }
  }
}

void PairDeepMD::mark_types_set() {
  // Alone, the style must answer for all types, also for those that the model does not see. In a hybrid style the
  // pairs of invisible types belong to others.
  const bool hybrid = force->pair_style != nullptr && std::string(force->pair_style).rfind("hybrid", 0) == 0;
  for (int i = 1; i <= atom->ntypes; ++i) {
    for (int j = 1; j <= atom->ntypes; ++j) {
      const bool seen = names_.empty() || (names_[i - 1] != "NULL" && names_[j - 1] != "NULL");
      setflag[i][j] = seen || !hybrid ? 1 : 0;
    }
  }
}

void PairDeepMD::coeff(int narg, char** arg) {
  require_models();
  allocate();
  if (narg < 2) fail("pair_coeff: needs at least '* *'");
  for (int k = 0; k < 2; ++k) {
    int lo = 0, hi = 0;
    LAMMPS_NS::utils::bounds("pair_deepmd.cpp", __LINE__, std::string(arg[k]), 1, atom->ntypes, lo, hi, error);
    if (lo != 1 || hi != atom->ntypes) {
      fail("pair_coeff: pair style deepmd is one potential for all types; write '" + suggested_line() + "'");
    }
  }
  names_ = to_words(narg - 2, arg + 2);
  try {
    if (!names_.empty()) map_elements(names_, info_.type_map, atom->ntypes);
  } catch (const SettingsError& problem) {
    fail(problem.what());
  }
  types_printed_ = false;
  mark_types_set();
}

void PairDeepMD::init_style() {
  require_models();
  check_surroundings();
  resolve_types();
  check_masses();
  check_computes();
  check_selection();
  special_checked_ = false;
  if (!types_printed_) print_types();
  types_printed_ = true;
  // A hybrid style that was read from a restart file has not asked its styles yet how much they communicate.
  if (force->pair != nullptr && force->pair->comm_reverse < comm_reverse) force->pair->comm_reverse = comm_reverse;
  if (force->pair != nullptr && force->pair->comm_forward < comm_forward) force->pair->comm_forward = comm_forward;
  ask_for_list();
}

double PairDeepMD::init_one(int i, int j) {
  scale_[j][i] = scale_[i][j];
  cutghost[i][j] = cutghost[j][i] = cutoff_;
  return cutoff_;
}

}  // namespace deepmd
