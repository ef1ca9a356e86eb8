// Model deviation: all models on the same atoms and list, every out_freq steps.
#include <algorithm>
#include <limits>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "pair_deepmd.h"
#include "update.h"

namespace deepmd {

bool PairDeepMD::deviation_due() const {
  return models_.size() > 1 && settings_.out_freq > 0 && update->ntimestep % settings_.out_freq == 0;
}

void PairDeepMD::open_deviation_file() {
  // The file is opened when the style is set, so that an unwritable path ends the run before it begins.
  deviation_file_.close();
  comm_reverse = models_.size() > 1 ? 3 * static_cast<int>(models_.size()) : 0;
  if (models_.size() < 2 || settings_.out_freq == 0) return;
  std::string problem;
  if (comm->me == 0) problem = deviation_file_.open(settings_.out_file, restarted_, settings_.atomic);
  problem = broadcast_text(problem, 0, world);
  if (!problem.empty()) fail("pair_style deepmd: " + problem);
}

void PairDeepMD::keep_forces(int k, const ModelResult& result) {
  const double factor = energy_unit_ / length_unit_;
  double* target = &all_forces_[static_cast<size_t>(k) * 3 * (atom->nlocal + atom->nghost)];
  for (int m = 0; m < adapter_.n_all(); ++m) {
    const size_t i = static_cast<size_t>(adapter_.lammps_index(m));
    for (int a = 0; a < 3; ++a) target[3 * i + a] = factor * result.forces[3 * static_cast<size_t>(m) + a];
  }
}

void PairDeepMD::write_deviation() {
  const int n_models = static_cast<int>(models_.size());
  const size_t n_lammps = static_cast<size_t>(atom->nlocal) + atom->nghost;
  all_forces_.assign(3 * n_models * n_lammps, 0.0);
  std::vector<double> virials(9 * static_cast<size_t>(n_models), 0.0);
  for (int k = 0; k < n_models && adapter_.n_local() > 0; ++k) {
    Wanted wanted;
    wanted.virial = true;
    if (k > 0) evaluate(k, wanted, &other_);
    const ModelResult& result = k == 0 ? result_ : other_;
    keep_forces(k, result);
    std::copy(result.virial, result.virial + 9, &virials[9 * static_cast<size_t>(k)]);
  }
  comm->reverse_comm(this);
  DeviationRow row;
  row.step = update->ntimestep;
  const std::vector<double> deviations = local_deviations();
  summarise_forces(deviations, &row);
  summarise_virials(&virials, &row);
  if (settings_.atomic) gather_deviations(deviations, &row);
  std::string problem;
  if (comm->me == 0) problem = deviation_file_.write(row);
  if (!problem.empty()) error->one("pair_deepmd.cpp", __LINE__, "pair_style deepmd: " + problem);
}

std::vector<double> PairDeepMD::local_deviations() const {
  const size_t stride = 3 * (static_cast<size_t>(atom->nlocal) + atom->nghost);
  const RelativeLevel relative{settings_.has_relative, settings_.relative};
  std::vector<double> deviations;
  for (int m = 0; m < adapter_.n_local(); ++m) {
    const size_t i = static_cast<size_t>(adapter_.lammps_index(m));
    deviations.push_back(force_deviation(&all_forces_[3 * i], stride, static_cast<int>(models_.size()), relative));
  }
  return deviations;
}

void PairDeepMD::summarise_forces(const std::vector<double>& deviations, DeviationRow* row) {
  double extremes[2] = {0.0, std::numeric_limits<double>::infinity()};
  double sums[2] = {0.0, static_cast<double>(deviations.size())};
  for (const double value : deviations) {
    extremes[0] = std::max(extremes[0], value);
    extremes[1] = std::min(extremes[1], value);
    sums[0] += value;
  }
  double total[2] = {};
  MPI_Allreduce(&extremes[0], &row->force.max, 1, MPI_DOUBLE, MPI_MAX, world);
  MPI_Allreduce(&extremes[1], &row->force.min, 1, MPI_DOUBLE, MPI_MIN, world);
  MPI_Allreduce(sums, total, 2, MPI_DOUBLE, MPI_SUM, world);
  if (total[1] == 0.0) row->force.min = 0.0;
  row->force.avg = total[1] > 0.0 ? total[0] / total[1] : 0.0;
}

void PairDeepMD::summarise_virials(std::vector<double>* virials, DeviationRow* row) {
  double n_local = adapter_.n_local(), n_atoms = 0.0;
  MPI_Allreduce(&n_local, &n_atoms, 1, MPI_DOUBLE, MPI_SUM, world);
  std::vector<double> total(virials->size());
  MPI_Allreduce(virials->data(), total.data(), static_cast<int>(total.size()), MPI_DOUBLE, MPI_SUM, world);
  for (double& value : total) value *= n_atoms > 0.0 ? energy_unit_ / n_atoms : 0.0;
  const RelativeLevel relative{settings_.has_relative_v, settings_.relative_v};
  row->virial = virial_deviation(total.data(), static_cast<int>(models_.size()), relative);
}

void PairDeepMD::gather_deviations(const std::vector<double>& deviations, DeviationRow* row) {
  // Columns follow the atom IDs, which must be 1 to N.
  const size_t n_atoms = static_cast<size_t>(atom->natoms);
  std::vector<double> mine(n_atoms, 0.0), all(comm->me == 0 ? n_atoms : 0);
  int good = 1, all_good = 1;
  for (size_t m = 0; m < deviations.size(); ++m) {
    const LAMMPS_NS::tagint tag = atom->tag_enable ? atom->tag[adapter_.lammps_index(static_cast<int>(m))] : 0;
    if (tag < 1 || static_cast<size_t>(tag) > n_atoms) {
      good = 0;
    } else {
      mine[static_cast<size_t>(tag) - 1] = deviations[m];
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
