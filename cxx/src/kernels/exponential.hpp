// e^x and what is made of it, for loops that the compiler turns into vector instructions: no branches and no calls.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/lanes.hpp"

namespace deepmd {

// e^x = power (1 + rest), |x| <= 700: x = k ln(2) + r with |r| <= ln(2) / 2, ln(2) in two parts, the first one short.
struct Exponential {
  double power, rest;
};

DEEPMD_INLINE Exponential exponential(double x) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: the low bits of x / ln(2) + kRound are the integer k
  const double shifted = x * 1.4426950408889634 + kRound;
  const double k = shifted - kRound;
  const double r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  double p = r / 6227020800.0 + 1.0 / 479001600;  // (e^r - 1) / r by 1 / n!
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  std::int64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<std::int64_t>(static_cast<std::uint64_t>(bits + 1023) << 52);
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return {power, p * r};
}

// Within [-700, 700]; not a number stays what it is.
DEEPMD_INLINE double bounded(double x) { return x > 700.0 ? 700.0 : x < -700.0 ? -700.0 : x; }

DEEPMD_INLINE double vector_exp(double x) {
  const Exponential e = exponential(bounded(x));
  return e.power + e.power * e.rest;
}

DEEPMD_INLINE double vector_sigmoid(double x) { return 1.0 / (1.0 + vector_exp(-x)); }

// -m / (m + 2) with m = e^(-2|x|) - 1, which keeps small x to full relative precision.
DEEPMD_INLINE double vector_tanh(double x) {
  const double magnitude = std::fabs(x);
  const Exponential e = exponential(-2.0 * (magnitude > 20.0 ? 20.0 : magnitude));
  const double m = e.power * e.rest + (e.power - 1.0);
  return std::copysign(-m / (m + 2.0), x);
}

}  // namespace deepmd
