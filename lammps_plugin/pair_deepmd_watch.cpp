// What a deviation sets off: a row in the file, the end of the run, a frame for labelling.
#include <algorithm>
#include <limits>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "lammps.h"
#include "pair_deepmd.h"
#include "timer.h"
#include "update.h"

namespace deepmd {

Continuation PairDeepMD::continuation() const {
  // A style that a restart file has made is told so; one that the input makes after read_restart is not.
  Continuation where;
  where.on = restarted_ || lmp->restart_ver >= 0;
  where.step = update->ntimestep;
  const bool counted_anew = restart_step_ >= 0 ? update->ntimestep != restart_step_ : update->ntimestep == 0;
  if (counted_anew) where.step = std::numeric_limits<std::int64_t>::max();  // steps tell nothing about the order
  return where;
}

void PairDeepMD::prepare_deviations() {
  // Files are opened when the style is set, so that an unwritable path ends the run before it begins.
  deviation_file_.close();
  frame_writer_.reset();
  const bool several = models_.size() > 1;
  comm_reverse = several ? 3 * static_cast<int>(models_.size()) : 0;
  nextra = several ? 8 : 0;
  pvector = several ? published_ : nullptr;
  std::fill(published_, published_ + 8, 0.0);
  deviation_step_ = above_step_ = -1;
  n_above_ = n_above_before_ = 0;
  if (!several || settings_.out_freq == 0) return;
  std::string problem;
  if (comm->me == 0) {
    Continuation where = continuation();
    const bool by_restart = where.on;
    where.on = by_restart || settings_.out_file == opened_file_;
    problem = deviation_file_.open(settings_.out_file, where, settings_.atomic);
    if (problem.empty() && !settings_.select_path.empty()) {
      where.on = by_restart || settings_.select_path == opened_selection_;
      frame_writer_ = make_frame_writer(settings_.select_path, info_.type_map);
      problem = frame_writer_->open(where);
    }
  }
  problem = broadcast_text(problem, 0, world);
  if (!problem.empty()) fail("pair_style deepmd: " + problem);
  opened_file_ = settings_.out_file;
  opened_selection_ = settings_.select_path;
}

std::string PairDeepMD::describe_deviations() const {
  if (models_.size() < 2) return "";
  if (settings_.out_freq == 0) return "  model deviation:    off (out_freq 0)\n";
  std::string text = "  model deviation:    to " + settings_.out_file + " every " + std::to_string(settings_.out_freq) +
                     " steps\n";
  if (settings_.stop_above >= 0.0) {
    text += "  stop rule:          when max_devi_f is above " + format_number(settings_.stop_above) + " in " +
            std::to_string(settings_.stop_checks) + " check(s) in a row\n";
  }
  if (!settings_.select_path.empty()) {
    text += "  selected frames:    max_devi_f from " + format_number(settings_.select_low) + " to " +
            format_number(settings_.select_high) + ", to " + settings_.select_path + "\n";
  }
  return text;
}

void PairDeepMD::check_selection() const {
  if (settings_.select_path.empty()) return;
  if (!atom->tag_enable) fail("pair_style deepmd: keyword 'select' needs atom IDs; write 'atom_modify id yes'");
  const int n_periodic = domain->xperiodic + domain->yperiodic + domain->zperiodic;
  if (!names_extxyz(settings_.select_path) && n_periodic != 0 && n_periodic != 3) {
    fail("pair_style deepmd: a data folder knows frames that are periodic in all directions or in none, but this box is "
         "periodic in " + std::to_string(n_periodic) + "; let 'select' write to a file that ends in .extxyz");
  }
}

void PairDeepMD::act_on(const DeviationRow& row) {
  std::string problem;
  if (comm->me == 0) problem = deviation_file_.write(row);
  if (!settings_.select_path.empty()) {
    const std::string second = select_frame(row);
    if (problem.empty()) problem = second;
  }
  problem = broadcast_text(problem, 0, world);
  if (!problem.empty()) fail("pair_style deepmd: " + problem);
  if (settings_.stop_above >= 0.0) apply_stop_rule(row);
}

void PairDeepMD::apply_stop_rule(const DeviationRow& row) {
  // All ranks have the same numbers, so all stop in the same step. Of several calls in one step (trial moves, line
  // searches) the last one counts.
  if (above_step_ != row.step) n_above_before_ = n_above_;
  above_step_ = row.step;
  n_above_ = row.force.max > settings_.stop_above ? n_above_before_ + 1 : 0;
  if (n_above_ < settings_.stop_checks) {
    if (stopping_) timer->reset_timeout();
    stopping_ = false;
    return;
  }
  timer->force_timeout();
  if (comm->me == 0 && !stopping_) {
    LAMMPS_NS::utils::logmesg(lmp, "pair_style deepmd: the run stops on step " + std::to_string(row.step) +
                                       ": max_devi_f is " + format_number(row.force.max) + ", above " +
                                       format_number(settings_.stop_above) + " in " +
                                       std::to_string(settings_.stop_checks) + " check(s) in a row\n");
  }
  stopping_ = true;
}

std::string PairDeepMD::select_frame(const DeviationRow& row) {
  if (row.force.max < settings_.select_low || row.force.max >= settings_.select_high) {
    return frame_writer_ ? frame_writer_->take_back(row.step) : "";
  }
  const std::vector<double> rows = gather_frame();
  return frame_writer_ ? frame_writer_->write(arrange_frame(rows, row)) : "";
}

std::vector<double> PairDeepMD::gather_frame() const {
  // Of each visible atom: ID, model type, position, deviation, parameters.
  const size_t dim_aparam = static_cast<size_t>(info_.dim_aparam);
  std::vector<double> mine;
  for (int m = 0; m < adapter_.n_local(); ++m) {
    const int i = adapter_.lammps_index(m);
    mine.push_back(static_cast<double>(atom->tag[i]));
    mine.push_back(type_to_model_[atom->type[i] - 1]);
    for (int a = 0; a < 3; ++a) mine.push_back((atom->x[i][a] - domain->boxlo[a]) / length_unit_);
    mine.push_back(seen_deviations_[m]);
    const double* parameters = aparam_.data() + dim_aparam * static_cast<size_t>(m);
    mine.insert(mine.end(), parameters, parameters + dim_aparam);
  }
  const int n_mine = static_cast<int>(mine.size());
  std::vector<int> counts(comm->nprocs), starts(comm->nprocs, 0);
  MPI_Gather(&n_mine, 1, MPI_INT, counts.data(), 1, MPI_INT, 0, world);
  std::partial_sum(counts.begin(), counts.end() - 1, starts.begin() + 1);
  std::vector<double> all(comm->me == 0 ? static_cast<size_t>(starts.back() + counts.back()) : 0);
  MPI_Gatherv(mine.data(), n_mine, MPI_DOUBLE, all.data(), counts.data(), starts.data(), MPI_DOUBLE, 0, world);
  return all;
}

SelectedFrame PairDeepMD::arrange_frame(const std::vector<double>& rows, const DeviationRow& row) const {
  const size_t dim_aparam = static_cast<size_t>(info_.dim_aparam), width = 6 + dim_aparam;
  std::vector<const double*> atoms;
  for (size_t k = 0; k < rows.size(); k += width) atoms.push_back(&rows[k]);
  std::sort(atoms.begin(), atoms.end(), [](const double* a, const double* b) { return a[0] < b[0]; });
  SelectedFrame frame;
  frame.step = row.step;
  frame.max_deviation = row.force.max;
  frame.periodic = {domain->xperiodic != 0, domain->yperiodic != 0, domain->zperiodic != 0};
  frame.cell = {domain->xprd, 0.0, 0.0, domain->xy, domain->yprd, 0.0, domain->xz, domain->yz, domain->zprd};
  for (double& value : frame.cell) value /= length_unit_;
  for (const double* each : atoms) {
    frame.ids.push_back(static_cast<std::int64_t>(each[0]));
    frame.types.push_back(static_cast<int>(each[1]));
    frame.positions.insert(frame.positions.end(), each + 2, each + 5);
    frame.deviations.push_back(each[5]);
    frame.aparam.insert(frame.aparam.end(), each + 6, each + width);
  }
  frame.fparam = fparam_;
  return frame;
}

}  // namespace deepmd
