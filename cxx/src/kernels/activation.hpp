#pragma once

#include "kernels/activation_kind.hpp"
#include "kernels/variants.hpp"

namespace deepmd {

// One layer's non-linear part, for m rows: y = act(x) * idt + skip and slope = act'(x) * idt. x and y may be the same.
template <class Real>
struct Activate {
  Activation kind = Activation::tanh;
  double threshold = 3.0;  // of silut
  int m = 0, n = 0;
  const Real* x = nullptr;
  Real *y = nullptr, *slope = nullptr;
  int stride = 0;              // of x, y and slope: a multiple of kPad; the padding may be written
  const Real* idt = nullptr;   // [padded(n)] or null
  const Real* skip = nullptr;  // [m][skip_stride] or null
  int skip_stride = 0;
};

// out = g * slope, element by element, for m rows.
template <class Real>
struct ScaleRows {
  int m = 0, n = 0;
  const Real *g = nullptr, *slope = nullptr;
  Real* out = nullptr;
  int stride = 0;  // of all three
};

// energy[i] = sum_c x[i][c] out[c] + shift, in double precision; out is zero from n to the next multiple of kPad.
template <class Real>
struct SumOutputs {
  int m = 0, n = 0;
  const Real *x = nullptr, *out = nullptr;
  int stride = 0;
  double shift = 0;
  double* energy = nullptr;
};

template <class Real>
Kernel<Activate<Real>> choose_activate(Isa isa);
template <class Real>
Kernel<ScaleRows<Real>> choose_scale_rows(Isa isa);
template <class Real>
Kernel<SumOutputs<Real>> choose_sum_outputs(Isa isa);

}  // namespace deepmd
