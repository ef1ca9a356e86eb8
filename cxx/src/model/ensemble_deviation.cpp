// How far the models of an ensemble disagree about one frame: on a GPU where all of them run there, else from their forces.
#include <algorithm>

#include "core/error.hpp"
#include "device/comparison.hpp"
#include "model/ensemble.hpp"
#include "model/frame_rows.hpp"
#include "model/pair_blocks.hpp"

namespace deepmd {
namespace {

// Shares of ghosts go to the local atoms that they are images of. forces [n_all][3]
void fold(const Frame& frame, double* forces) {
  for (std::size_t j = static_cast<std::size_t>(frame.n_local); j < frame.n_all(); ++j) {
    const auto i = static_cast<std::size_t>(frame.list.owners[j]);
    for (std::size_t a = 0; a < 3; ++a) forces[3 * i + a] += forces[3 * j + a];
  }
}

}  // namespace

EnsembleDeviation Ensemble::compare(const Request& request, const Result& first_result, const DeviationWish& wish) {
  Request filled = request;
  first().complete(filled, neighbors_);
  const Frame& frame = filled.frame;
  check_radius(frame);
  if (frame.n_ghost > 0 && !frame.list.owners) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("the frame has ", frame.n_ghost, " ghosts whose owners are not known, expected the owners of "
                                            "all ghosts, which get their shares of the forces; pass them with the list"));
  }
  const std::size_t n_models = members_.size();
  std::vector<double> energies(n_models), virials(9 * n_models);
  std::vector<Result> results(n_models);
  results[0] = first_result;
  for (std::size_t k = 0; k < n_models; ++k) results[k].energy = &energies[k], results[k].virial = &virials[9 * k];
  FrameOpinions opinions;
  opinions.n_models = static_cast<int>(n_models), opinions.n_atoms = static_cast<std::size_t>(frame.n_local);
  opinions.virials = virials.data(), opinions.energies = energies.data();
  opinions.relative = wish.relative, opinions.relative_v = wish.relative_v;
  EnsembleDeviation found;
  if (!compare_on_device(frame, results, wish, &found)) compare_on_host(filled.frame, std::move(results), opinions, wish, &found);
  opinions.forces = nullptr;
  const FrameDeviation others = frame_deviation(opinions, nullptr);
  found.frame.virial = others.virial, found.frame.energy = others.energy;
  if (first_result.energy) *first_result.energy = energies[0];
  if (first_result.virial) std::copy_n(virials.data(), 9, first_result.virial);
  return found;
}

bool Ensemble::compare_on_device(const Frame& given, const std::vector<Result>& results, const DeviationWish& wish,
                                 EnsembleDeviation* found) {
  std::vector<DevicePotential*> models;
  for (const Member& member : members_) {
    if (member.is_joined && member.model->on_device()) models.push_back(member.model->on_device());
  }
  if (models.size() != members_.size() || models.size() > static_cast<std::size_t>(device::kMostCompared)) return false;
  Frame frame = given;
  frame.list.n_centers = frame.n_local;
  device::Comparison comparison;
  comparison.level = wish.relative, comparison.atoms = wish.atoms;
  if (!models[0]->compare_together(frame, models.data(), static_cast<int>(models.size()), results.data(), &comparison)) return false;
  for (const Result& result : results) check_finite(frame, result);
  found->frame.force = {comparison.most, comparison.least, comparison.mean};
  found->largest_force = comparison.most_absolute;
  check_finite(frame, Result{&comparison.mean, nullptr, nullptr, nullptr, nullptr});
  return true;
}

void Ensemble::compare_on_host(Frame& frame, std::vector<Result> results, FrameOpinions opinions, const DeviationWish& wish,
                               EnsembleDeviation* found) {
  forces_.resize(3 * frame.n_all() * results.size());
  std::vector<const double*> of_model;
  double* const given = results[0].forces;
  for (std::size_t k = 0; k < results.size(); ++k) {
    results[k].forces = forces_.data() + 3 * frame.n_all() * k;
    of_model.push_back(results[k].forces);
  }
  evaluate_completed(frame, results);
  if (given) std::copy_n(results[0].forces, 3 * frame.n_all(), given);
  for (const Result& result : results) fold(frame, result.forces);
  std::vector<double> atoms(opinions.n_atoms);
  opinions.forces = of_model.data();
  found->frame = frame_deviation(opinions, wish.atoms ? wish.atoms : atoms.data());
  found->largest_force = found->frame.force.max;
  if (opinions.relative < 0) return;
  opinions.relative = -1;
  found->largest_force = frame_deviation(opinions, atoms.data()).force.max;
}

}  // namespace deepmd
