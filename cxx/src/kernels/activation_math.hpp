// Activation functions with their derivatives, one number at a time; shared by host and device. tanh, which nearly all
// networks use, has a vector form of its own in activation.cpp.
#pragma once

#include <cmath>

#include "kernels/activation_kind.hpp"
#include "kernels/pair_math.hpp"

namespace deepmd {

struct ValueAndSlope {
  double value, slope;
};

DEEPMD_HD inline ValueAndSlope gelu(double x) {
  const double c = 0.7978845608028654;  // sqrt(2 / pi)
  const double t = std::tanh(c * (x + 0.044715 * x * x * x));
  return {0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)};
}

DEEPMD_HD inline ValueAndSlope silu(double x) {
  const double s = 0.5 * (1.0 + std::tanh(0.5 * x));
  return {x * s, s + x * s * (1.0 - s)};
}

// SiLU below the threshold; above it a tanh that continues value and slope.
DEEPMD_HD inline ValueAndSlope silut(double x, double threshold) {
  if (x < threshold) return silu(x);
  const ValueAndSlope at = silu(threshold);
  const double t = std::tanh(at.slope * (x - threshold));
  return {t + at.value, at.slope * (1.0 - t * t)};
}

DEEPMD_HD inline ValueAndSlope value_and_slope(Activation kind, double threshold, double x) {
  const double sigmoid = 0.5 * (1.0 + std::tanh(0.5 * x));
  switch (kind) {
    case Activation::none: return {x, 1.0};
    case Activation::relu: return {x > 0.0 ? x : 0.0, x > 0.0 ? 1.0 : 0.0};
    case Activation::relu6: return {x > 6.0 ? 6.0 : x > 0.0 ? x : 0.0, x > 0.0 && x < 6.0 ? 1.0 : 0.0};
    case Activation::softplus: return {x > 0.0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)), sigmoid};
    case Activation::sigmoid: return {sigmoid, sigmoid * (1.0 - sigmoid)};
    case Activation::silu: return silu(x);
    case Activation::gelu: return gelu(x);
    case Activation::silut: return silut(x, threshold);
    case Activation::tanh: break;
  }
  const double t = std::tanh(x);
  return {t, 1.0 - t * t};
}

}  // namespace deepmd
