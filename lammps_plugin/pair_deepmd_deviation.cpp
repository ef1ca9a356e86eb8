// Model deviation: all models on the same atoms and list, every out_freq steps and when a fix asks for it.
#include <algorithm>
#include <limits>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fix.h"
#include "modify.h"
#include "pair_deepmd.h"
#include "update.h"

namespace deepmd {

bool PairDeepMD::deviation_due() const {
  return models_.size() > 1 && settings_.out_freq > 0 && update->ntimestep % settings_.out_freq == 0;
}

void PairDeepMD::collect_forces() {
  const size_t n_models = models_.size(), n_lammps = static_cast<size_t>(atom->nlocal) + atom->nghost;
  const double factor = energy_unit_ / length_unit_;
  all_forces_.assign(3 * n_models * n_lammps, 0.0);
  std::vector<double> mine(9 * n_models, 0.0);
  for (size_t k = 0; k < n_models && adapter_.n_local() > 0; ++k) {
    double* target = &all_forces_[3 * k * n_lammps];
    for (int m = 0; m < adapter_.n_all(); ++m) {
      const size_t i = static_cast<size_t>(adapter_.lammps_index(m));
      for (int a = 0; a < 3; ++a) target[3 * i + a] = factor * results_[k].forces[3 * static_cast<size_t>(m) + a];
    }
    for (int c = 0; c < 9; ++c) mine[9 * k + c] = energy_unit_ * results_[k].virial[c];
  }
  comm->reverse_comm(this);
  virials_.resize(mine.size());
  MPI_Allreduce(mine.data(), virials_.data(), static_cast<int>(mine.size()), MPI_DOUBLE, MPI_SUM, world);
  const size_t n_local = static_cast<size_t>(adapter_.n_local());
  seen_forces_.resize(3 * n_models * n_local);
  for (size_t k = 0; k < n_models; ++k) {
    for (size_t m = 0; m < n_local; ++m) {
      const double* force = &all_forces_[3 * (k * n_lammps + adapter_.lammps_index(static_cast<int>(m)))];
      std::copy(force, force + 3, &seen_forces_[3 * (k * n_local + m)]);
    }
  }
}

bool PairDeepMD::wants_deviations_of_atoms() const {
  return settings_.atomic || !settings_.select_path.empty() || !modify->get_fix_by_style("^pair$").empty();
}

bool PairDeepMD::compares_in_core() {
  // On a GPU, where forces need no sum over ranks.
  return models_find_neighbors_ && comm->nprocs == 1 && atom->tag_enable && adapter_.names_owners(*atom);
}

void PairDeepMD::compare_in_core(const deepmd_input& input) {
  // Levels are in LAMMPS' units.
  const double force_unit = energy_unit_ / length_unit_;
  deepmd_deviation_init(&comparison_.found);
  seen_deviations_.resize(static_cast<size_t>(adapter_.n_local()));
  if (wants_deviations_of_atoms()) comparison_.found.atoms = seen_deviations_.data();
  const double relative = settings_.relative < 0.0 ? -1.0 : settings_.relative / force_unit;
  const double relative_v = settings_.relative_v < 0.0 ? -1.0 : settings_.relative_v / energy_unit_;
  const deepmd_status status = deepmd_ensemble_compare(ensemble_.get(), &input, relative, relative_v, outputs_.data(),
                                                       &comparison_.found, &comparison_.largest_force);
  if (status != DEEPMD_OK) fail_evaluation(status);
  comparison_.is_done = true;
}

double PairDeepMD::compared_row(DeviationRow* row) {
  const double force_unit = energy_unit_ / length_unit_;
  const auto in_units = [](deepmd_spread spread, double unit) {
    return deepmd_spread{spread.max * unit, spread.min * unit, spread.avg * unit};
  };
  const double unit = settings_.relative < 0.0 ? force_unit : 1.0;
  row->force = in_units(comparison_.found.force, unit);
  row->virial = in_units(comparison_.found.virial, settings_.relative_v < 0.0 ? energy_unit_ : 1.0);
  if (comparison_.found.atoms == nullptr) {
    seen_deviations_.clear();
  } else {
    for (double& value : seen_deviations_) value *= unit;
  }
  return comparison_.largest_force * force_unit;
}

double PairDeepMD::collected_row(DeviationRow* row) {
  collect_forces();
  const int n_models = static_cast<int>(models_.size()), n_local = adapter_.n_local();
  std::vector<const double*> forces;
  for (int k = 0; k < n_models; ++k) forces.push_back(seen_forces_.data() + 3 * static_cast<size_t>(k) * n_local);
  double mine = n_local, n_atoms = 0.0;
  MPI_Allreduce(&mine, &n_atoms, 1, MPI_DOUBLE, MPI_SUM, world);
  deepmd_deviation_input input;
  deepmd_deviation_input_init(&input);
  input.n_models = n_models;
  input.n_atoms = n_local;
  input.forces = forces.data();
  input.virials = virials_.data();
  input.relative = settings_.relative;
  input.relative_v = settings_.relative_v;
  input.n_counted = std::max(1.0, n_atoms);
  seen_deviations_.resize(static_cast<size_t>(n_local));
  return compute_row(input, row);
}

void PairDeepMD::check_deviation() {
  DeviationRow row;
  row.step = update->ntimestep;
  const double absolute = comparison_.is_done ? compared_row(&row) : collected_row(&row);
  publish(row, absolute);
  if (!deviation_due()) return;
  if (settings_.atomic) gather_atoms(&row);
  act_on(row);
}

double PairDeepMD::compute_row(deepmd_deviation_input input, DeviationRow* row) {
  deepmd_deviation found;
  deepmd_deviation_init(&found);
  double absolute = 0.0;
  if (input.relative >= 0.0) {
    const double level = input.relative;
    input.relative = -1.0;
    if (deepmd_deviation_compute(&input, &found) != DEEPMD_OK) fail_evaluation(DEEPMD_ERROR_INTERNAL);
    absolute = reduce(found.force).max;
    input.relative = level;
  }
  found.atoms = seen_deviations_.data();
  if (deepmd_deviation_compute(&input, &found) != DEEPMD_OK) fail_evaluation(DEEPMD_ERROR_INTERNAL);
  row->virial = found.virial;
  row->force = reduce(found.force);
  return input.relative >= 0.0 ? absolute : row->force.max;
}

deepmd_spread PairDeepMD::reduce(const deepmd_spread& mine) const {
  const double n = adapter_.n_local(), infinity = std::numeric_limits<double>::infinity();
  const double extremes[2] = {n > 0 ? mine.max : -infinity, n > 0 ? -mine.min : -infinity};
  const double sums[2] = {n * mine.avg, n};
  double most[2] = {}, total[2] = {};
  MPI_Allreduce(extremes, most, 2, MPI_DOUBLE, MPI_MAX, world);
  MPI_Allreduce(sums, total, 2, MPI_DOUBLE, MPI_SUM, world);
  if (total[1] == 0.0) return deepmd_spread{0.0, 0.0, 0.0};
  return deepmd_spread{most[0], -most[1], total[0] / total[1]};
}

void PairDeepMD::publish(const DeviationRow& row, double absolute) {
  // compute pair adds up the vectors of all ranks.
  const double values[8] = {row.virial.max, row.virial.min, row.virial.avg, row.force.max,
                            row.force.min,  row.force.avg,  absolute,       static_cast<double>(row.step)};
  for (int c = 0; c < 8; ++c) published_[c] = comm->me == 0 ? values[c] : 0.0;
  deviations_.assign(static_cast<size_t>(std::max(1, atom->nlocal)), 0.0);
  const bool are_known = seen_deviations_.size() == static_cast<size_t>(adapter_.n_local());
  for (int m = 0; are_known && m < adapter_.n_local(); ++m) deviations_[adapter_.lammps_index(m)] = seen_deviations_[m];
  deviation_step_ = are_known ? update->ntimestep : -1;
}

void* PairDeepMD::extract_peratom(const char* name, int& n_columns) {
  if (std::string(name) != "devi_f") return nullptr;
  if (models_.size() < 2) {
    fail("pair_style deepmd: devi_f is the deviation between models, but there is one model; name at least two");
  }
  // A fix asks already when it is defined, to see how many columns there are.
  if (update->whichflag != 0 && deviation_step_ != update->ntimestep) {
    fail("pair_style deepmd: devi_f is wanted on step " + std::to_string(update->ntimestep) +
         ", where no deviation is computed; write 'devi_f 1' in fix pair, or use multiples of out_freq");
  }
  if (deviations_.empty()) deviations_.assign(1, 0.0);
  n_columns = 0;
  return deviations_.data();
}

void PairDeepMD::gather_atoms(DeviationRow* row) {
  // Columns follow the atom IDs, which must be 1 to N.
  const size_t n_atoms = static_cast<size_t>(atom->natoms);
  std::vector<double> mine(n_atoms, 0.0), all(comm->me == 0 ? n_atoms : 0);
  int good = 1, all_good = 1;
  for (int m = 0; m < adapter_.n_local(); ++m) {
    const LAMMPS_NS::tagint tag = atom->tag_enable ? atom->tag[adapter_.lammps_index(m)] : 0;
    if (tag < 1 || static_cast<size_t>(tag) > n_atoms) {
      good = 0;
    } else {
      mine[static_cast<size_t>(tag) - 1] = seen_deviations_[m];
    }
  }
  MPI_Allreduce(&good, &all_good, 1, MPI_INT, MPI_MIN, world);
  if (!all_good) {
    fail("pair_style deepmd: keyword 'atomic' needs atom IDs from 1 to the number of atoms; write 'reset_atoms id'");
  }
  MPI_Reduce(mine.data(), all.data(), static_cast<int>(n_atoms), MPI_DOUBLE, MPI_SUM, 0, world);
  row->atoms = std::move(all);
}

int PairDeepMD::pack_reverse_comm(int n, int first, double* buffer) {
  const size_t n_lammps = static_cast<size_t>(atom->nlocal) + atom->nghost;
  int m = 0;
  for (int i = first; i < first + n; ++i) {
    for (size_t k = 0; k < models_.size(); ++k) {
      for (int a = 0; a < 3; ++a) buffer[m++] = all_forces_[3 * (k * n_lammps + i) + a];
    }
  }
  return m;
}

void PairDeepMD::unpack_reverse_comm(int n, int* list, double* buffer) {
  const size_t n_lammps = static_cast<size_t>(atom->nlocal) + atom->nghost;
  int m = 0;
  for (int entry = 0; entry < n; ++entry) {
    for (size_t k = 0; k < models_.size(); ++k) {
      for (int a = 0; a < 3; ++a) all_forces_[3 * (k * n_lammps + list[entry]) + a] += buffer[m++];
    }
  }
}

}  // namespace deepmd
