#pragma once

#include "device/shapes.hpp"
#include "model/fused_plan.hpp"

namespace deepmd::device {

// The plan of the CPU's engine, with its tables and folded weights, laid out for a device. One home for what the numbers
// mean: model/fused_plan.cpp.
template <class Real>
ModelImage<Real> make_image(const FusedPlan<Real>& plan);

}  // namespace deepmd::device
