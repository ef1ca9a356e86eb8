#include "joint_system.hpp"

namespace deepmd::ipi {

void JointSystem::start(const std::vector<int>& types, const std::vector<double>& aparam) {
  types_one_ = &types;
  aparam_one_ = &aparam;
  positions_.clear();
  types_.clear();
  aparam_.clear();
  first_.assign(1, 0);
  index_.clear();
  shift_.clear();
}

void JointSystem::add(const Frame& frame, const deepmd_list& list) {
  const int before = static_cast<int>(types_.size());
  const std::int64_t pairs_before = first_.back();
  const std::int64_t n_pairs = list.first[list.n_centers];
  positions_.insert(positions_.end(), frame.positions.begin(), frame.positions.end());
  types_.insert(types_.end(), types_one_->begin(), types_one_->end());
  aparam_.insert(aparam_.end(), aparam_one_->begin(), aparam_one_->end());
  for (int i = 1; i <= list.n_centers; ++i) {
    first_.push_back(pairs_before + list.first[i]);
  }
  for (std::int64_t k = 0; k < n_pairs; ++k) {
    index_.push_back(before + list.index[k]);
  }
  shift_.insert(shift_.end(), list.shift, list.shift + 3 * n_pairs);
}

void JointSystem::describe(deepmd_input& input, deepmd_output& output) {
  list_.size = sizeof list_;
  list_.n_centers = static_cast<int>(types_.size());
  list_.first = first_.data();
  list_.index = index_.data();
  list_.shift = shift_.data();
  input.n_local = list_.n_centers;
  input.positions = positions_.data();
  input.types = types_.data();
  input.list = &list_;
  input.aparam = aparam_.empty() ? nullptr : aparam_.data();
  forces_.resize(positions_.size());
  atom_energy_.resize(types_.size());
  atom_virial_.resize(9 * types_.size());
  output.forces = forces_.data();
  output.atom_energy = atom_energy_.data();
  output.atom_virial = atom_virial_.data();
}

void JointSystem::take(std::size_t k, Evaluation& result) const {
  const std::size_t n_atoms = types_one_->size();
  const std::size_t start = k * n_atoms;
  result.forces.assign(forces_.begin() + static_cast<std::ptrdiff_t>(3 * start),
                       forces_.begin() + static_cast<std::ptrdiff_t>(3 * (start + n_atoms)));
  result.energy = 0.0;
  result.virial.fill(0.0);
  for (std::size_t i = start; i < start + n_atoms; ++i) {
    result.energy += atom_energy_[i];
    for (std::size_t ab = 0; ab < 9; ++ab) {
      result.virial[ab] += atom_virial_[9 * i + ab];
    }
  }
}

}  // namespace deepmd::ipi
