#include "kernels/activation.hpp"

#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/gemm.hpp"
#include "kernels/activation_math.hpp"
#include "kernels/vector.hpp"

namespace deepmd {
namespace {

// e^x = 2^k e^r with |r| <= ln(2) / 2; ln(2) in two parts, the first one short, so that k ln(2) is exact.
template <class Real>
struct ExpConstants;
template <>
struct ExpConstants<double> {
  using Bits = std::int64_t;
  static constexpr double kLog2E = 1.4426950408889634, kLn2High = 6.93147180369123816490e-01;
  static constexpr double kLn2Low = 1.90821492927058770002e-10, kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52, kTerms = 13;
  static constexpr Bits kBias = 1023, kAbs = 0x7fffffffffffffff;
  static constexpr double kMost = 20.0;  // from here on tanh is 1
};
template <>
struct ExpConstants<float> {
  using Bits = std::int32_t;
  static constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f, kRound = 12582912.0f;  // 1.5 * 2^23
  static constexpr int kMantissa = 23, kTerms = 7;
  static constexpr Bits kBias = 127, kAbs = 0x7fffffff;
  static constexpr float kMost = 10.0f;
};

// 1 / n!
constexpr double kInverseFactorial[] = {1.0,           1.0,           1.0 / 2,        1.0 / 6,         1.0 / 24,
                                        1.0 / 120,     1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                                        1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};

// Lane by lane in a loop: the compiler makes one instruction of it. Not a number stays what it is.
template <class V, class Real>
DEEPMD_INLINE V at_most(V v, Real most) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  Real lanes[kLanes];
  store(lanes, v);
#pragma GCC unroll 1
  for (int l = 0; l < kLanes; ++l) lanes[l] = lanes[l] > most ? most : lanes[l];
  return load<V>(lanes);
}

// tanh x = -m / (m + 2) with m = e^(-2|x|) - 1, which keeps small x to full relative precision.
template <class V, class Real>
DEEPMD_INLINE V vector_tanh(V x) {
  using C = ExpConstants<Real>;
  using Bits = Vector<typename C::Bits, sizeof(V)>;
  const Bits sign = reinterpret_cast<Bits>(x) & ~C::kAbs;
  const V magnitude = reinterpret_cast<V>(reinterpret_cast<Bits>(x) & C::kAbs);
  const V y = at_most(magnitude, C::kMost) * Real(-2);
  const V shifted = y * C::kLog2E + C::kRound;
  const V k = shifted - C::kRound;
  const V r = (y - k * C::kLn2High) - k * C::kLn2Low;
  V p = r * static_cast<Real>(kInverseFactorial[C::kTerms]) + static_cast<Real>(kInverseFactorial[C::kTerms - 1]);
#pragma GCC unroll 16
  for (int n = C::kTerms - 2; n >= 1; --n) p = p * r + static_cast<Real>(kInverseFactorial[n]);
  // The low bits of `shifted` are the integer k.
  const V power = reinterpret_cast<V>((reinterpret_cast<Bits>(shifted) + C::kBias) << C::kMantissa);
  const V m = power * (p * r) + (power - Real(1));
  return reinterpret_cast<V>(reinterpret_cast<Bits>(-m / (m + Real(2))) | sign);
}

template <class V, class Real>
DEEPMD_INLINE void activate_tanh(const Activate<Real>& a, std::ptrdiff_t row, std::ptrdiff_t skip_row) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  for (int c = 0; c < a.n; c += kLanes) {
    const V t = vector_tanh<V, Real>(load<V>(a.x + row + c));
    V y = t, slope = Real(1) - t * t;
    if (a.idt) {
      const V idt = load<V>(a.idt + c);
      y *= idt;
      slope *= idt;
    }
    if (a.skip) y += load<V>(a.skip + skip_row + c);
    store(a.y + row + c, y);
    store(a.slope + row + c, slope);
  }
}

template <class Real>
void activate_other(const Activate<Real>& a, std::ptrdiff_t row, std::ptrdiff_t skip_row) {
  for (int c = 0; c < a.n; ++c) {
    const ValueAndSlope f = value_and_slope(a.kind, a.threshold, static_cast<double>(a.x[row + c]));
    const double idt = a.idt ? static_cast<double>(a.idt[c]) : 1.0;
    a.slope[row + c] = static_cast<Real>(f.slope * idt);
    a.y[row + c] = static_cast<Real>(f.value * idt + (a.skip ? static_cast<double>(a.skip[skip_row + c]) : 0.0));
  }
}

template <class Width, class Real>
DEEPMD_INLINE void activate_body(const Activate<Real>& args) {
  using V = Vector<Real, Width::kBytes>;
  const Activate<Real> a = args;
  for (int i = 0; i < a.m; ++i) {
    const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(i) * a.stride;
    const std::ptrdiff_t skip_row = static_cast<std::ptrdiff_t>(i) * a.skip_stride;
    if (a.kind == Activation::tanh) {
      activate_tanh<V>(a, row, skip_row);
    } else {
      activate_other(a, row, skip_row);
    }
  }
}

template <class Width, class Real>
DEEPMD_INLINE void scale_rows_body(const ScaleRows<Real>& args) {
  using V = Vector<Real, Width::kBytes>;
  const ScaleRows<Real> a = args;
  for (int i = 0; i < a.m; ++i) {
    const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(i) * a.stride;
    for (int c = 0; c < a.n; c += Width::kBytes / sizeof(Real)) {
      store(a.out + row + c, load<V>(a.g + row + c) * load<V>(a.slope + row + c));
    }
  }
}

template <class Width, class Real>
DEEPMD_INLINE void sum_outputs_body(const SumOutputs<Real>& args) {
  using V = Vector<double, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(double);
  const SumOutputs<Real> a = args;
  for (int i = 0; i < a.m; ++i) {
    const Real* x = a.x + static_cast<std::ptrdiff_t>(i) * a.stride;
    V sum = {};
    for (int c = 0; c < a.n; c += kLanes) sum += load_as_double<V>(x + c) * load_as_double<V>(a.out + c);
    a.energy[i] = sum_of_lanes<V, kLanes>(sum) + a.shift;
  }
}

}  // namespace

DEEPMD_VARIANTS(activate, Activate)
DEEPMD_VARIANTS(scale_rows, ScaleRows)
DEEPMD_VARIANTS(sum_outputs, SumOutputs)

}  // namespace deepmd
