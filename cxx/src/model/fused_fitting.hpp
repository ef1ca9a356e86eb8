#pragma once

#include <vector>

#include "core/aligned_vector.hpp"
#include "model/fused_plan.hpp"

namespace deepmd {

// The fitting network for blocks of centres of one type: products with packed weights, and the way back by hand.
template <class Real>
class FusedFitting {
 public:
  explicit FusedFitting(const FusedPlan<Real>& plan);

  // energy [m] in eV from inputs x [m][center.x_stride].
  void forward(const CenterPlan<Real>& center, int m, const Real* x, double* energy);
  // After forward with the same m: g_x [m][center.x_stride] = dE/dx of the products.
  void backward(const CenterPlan<Real>& center, int m, Real* g_x);
  std::size_t bytes() const;

 private:
  void make_room(const CenterPlan<Real>& center, int m);
  void run_layer(const PlanLayer<Real>& layer, int m, const Real* x, int x_stride, Real* h, Real* slope);
  void run_layer_back(const PlanLayer<Real>& layer, int m, int stride_in);

  const Kernels<Real>& kernels_;
  std::vector<aligned_vector<Real>> h_, slope_;  // per layer, [m][padded(n_out)]
  aligned_vector<Real> g_, g_in_, g_pre_;        // dE/dh of a layer, of the one before, and of the argument of act
};

}  // namespace deepmd
