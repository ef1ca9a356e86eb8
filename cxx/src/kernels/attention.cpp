#include "kernels/attention.hpp"

#include <algorithm>
#include <vector>

#include "kernels/exponential.hpp"
#include "kernels/parts.hpp"

namespace deepmd {
namespace {

// Numbers of one slot k in a padded row; `ones` is 1 for real slots.
enum Column {
  kOnes, kW, kH0, kH1, kH2, kTW, kTH0, kTH1, kTH2, kGW, kGH0, kGH1, kGH2, kL, kC, kWW, kP, kA, kD, kTL, kTC, kTWW, kTA,
  kTZ, kT, kS, kQ, kSW, kSTW, kSC, kSTC, kOut, kOutD, kNumber
};

// Forms without branches: g = g0 + g1 c, e = e0 + e1 c, w_jk = w0 + w1 w_j w_k.
struct Factors {
  double g0, g1, e0, e1, w0, w1, shift;
};

Factors factors_of(const Attention& a) {
  return {a.gated ? 0.0 : 1.0, a.gated ? 1.0 : 0.0, a.directed ? 0.0 : 1.0, a.directed ? a.scale : 0.0,
          a.smooth ? 0.0 : 1.0, a.smooth ? 1.0 : 0.0, a.smooth ? 20.0 : 0.0};
}

// The scratch of one atom: kNumber rows of `stride` numbers, of which `n` are used and `padded` computed.
struct Scratch {
  std::vector<double> data;
  std::int64_t stride;
  explicit Scratch(std::int64_t n_slots) : stride((n_slots + kLanes - 1) / kLanes * kLanes) {
    data.assign(static_cast<std::size_t>(kNumber * stride), 0.0);
  }
  double* operator[](Column c) { return data.data() + c * stride; }
};

template <class Real>
void read_row(const Real* from, std::int64_t n, std::int64_t padded, double* to) {
  for (std::int64_t k = 0; k < n; ++k) to[k] = static_cast<double>(from[k]);
  for (std::int64_t k = n; k < padded; ++k) to[k] = 0.0;
}

template <class Real>
void read_slots(const Real* w, const Real* h, std::int64_t n, std::int64_t padded, double* to_w, double* to_h,
                std::int64_t stride) {
  read_row(w, n, padded, to_w);
  for (int a = 0; a < 3; ++a) {
    for (std::int64_t k = 0; k < padded; ++k) to_h[a * stride + k] = k < n ? static_cast<double>(h[3 * k + a]) : 0.0;
  }
}

DEEPMD_INLINE double sum_of(const double* a, std::int64_t n) {
  Lanes sum = {};
  for (std::int64_t k = 0; k < n; k += kLanes) sum += load(a + k);
  return total(sum);
}

DEEPMD_INLINE double dot_of(const double* a, const double* b, std::int64_t n) {
  Lanes sum = {};
  for (std::int64_t k = 0; k < n; k += kLanes) sum += load(a + k) * load(b + k);
  return total(sum);
}

// c, w_jk, the argument a = l g + shift and the softmax p of row j; l stands in kL.
DEEPMD_INLINE void softmax_row(const Factors& f, const Attention& s, double n_empty, std::int64_t j, std::int64_t n,
                               Scratch& row) {
  const double *l = row[kL], *w = row[kW], *h0 = row[kH0], *h1 = row[kH1], *h2 = row[kH2], *ones = row[kOnes];
  double *__restrict c = row[kC], *__restrict ww = row[kWW], *__restrict a = row[kA], *__restrict p = row[kP];
  const double wj = w[j], x = h0[j], y = h1[j], z = h2[j];
  double tops[kLanes];
  for (int q = 0; q < kLanes; ++q) tops[q] = s.smooth ? -20.0 : -1e30;
  for (std::int64_t k = 0; k < n; k += kLanes) {
    for (int q = 0; q < kLanes; ++q) {
      const std::int64_t at = k + q;
      c[at] = x * h0[at] + y * h1[at] + z * h2[at];
      ww[at] = f.w0 + f.w1 * wj * w[at];
      a[at] = l[at] * (f.g0 + f.g1 * c[at]) + f.shift;
      p[at] = a[at] * ww[at] - f.shift;
      const double seen = ones[at] > 0.0 ? p[at] : -1e30;
      tops[q] = seen > tops[q] ? seen : tops[q];
    }
  }
  double top = tops[0];
  for (int q = 1; q < kLanes; ++q) top = std::max(top, tops[q]);
#pragma GCC ivdep
  for (std::int64_t k = 0; k < n; ++k) p[k] = ones[k] * vector_exp(p[k] - top);
  const double sum = sum_of(p, n) + (s.smooth ? n_empty * vector_exp(-20.0 - top) : 0.0);
  const double inverse = 1.0 / sum;
  for (std::int64_t k = 0; k < n; ++k) p[k] *= inverse;
}

DEEPMD_CLONES void value_row(const Factors& f, const Attention& s, double n_empty, std::int64_t j, std::int64_t n,
                             Scratch& row) {
  softmax_row(f, s, n_empty, j, n, row);
  const double *c = row[kC], *ww = row[kWW], *p = row[kP];
  double* __restrict out = row[kOut];
  for (std::int64_t k = 0; k < n; ++k) out[k] = p[k] * ww[k] * (f.e0 + f.e1 * c[k]);
}

// What w_jk and c_jk contribute to the slots: by_w and by_c are the derivatives by them.
DEEPMD_INLINE void spread(std::int64_t j, std::int64_t n, const double* by_w, const double* by_c, const double* w,
                          const double* h, std::int64_t stride, Scratch& row) {
  double* __restrict gw = row[kGW];
  const double own = dot_of(by_w, w, n), wj = w[j];
  for (std::int64_t k = 0; k < n; ++k) gw[k] += by_w[k] * wj;
  gw[j] += own;
  for (int a = 0; a < 3; ++a) {
    const double* ha = h + a * stride;
    double* __restrict gh = row[kGH0] + a * stride;
    const double mine = dot_of(by_c, ha, n), hj = ha[j];
    for (std::int64_t k = 0; k < n; ++k) gh[k] += by_c[k] * hj;
    gh[j] += mine;
  }
}

DEEPMD_CLONES void slope_row(const Factors& f, const Attention& s, double n_empty, std::int64_t j, std::int64_t n,
                             Scratch& row) {
  softmax_row(f, s, n_empty, j, n, row);
  const double *l = row[kL], *c = row[kC], *ww = row[kWW], *p = row[kP], *a = row[kA], *d = row[kD];
  double *__restrict t = row[kT], *__restrict out = row[kOut], *__restrict by_w = row[kSW], *__restrict by_c = row[kSC];
  for (std::int64_t k = 0; k < n; ++k) t[k] = d[k] * ww[k] * (f.e0 + f.e1 * c[k]);
  const double mean = dot_of(p, t, n);
  for (std::int64_t k = 0; k < n; ++k) {
    const double z = p[k] * (t[k] - mean), g = f.g0 + f.g1 * c[k], e = f.e0 + f.e1 * c[k];
    out[k] = z * ww[k] * g;
    by_w[k] = f.w1 * (d[k] * p[k] * e + z * a[k]);
    by_c[k] = f.g1 * z * ww[k] * l[k] + f.e1 * d[k] * p[k] * ww[k];
  }
  spread(j, n, by_w, by_c, row[kW], row[kH0], row.stride, row);
}

// The first half: arguments of row j, their changes along the tangent, and the two means.
DEEPMD_INLINE void tangent_row(const Factors& f, std::int64_t j, std::int64_t n, Scratch& row) {
  const double *l = row[kL], *c = row[kC], *ww = row[kWW], *a = row[kA], *d = row[kD], *tl = row[kTL];
  const double *w = row[kW], *tw = row[kTW], *h = row[kH0], *th = row[kTH0];
  const std::int64_t s = row.stride;
  const double wj = w[j], twj = tw[j], x = h[j], y = h[s + j], z = h[2 * s + j];
  const double tx = th[j], ty = th[s + j], tz = th[2 * s + j];
  double *__restrict tc = row[kTC], *__restrict tww = row[kTWW], *__restrict ta = row[kTA], *__restrict out_z = row[kTZ];
  double *__restrict t = row[kT], *__restrict free = row[kS];
  for (std::int64_t k = 0; k < n; ++k) {
    tc[k] = tx * h[k] + ty * h[s + k] + tz * h[2 * s + k] + x * th[k] + y * th[s + k] + z * th[2 * s + k];
    tww[k] = f.w1 * (twj * w[k] + wj * tw[k]);
    ta[k] = tl[k] * (f.g0 + f.g1 * c[k]) + l[k] * f.g1 * tc[k];
    out_z[k] = ta[k] * ww[k] + a[k] * tww[k];
    const double e = f.e0 + f.e1 * c[k];
    t[k] = d[k] * ww[k] * e;
    free[k] = d[k] * (f.e1 * tc[k] * ww[k] + e * tww[k]);
  }
}

// S = sum_k d_k dA_k = <t dz> - <t><dz> + <s> with means by p, and its derivatives.
DEEPMD_CLONES void bend_row(const Factors& f, const Attention& s, double n_empty, std::int64_t j, std::int64_t n,
                            Scratch& row) {
  softmax_row(f, s, n_empty, j, n, row);
  tangent_row(f, j, n, row);
  const double *l = row[kL], *c = row[kC], *ww = row[kWW], *p = row[kP], *a = row[kA], *d = row[kD], *tl = row[kTL];
  const double *tc = row[kTC], *tww = row[kTWW], *ta = row[kTA], *tz = row[kTZ], *t = row[kT], *free = row[kS];
  const double mean_t = dot_of(p, t, n), mean_z = dot_of(p, tz, n);
  double *__restrict q = row[kQ], *__restrict by_w = row[kSW], *__restrict by_tw = row[kSTW];
  double *__restrict by_c = row[kSC], *__restrict by_tc = row[kSTC];
  for (std::int64_t k = 0; k < n; ++k) q[k] = t[k] * tz[k] - mean_t * tz[k] - t[k] * mean_z + free[k];
  const double mean_q = dot_of(p, q, n);
  double *__restrict d_d = row[kOutD], *__restrict d_l = row[kOut];
  for (std::int64_t k = 0; k < n; ++k) {
    const double g = f.g0 + f.g1 * c[k], e = f.e0 + f.e1 * c[k], tg = f.g1 * tc[k], te = f.e1 * tc[k];
    const double by_t = p[k] * (tz[k] - mean_z), by_tz = p[k] * (t[k] - mean_t), by_z = p[k] * (q[k] - mean_q);
    const double pd = p[k] * d[k];
    by_c[k] = f.g1 * (by_z * l[k] * ww[k] + by_tz * (tl[k] * ww[k] + l[k] * tww[k])) +
              f.e1 * d[k] * (by_t * ww[k] + p[k] * tww[k]);
    by_tc[k] = f.g1 * by_tz * l[k] * ww[k] + f.e1 * pd * ww[k];
    by_w[k] = f.w1 * (by_z * a[k] + by_tz * ta[k] + by_t * d[k] * e + pd * te);
    by_tw[k] = f.w1 * (by_tz * a[k] + pd * e);
    d_l[k] = by_z * g * ww[k] + by_tz * (tg * ww[k] + g * tww[k]);
    d_d[k] = by_t * e * ww[k] + p[k] * (te * ww[k] + e * tww[k]);
  }
  spread(j, n, by_w, by_c, row[kW], row[kH0], row.stride, row);
  spread(j, n, by_tw, by_tc, row[kTW], row[kTH0], row.stride, row);
}

template <class Real>
void write_row(const double* from, std::int64_t n, Real* to) {
  for (std::int64_t k = 0; k < n; ++k) to[k] = static_cast<Real>(from[k]);
}

constexpr std::int64_t kLeast = 4;  // atoms for a thread

std::int64_t padded_count(std::int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Slots of an atom into the scratch; sums over them start at zero.
template <class Real>
void begin_atom(const Attention& a, std::int64_t i, const AttentionInputs<Real>& x, Scratch& row) {
  const std::int64_t n = a.counts[i], padded = padded_count(n);
  read_slots(x.w + i * a.n_slots, x.h + 3 * i * a.n_slots, n, padded, row[kW], row[kH0], row.stride);
  for (std::int64_t k = 0; k < padded; ++k) row[kOnes][k] = k < n ? 1.0 : 0.0;
  std::fill(row[kGW], row[kGW] + 4 * row.stride, 0.0);
}

template <class Real>
void end_atom(const Attention& a, std::int64_t i, Scratch& row, const AttentionOutputs<Real>& out) {
  const std::int64_t n = a.counts[i];
  write_row(row[kGW], n, out.w + i * a.n_slots);
  for (std::int64_t k = 0; k < n; ++k) {
    for (int c = 0; c < 3; ++c) out.h[3 * (i * a.n_slots + k) + c] = static_cast<Real>(row[kGH0][c * row.stride + k]);
  }
}

template <class Real>
void clear(const Attention& a, Real* rows, const AttentionOutputs<Real>* out) {
  const std::int64_t slots = a.n_centers * a.n_slots, couples = slots * a.n_slots * a.n_heads;
  if (rows) std::fill(rows, rows + couples, Real(0));
  if (!out) return;
  std::fill(out->logits, out->logits + couples, Real(0));
  std::fill(out->w, out->w + slots, Real(0));
  std::fill(out->h, out->h + 3 * slots, Real(0));
}

// Where row j of a head begins.
std::int64_t row_of(const Attention& a, std::int64_t i, std::int64_t head, std::int64_t j) {
  return ((i * a.n_heads + head) * a.n_slots + j) * a.n_slots;
}

}  // namespace

template <class Real>
void attention_values(const Attention& a, const AttentionInputs<Real>& x, Real* weights) {
  const Factors f = factors_of(a);
  clear<Real>(a, weights, nullptr);
  in_parts(a.n_centers, kLeast, [&](std::int64_t begin, std::int64_t end) {
    Scratch row(a.n_slots);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t n = a.counts[i], padded = padded_count(n);
      begin_atom(a, i, x, row);
      for (std::int64_t m = 0; m < a.n_heads * n; ++m) {
        const std::int64_t at = row_of(a, i, m / n, m % n);
        read_row(x.logits + at, n, padded, row[kL]);
        value_row(f, a, a.n_total - static_cast<double>(n), m % n, padded, row);
        write_row(row[kOut], n, weights + at);
      }
    }
  });
}

template <class Real>
void attention_slopes(const Attention& a, const AttentionInputs<Real>& x, const Real* d,
                      const AttentionOutputs<Real>& out) {
  const Factors f = factors_of(a);
  clear<Real>(a, nullptr, &out);
  in_parts(a.n_centers, kLeast, [&](std::int64_t begin, std::int64_t end) {
    Scratch row(a.n_slots);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t n = a.counts[i], padded = padded_count(n);
      begin_atom(a, i, x, row);
      for (std::int64_t m = 0; m < a.n_heads * n; ++m) {
        const std::int64_t at = row_of(a, i, m / n, m % n);
        read_row(x.logits + at, n, padded, row[kL]);
        read_row(d + at, n, padded, row[kD]);
        slope_row(f, a, a.n_total - static_cast<double>(n), m % n, padded, row);
        write_row(row[kOut], n, out.logits + at);
      }
      end_atom(a, i, row, out);
    }
  });
}

template <class Real>
void attention_bends(const Attention& a, const AttentionInputs<Real>& x, const Real* d, const AttentionInputs<Real>& t,
                     Real* d_d, const AttentionOutputs<Real>& out) {
  const Factors f = factors_of(a);
  clear(a, d_d, &out);
  in_parts(a.n_centers, kLeast, [&](std::int64_t begin, std::int64_t end) {
    Scratch row(a.n_slots);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t n = a.counts[i], padded = padded_count(n), slot = i * a.n_slots;
      begin_atom(a, i, x, row);
      read_slots(t.w + slot, t.h + 3 * slot, n, padded, row[kTW], row[kTH0], row.stride);
      for (std::int64_t m = 0; m < a.n_heads * n; ++m) {
        const std::int64_t at = row_of(a, i, m / n, m % n);
        read_row(x.logits + at, n, padded, row[kL]);
        read_row(d + at, n, padded, row[kD]);
        read_row(t.logits + at, n, padded, row[kTL]);
        bend_row(f, a, a.n_total - static_cast<double>(n), m % n, padded, row);
        write_row(row[kOutD], n, d_d + at);
        write_row(row[kOut], n, out.logits + at);
      }
      end_atom(a, i, row, out);
    }
  });
}

#define DEEPMD_INSTANCES(Real)                                                                                        \
  template void attention_values(const Attention&, const AttentionInputs<Real>&, Real*);                              \
  template void attention_slopes(const Attention&, const AttentionInputs<Real>&, const Real*,                         \
                                 const AttentionOutputs<Real>&);                                                      \
  template void attention_bends(const Attention&, const AttentionInputs<Real>&, const Real*,                          \
                                const AttentionInputs<Real>&, Real*, const AttentionOutputs<Real>&);
DEEPMD_INSTANCES(double)
DEEPMD_INSTANCES(float)

}  // namespace deepmd
