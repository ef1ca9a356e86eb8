#include "kernels/curves.hpp"

#include "kernels/activation_math.hpp"
#include "kernels/exponential.hpp"
#include "kernels/parts.hpp"

namespace deepmd {
namespace {

// value(x) of the argument; first and second of the state.
struct TanhCurve {
  DEEPMD_INLINE double value(double x) const { return vector_tanh(x); }
  DEEPMD_INLINE double first(double y) const { return 1.0 - y * y; }
  DEEPMD_INLINE double second(double y) const { return -2.0 * y * (1.0 - y * y); }
};

struct SigmoidCurve {
  DEEPMD_INLINE double value(double x) const { return vector_sigmoid(x); }
  DEEPMD_INLINE double first(double x) const {
    const double s = vector_sigmoid(x);
    return s * (1.0 - s);
  }
  DEEPMD_INLINE double second(double x) const {
    const double s = vector_sigmoid(x);
    return s * (1.0 - s) * (1.0 - 2.0 * s);
  }
};

struct SiluCurve {
  DEEPMD_INLINE double value(double x) const { return x * vector_sigmoid(x); }
  DEEPMD_INLINE double first(double x) const {
    const double s = vector_sigmoid(x);
    return s + x * s * (1.0 - s);
  }
  DEEPMD_INLINE double second(double x) const {
    const double s = vector_sigmoid(x);
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s));
  }
};

// x (1 + t) / 2 with t = tanh(c (x + a x^3))
struct GeluCurve {
  static constexpr double kC = 0.7978845608028654, kA = 0.044715;
  DEEPMD_INLINE double value(double x) const { return 0.5 * x * (1.0 + vector_tanh(kC * (x + kA * x * x * x))); }
  DEEPMD_INLINE double first(double x) const {
    const double t = vector_tanh(kC * (x + kA * x * x * x)), d = kC * (1.0 + 3.0 * kA * x * x);
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * d;
  }
  DEEPMD_INLINE double second(double x) const {
    const double t = vector_tanh(kC * (x + kA * x * x * x)), d = kC * (1.0 + 3.0 * kA * x * x);
    return (1.0 - t * t) * (d + 0.5 * x * (6.0 * kC * kA * x - 2.0 * t * d * d));
  }
};

// SiLU below the threshold; above it a tanh that continues value and slope.
struct SilutCurve {
  double threshold, at, slope;
  SiluCurve below;
  DEEPMD_INLINE double value(double x) const {
    const double above = vector_tanh(slope * (x - threshold)) + at, under = below.value(x);
    return x < threshold ? under : above;
  }
  DEEPMD_INLINE double first(double x) const {
    const double t = vector_tanh(slope * (x - threshold)), under = below.first(x);
    return x < threshold ? under : slope * (1.0 - t * t);
  }
  DEEPMD_INLINE double second(double x) const {
    const double t = vector_tanh(slope * (x - threshold)), under = below.second(x);
    return x < threshold ? under : -2.0 * slope * slope * t * (1.0 - t * t);
  }
};

template <class F, class Real>
DEEPMD_INLINE void values_body(const F f, std::int64_t n, const Real* x, Real* y) {
#pragma GCC ivdep  // x and y may be the same
  for (std::int64_t k = 0; k < n; ++k) y[k] = static_cast<Real>(f.value(static_cast<double>(x[k])));
}

template <class F, class Real>
DEEPMD_INLINE void slopes_body(const F f, std::int64_t n, const Real* state, const Real* d, Real* __restrict out) {
#pragma GCC ivdep
  for (std::int64_t k = 0; k < n; ++k) out[k] = static_cast<Real>(f.first(static_cast<double>(state[k]))) * d[k];
}

template <class F, class Real>
DEEPMD_INLINE void bends_body(const F f, std::int64_t n, const Real* state, const Real* d, const Real* u,
                              Real* __restrict d_d, Real* __restrict d_x) {
#pragma GCC ivdep
  for (std::int64_t k = 0; k < n; ++k) {
    const double s = static_cast<double>(state[k]);
    d_d[k] = static_cast<Real>(f.first(s)) * u[k];
    d_x[k] = static_cast<Real>(f.second(s)) * d[k] * u[k];
  }
}

// One version for each number type, function and instruction set.
#define DEEPMD_CURVE(F, Real)                                                                                        \
  DEEPMD_CLONES void values_of(const F& f, std::int64_t n, const Real* x, Real* y) { values_body(f, n, x, y); }       \
  DEEPMD_CLONES void slopes_of(const F& f, std::int64_t n, const Real* s, const Real* d, Real* out) {                 \
    slopes_body(f, n, s, d, out);                                                                                    \
  }                                                                                                                  \
  DEEPMD_CLONES void bends_of(const F& f, std::int64_t n, const Real* s, const Real* d, const Real* u, Real* d_d,     \
                              Real* d_x) {                                                                           \
    bends_body(f, n, s, d, u, d_d, d_x);                                                                             \
  }
#define DEEPMD_CURVES(Real)        \
  DEEPMD_CURVE(TanhCurve, Real)    \
  DEEPMD_CURVE(SigmoidCurve, Real) \
  DEEPMD_CURVE(SiluCurve, Real)    \
  DEEPMD_CURVE(GeluCurve, Real)    \
  DEEPMD_CURVE(SilutCurve, Real)
DEEPMD_CURVES(double)
DEEPMD_CURVES(float)

constexpr std::int64_t kLeast = 8192;  // numbers for a thread

// Calls what with the function of the kind.
template <class What>
void with_curve(const Curve& curve, What what) {
  switch (curve.kind) {
    case Activation::sigmoid: return what(SigmoidCurve());
    case Activation::silu: return what(SiluCurve());
    case Activation::gelu: return what(GeluCurve());
    case Activation::silut: {
      const ValueAndSlope at = silu(curve.threshold);
      return what(SilutCurve{curve.threshold, at.value, at.slope, {}});
    }
    default: return what(TanhCurve());
  }
}

}  // namespace

template <class Real>
void curve_values_here(const Curve& curve, std::int64_t n, const Real* x, Real* y) {
  with_curve(curve, [=](const auto& f) { values_of(f, n, x, y); });
}

template <class Real>
void curve_slopes_here(const Curve& curve, std::int64_t n, const Real* state, const Real* d, Real* out) {
  with_curve(curve, [=](const auto& f) { slopes_of(f, n, state, d, out); });
}

template <class Real>
void curve_bends_here(const Curve& curve, std::int64_t n, const Real* state, const Real* d, const Real* u, Real* d_d,
                      Real* d_x) {
  with_curve(curve, [=](const auto& f) { bends_of(f, n, state, d, u, d_d, d_x); });
}

template <class Real>
void curve_values(const Curve& curve, std::int64_t n, const Real* x, Real* y) {
  in_parts(n, kLeast, [=](std::int64_t a, std::int64_t b) { curve_values_here(curve, b - a, x + a, y + a); });
}

template <class Real>
void curve_slopes(const Curve& curve, std::int64_t n, const Real* state, const Real* d, Real* out) {
  in_parts(n, kLeast, [=](std::int64_t a, std::int64_t b) {
    curve_slopes_here(curve, b - a, state + a, d + a, out + a);
  });
}

template <class Real>
void curve_bends(const Curve& curve, std::int64_t n, const Real* state, const Real* d, const Real* u, Real* d_d,
                 Real* d_x) {
  in_parts(n, kLeast, [=](std::int64_t a, std::int64_t b) {
    curve_bends_here(curve, b - a, state + a, d + a, u + a, d_d + a, d_x + a);
  });
}

#define DEEPMD_INSTANCES(Real)                                                                                      \
  template void curve_values_here(const Curve&, std::int64_t, const Real*, Real*);                                  \
  template void curve_slopes_here(const Curve&, std::int64_t, const Real*, const Real*, Real*);                     \
  template void curve_bends_here(const Curve&, std::int64_t, const Real*, const Real*, const Real*, Real*, Real*);  \
  template void curve_values(const Curve&, std::int64_t, const Real*, Real*);                                       \
  template void curve_slopes(const Curve&, std::int64_t, const Real*, const Real*, Real*);                          \
  template void curve_bends(const Curve&, std::int64_t, const Real*, const Real*, const Real*, Real*, Real*);
DEEPMD_INSTANCES(double)
DEEPMD_INSTANCES(float)

}  // namespace deepmd
