#include "model/fused_block.hpp"

namespace deepmd {

template <class Real>
FusedBlock<Real>::FusedBlock(const FusedPlan<Real>& plan) : plan_(plan), fitting_(plan) {
  for (std::size_t k = 0; k < plan.tree.descriptors.size(); ++k) descriptors_.emplace_back(plan, static_cast<int>(k));
  for (std::size_t k = 0; k < plan.couples.size(); ++k) couples_.emplace_back(plan, static_cast<int>(k));
}

template <class Real>
void FusedBlock<Real>::evaluate(const Frame& frame, const int* atoms, const BlockPairs* pairs, const BlockSums& sums) {
  const int t_i = frame.types[atoms[0]], m = pairs->m;
  const CenterPlan<Real>& center = plan_.centers[t_i];
  const std::size_t n_inputs = static_cast<std::size_t>(m) * center.x_stride + kPad;
  if (x_.size() < n_inputs) x_.resize(n_inputs);
  if (energy_.size() < static_cast<std::size_t>(m)) energy_.resize(m);
  for (std::size_t k = 0; k < descriptors_.size(); ++k) {
    descriptors_[k].forward(t_i, pairs[plan_.rules_of[k]], x_.data(), center.x_stride);
  }
  for (std::size_t k = 0; k < couples_.size(); ++k) {
    couples_[k].forward(t_i, pairs[plan_.couples[k].rules], x_.data(), center.x_stride);
  }
  add_parameters(frame, center, atoms, m);
  fitting_.forward(center, m, x_.data(), energy_.data());
  for (int k = 0; k < m; ++k) sums.atom_energy[atoms[k]] = energy_[k];
  if (!sums.wants_gradient()) return;
  fitting_.backward(center, m, x_.data());
  for (auto& each : descriptors_) each.backward(x_.data(), center.x_stride, atoms, sums);
  for (auto& each : couples_) each.backward(x_.data(), center.x_stride, atoms, sums);
}

template <class Real>
void FusedBlock<Real>::add_parameters(const Frame& frame, const CenterPlan<Real>& center, const int* atoms, int m) {
  const EnergyTree& tree = plan_.tree;
  for (int k = 0; k < m; ++k) {
    Real* x = x_.data() + static_cast<std::size_t>(k) * center.x_stride + center.n_x;
    for (int c = 0; c < tree.dim_fparam; ++c) *x++ = static_cast<Real>((frame.fparam[c] - tree.fparam_avg[c]) * tree.fparam_inv_std[c]);
    const double* aparam = tree.dim_aparam ? frame.aparam + static_cast<std::size_t>(atoms[k]) * tree.dim_aparam : nullptr;
    for (int c = 0; c < tree.dim_aparam; ++c) *x++ = static_cast<Real>((aparam[c] - tree.aparam_avg[c]) * tree.aparam_inv_std[c]);
  }
}

template <class Real>
std::int64_t FusedBlock<Real>::n_outside() const {
  std::int64_t n = 0;
  for (const auto& each : descriptors_) n += each.n_outside();
  for (const auto& each : couples_) n += each.n_outside();
  return n;
}

template <class Real>
std::size_t FusedBlock<Real>::bytes() const {
  std::size_t n = fitting_.bytes() + x_.size() * sizeof(Real);
  for (const auto& each : descriptors_) n += each.bytes();
  for (const auto& each : couples_) n += each.bytes();
  return n;
}

template class FusedBlock<float>;
template class FusedBlock<double>;

}  // namespace deepmd
