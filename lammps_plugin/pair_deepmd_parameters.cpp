// Frame and atomic parameters of a step: numbers, computes, or the electrons' temperature of fix ttm/grid.
#include <algorithm>
#include <cmath>

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "fix.h"
#include "modify.h"
#include "pair_deepmd.h"
#include "update.h"

// grid3d.h is not installed with LAMMPS; these two functions are all that is used of the class, by reference only.
namespace LAMMPS_NS {
class Grid3d {
 public:
  void get_size(int&, int&, int&);
  void get_bounds_owned(int&, int&, int&, int&, int&, int&);
  void get_bounds_ghost(int&, int&, int&, int&, int&, int&);
};
}  // namespace LAMMPS_NS

namespace deepmd {

void PairDeepMD::update_parameters() {
  fparam_ = settings_.fparam;
  if (!settings_.fparam_compute.empty()) {
    LAMMPS_NS::Compute* source = find_compute("fparam_from_compute", settings_.fparam_compute);
    if (info_.dim_fparam == 1) {
      fparam_.assign(1, source->compute_scalar());
    } else {
      source->compute_vector();
      fparam_.assign(source->vector, source->vector + info_.dim_fparam);
    }
    if (source->timeflag) source->addstep(update->ntimestep + 1);
  }
  aparam_.clear(), ghost_aparam_.clear();
  if (info_.aparam_of_ghosts) return take_fragments();
  if (!settings_.ttm_fix.empty()) return take_temperatures();
  if (info_.dim_aparam == 0) return;
  const int dim = info_.dim_aparam;
  if (settings_.aparam_compute.empty()) {
    for (int k = 0; k < adapter_.n_local(); ++k) {
      aparam_.insert(aparam_.end(), settings_.aparam.begin(), settings_.aparam.end());
    }
    return;
  }
  LAMMPS_NS::Compute* source = find_compute("aparam_from_compute", settings_.aparam_compute);
  source->compute_peratom();
  if (source->timeflag) source->addstep(update->ntimestep + 1);
  for (int k = 0; k < adapter_.n_local(); ++k) {
    const int i = adapter_.lammps_index(k);
    for (int a = 0; a < dim; ++a) {
      aparam_.push_back(source->size_peratom_cols == 0 ? source->vector_atom[i] : source->array_atom[i][a]);
    }
  }
}

// Atomic parameters of owned atoms and ghosts, which get them from their owners.
void PairDeepMD::take_fragments() {
  const size_t dim = static_cast<size_t>(info_.dim_aparam), n = static_cast<size_t>(atom->nlocal + atom->nghost);
  sent_aparam_.assign(dim * n, 0.0);
  LAMMPS_NS::Compute* source = nullptr;
  if (!settings_.aparam_compute.empty()) {
    source = find_compute("aparam_from_compute", settings_.aparam_compute);
    source->compute_peratom();
    if (source->timeflag) source->addstep(update->ntimestep + 1);
  }
  for (size_t i = 0; i < static_cast<size_t>(atom->nlocal); ++i) {
    for (size_t a = 0; a < dim; ++a) {
      sent_aparam_[dim * i + a] = source == nullptr ? settings_.aparam[a]
                                  : source->size_peratom_cols == 0 ? source->vector_atom[i] : source->array_atom[i][a];
    }
  }
  comm->forward_comm(this);
  for (int k = 0; k < adapter_.n_all(); ++k) {
    const auto from = sent_aparam_.begin() + static_cast<std::ptrdiff_t>(dim) * adapter_.lammps_index(k);
    std::vector<double>& to = k < adapter_.n_local() ? aparam_ : ghost_aparam_;
    to.insert(to.end(), from, from + static_cast<std::ptrdiff_t>(dim));
  }
}

int PairDeepMD::pack_forward_comm(int n, int* list, double* buffer, int, int*) {
  const size_t dim = static_cast<size_t>(info_.dim_aparam);
  int m = 0;
  for (int k = 0; k < n; ++k) {
    for (size_t a = 0; a < dim; ++a) buffer[m++] = sent_aparam_[dim * static_cast<size_t>(list[k]) + a];
  }
  return m;
}

void PairDeepMD::unpack_forward_comm(int n, int first, double* buffer) {
  const size_t dim = static_cast<size_t>(info_.dim_aparam), start = dim * static_cast<size_t>(first);
  std::copy(buffer, buffer + dim * static_cast<size_t>(n), sent_aparam_.begin() + static_cast<std::ptrdiff_t>(start));
}

LAMMPS_NS::Fix* PairDeepMD::find_temperature_fix() const {
  LAMMPS_NS::Fix* found = modify->get_fix_by_id(settings_.ttm_fix);
  if (found == nullptr) fail("pair_style deepmd: ttm: there is no fix with ID '" + settings_.ttm_fix + "'");
  if (std::string(found->style) != "ttm/grid") {
    fail("pair_style deepmd: ttm: fix '" + settings_.ttm_fix + "' has the style '" + found->style +
         "', whose temperatures other styles cannot read; use 'fix ttm/grid'");
  }
  if (std::max(info_.dim_fparam, info_.dim_aparam) != 1 || (info_.dim_aparam == 1 && info_.dim_fparam > 0 &&
      settings_.fparam.empty() && settings_.fparam_compute.empty() && !info_.has_default_fparam)) {
    fail("pair_style deepmd: ttm gives one number, but the model takes " + std::to_string(info_.dim_fparam) +
         " of fparam and " + std::to_string(info_.dim_aparam) + " of aparam; use aparam_from_compute");
  }
  return found;
}

void PairDeepMD::take_temperatures() {
  LAMMPS_NS::Fix* fix = find_temperature_fix();
  auto* grid = static_cast<LAMMPS_NS::Grid3d*>(fix->get_grid_by_index(0));
  auto*** temperature = static_cast<double***>(fix->get_griddata_by_index(0));
  int n[3], low[3], high[3];
  grid->get_size(n[0], n[1], n[2]);
  if (settings_.ttm_as_fparam) {
    grid->get_bounds_owned(low[0], high[0], low[1], high[1], low[2], high[2]);
    double mine = 0.0, sum = 0.0;
    for (int k = low[2]; k <= high[2]; ++k) {
      for (int j = low[1]; j <= high[1]; ++j) {
        for (int i = low[0]; i <= high[0]; ++i) mine += temperature[k][j][i];
      }
    }
    MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
    fparam_.assign(1, sum / (static_cast<double>(n[0]) * n[1] * n[2]));
    return;
  }
  grid->get_bounds_ghost(low[0], high[0], low[1], high[1], low[2], high[2]);
  for (int k = 0; k < adapter_.n_local(); ++k) {
    const double* x = atom->x[adapter_.lammps_index(k)];
    int cell[3];
    for (int a = 0; a < 3; ++a) {
      cell[a] = static_cast<int>(std::floor((x[a] - domain->boxlo[a]) / domain->prd[a] * n[a]));
      if (cell[a] >= low[a] && cell[a] <= high[a]) continue;
      error->one("pair_deepmd_parameters.cpp", __LINE__,
                 "pair_style deepmd: ttm: " + name_atom(adapter_.lammps_index(k)) +
                     " is outside of the grid of fix ttm/grid; reneighbor more often");
    }
    aparam_.push_back(temperature[cell[2]][cell[1]][cell[0]]);
  }
}

}  // namespace deepmd
