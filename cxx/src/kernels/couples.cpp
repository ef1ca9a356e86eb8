#include "kernels/couples.hpp"

#include <cmath>
#include <cstddef>

#include "core/aligned_vector.hpp"
#include "kernels/vector.hpp"

namespace deepmd {
namespace {

constexpr int kDegrees = 6;
constexpr int kApart = kBanks * kMoments;  // from the moments of one interval to those of the next

// As many couples as a vector of doubles has lanes; their numbers as Real fill a vector of as many lanes.
template <class Width, class Real>
struct CoupleTypes {
  static constexpr int kLanes = Width::kBytes / sizeof(double);
  using Doubles = Vector<double, Width::kBytes>;
  using Integers = Vector<int, Width::kBytes / 2>;
  using Reals = Vector<Real, kLanes * sizeof(Real)>;
  static constexpr int kGroups = (kDegrees + kLanes - 1) / kLanes;  // of degrees, in vectors
};

// Products of one row with a vector of others, and where they lie in the table.
template <int kLanes>
struct ProductLanes {
  double inside[kLanes];  // the product, moved to the nearer end
  double at[kLanes];      // position in the table
  double beyond[kLanes];
};

// x y + z, rounded once wherever the processor can. The way back must find each couple in the very interval of the way
// there, so the compiler is not to choose in which of the two it rounds twice.
template <class Width>
DEEPMD_INLINE double multiply_add(double x, double y, double z) {
#if DEEPMD_HAS_VARIANTS && !defined(__FMA__)
  if constexpr (Width::kBytes == Narrow::kBytes) return x * y + z;  // no such instruction
#endif
  return __builtin_fma(x, y, z);
}

template <class Width, int kLanes>
DEEPMD_INLINE void place_products(const CoupleRuns& runs, const double* own, int k, ProductLanes<kLanes>& lanes) {
  const double *x = runs.k.row[0] + k, *y = runs.k.row[1] + k, *z = runs.k.row[2] + k;
  const CoupleGrid grid = runs.grid;
#pragma GCC unroll 1
  for (int l = 0; l < kLanes; ++l) {
    const double product = multiply_add<Width>(own[0], x[l], multiply_add<Width>(own[1], y[l], own[2] * z[l]));
    const double above = product > grid.lo ? product : grid.lo;  // also of what is not a number
    const double inside = above < grid.hi ? above : grid.hi;
    const double at = (inside - grid.lo) * grid.inverse_step;
    lanes.inside[l] = inside;
    lanes.at[l] = at < grid.last ? at : grid.last;
    lanes.beyond[l] = std::abs(product - inside);
  }
}

// How often the couples of row j with rows [k, k + kLanes) count.
template <class V, int kLanes>
DEEPMD_INLINE V times_counted(bool is_same, int j, int k) {
  V times = V{} + (is_same ? 2.0 : 1.0);
  if (is_same && k <= j) {
    for (int l = 0; l < kLanes; ++l) times[l] = k + l < j ? 0.0 : k + l == j ? 1.0 : 2.0;
  }
  return times;
}

// rows[degree] of kLanes couples become sets[group][couple], the degrees of a group side by side.
template <class Types, class V>
DEEPMD_INLINE void turn_groups(V (*sets)[Types::kLanes]) {
#pragma GCC unroll 4
  for (int group = 0; group < Types::kGroups; ++group) transpose<V, Types::kLanes>(sets[group]);
}

template <class Width, class Real>
DEEPMD_INLINE void sum_couples_body(const SumCouples<Real>& args) {
  using Types = CoupleTypes<Width, Real>;
  using Doubles = typename Types::Doubles;
  using Integers = typename Types::Integers;
  using Reals = typename Types::Reals;
  constexpr int kLanes = Types::kLanes, kGroups = Types::kGroups;
  const SumCouples<Real> a = args;
  const CoupleRuns runs = a.runs;
  ProductLanes<kLanes> lanes;
  alignas(kAlignment) int interval[kLanes];
  Doubles beyond = {};
  for (int j = 0; j < runs.j.n; ++j) {
    const double own[3] = {runs.j.row[0][j], runs.j.row[1][j], runs.j.row[2][j]};
    for (int k = runs.is_same ? j / kLanes * kLanes : 0; k < runs.k.n; k += kLanes) {
      place_products<Width, kLanes>(runs, own, k, lanes);
      const Doubles at = load<Doubles>(lanes.at);
      const Integers intervals = __builtin_convertvector(at, Integers);
      const Doubles u = at - __builtin_convertvector(intervals, Doubles);
      const Doubles weight = load<Doubles>(lanes.inside) * times_counted<Doubles, kLanes>(runs.is_same, j, k);
      beyond += load<Doubles>(lanes.beyond);
      store(interval, intervals);
      const Reals step = __builtin_convertvector(u, Reals);
      Reals sets[kGroups][kLanes] = {};
      Reals power = __builtin_convertvector(weight, Reals);
#pragma GCC unroll 6
      for (int d = 0; d < kDegrees; ++d) {
        sets[d / kLanes][d % kLanes] = power;
        power *= step;
      }
      turn_groups<Types>(sets);
#pragma GCC unroll 8
      for (int l = 0; l < kLanes; ++l) {
        Real* to = a.moments + static_cast<std::ptrdiff_t>(interval[l]) * kApart + (l % kBanks) * kMoments;
        a.touched[interval[l]] = 1;
#pragma GCC unroll 4
        for (int group = 0; group < kGroups; ++group) {
          store(to + group * kLanes, load<Reals>(to + group * kLanes) + sets[group][l]);
        }
      }
    }
  }
  *a.beyond += sum_of_lanes<Doubles, kLanes>(beyond);
}

template <class V, int kVectors, class Real>
DEEPMD_INLINE void spend_channels(const SpendMoments<Real>& a, int channel) {
  constexpr int kLanes = sizeof(V) / sizeof(Real);
  V sum[kVectors] = {};
  for (int i = 0; i < a.n; ++i) {
    const std::ptrdiff_t interval = a.interval[i];
    const Real* moments = a.moments + interval * kApart;
    const Real* c = a.table + interval * kDegrees * a.width + channel;
#pragma GCC unroll 6
    for (int d = 0; d < kDegrees; ++d) {
      const Real moment = moments[d] + moments[kMoments + d];
#pragma GCC unroll 5
      for (int v = 0; v < kVectors; ++v) sum[v] += load<V>(c + d * a.width + v * kLanes) * moment;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    Real* to = a.sums + channel + v * kLanes;
    store(to, load<V>(to) + sum[v]);
  }
}

template <class Width, class Real>
DEEPMD_INLINE void spend_moments_body(const SpendMoments<Real>& args) {
  using V = Vector<Real, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(Real);
  const SpendMoments<Real> a = args;
  const int n_vectors = a.width / kLanes;
  int v = 0;
  for (; v + 5 <= n_vectors; v += 5) spend_channels<V, 5>(a, v * kLanes);
  if (n_vectors - v == 4) spend_channels<V, 4>(a, v * kLanes);
  if (n_vectors - v == 3) spend_channels<V, 3>(a, v * kLanes);
  if (n_vectors - v == 2) spend_channels<V, 2>(a, v * kLanes);
  if (n_vectors - v == 1) spend_channels<V, 1>(a, v * kLanes);
  for (int i = 0; i < a.n; ++i) {
    Real* moments = a.moments + static_cast<std::ptrdiff_t>(a.interval[i]) * kApart;
    for (int d = 0; d < kApart; ++d) moments[d] = 0;
  }
}

template <class Width, class Real>
DEEPMD_INLINE void slope_polynomials_body(const SlopePolynomials<Real>& args) {
  constexpr int kMost = Width::kBytes / sizeof(Real), kLanes = kMost < kMoments ? kMost : kMoments;
  constexpr int kGroups = kMoments / kLanes;
  using V = Vector<Real, kLanes * sizeof(Real)>;
  const SlopePolynomials<Real> a = args;
  V degree[kGroups];
  for (int d = 0; d < kMoments; ++d) degree[d / kLanes][d % kLanes] = Real(d + 1);
  alignas(kAlignment) Real p[kMoments + kLanes] = {};  // coefficients of sum_m g[m] G_m
  for (int i = 0; i < a.n; ++i) {
    const std::ptrdiff_t interval = a.interval[i];
    const Real* c = a.table + interval * kDegrees * a.width;
    V sum[kMoments] = {};
    for (int m = 0; m < a.width; m += kLanes) {
      const V g = load<V>(a.g + m);
#pragma GCC unroll 6
      for (int d = 0; d < kDegrees; ++d) sum[d] += load<V>(c + d * a.width + m) * g;
    }
    V own[kGroups];
#pragma GCC unroll 4
    for (int group = 0; group < kGroups; ++group) {
      own[group] = sums_of_rows<V, kLanes>(sum + group * kLanes);
      store(p + group * kLanes, own[group]);
    }
    const Real steps = static_cast<Real>(a.first + static_cast<double>(interval));  // theta = (steps + u) / inverse_step
    Real* to = a.polynomials + interval * kMoments;
#pragma GCC unroll 4
    for (int group = 0; group < kGroups; ++group) {
      store(to + group * kLanes, degree[group] * (load<V>(p + group * kLanes + 1) * steps + own[group]));
    }
  }
}

template <class Width, class Real>
DEEPMD_INLINE void push_couples_body(const PushCouples<Real>& args) {
  using Types = CoupleTypes<Width, Real>;
  using Doubles = typename Types::Doubles;
  using Integers = typename Types::Integers;
  using Reals = typename Types::Reals;
  constexpr int kLanes = Types::kLanes, kGroups = Types::kGroups;
  const PushCouples<Real> a = args;
  const CoupleRuns runs = a.runs;
  ProductLanes<kLanes> lanes;
  alignas(kAlignment) int interval[kLanes];
  for (int j = 0; j < runs.j.n; ++j) {
    const double own[3] = {runs.j.row[0][j], runs.j.row[1][j], runs.j.row[2][j]};
    Doubles total[3] = {};
    for (int k = runs.is_same ? j / kLanes * kLanes : 0; k < runs.k.n; k += kLanes) {
      place_products<Width, kLanes>(runs, own, k, lanes);
      const Doubles at = load<Doubles>(lanes.at);
      const Integers intervals = __builtin_convertvector(at, Integers);
      const Reals step = __builtin_convertvector(at - __builtin_convertvector(intervals, Doubles), Reals);
      store(interval, intervals);
      Reals sets[kGroups][kLanes];
#pragma GCC unroll 8
      for (int l = 0; l < kLanes; ++l) {
        const Real* from = a.polynomials + static_cast<std::ptrdiff_t>(interval[l]) * kMoments;
#pragma GCC unroll 4
        for (int group = 0; group < kGroups; ++group) sets[group][l] = load<Reals>(from + group * kLanes);
      }
      turn_groups<Types>(sets);
      Reals slope = sets[(kDegrees - 1) / kLanes][(kDegrees - 1) % kLanes];
#pragma GCC unroll 5
      for (int d = kDegrees - 2; d >= 0; --d) slope = slope * step + sets[d / kLanes][d % kLanes];
      const Doubles pull = __builtin_convertvector(slope, Doubles) * times_counted<Doubles, kLanes>(runs.is_same, j, k);
#pragma GCC unroll 3
      for (int b = 0; b < 3; ++b) {
        total[b] += pull * load<Doubles>(runs.k.row[b] + k);
        store(a.d_k[b] + k, load<Doubles>(a.d_k[b] + k) + pull * own[b]);
      }
    }
    for (int b = 0; b < 3; ++b) a.d_j[b][j] += sum_of_lanes<Doubles, kLanes>(total[b]);
  }
}

}  // namespace

DEEPMD_VARIANTS(sum_couples, SumCouples)
DEEPMD_VARIANTS(spend_moments, SpendMoments)
DEEPMD_VARIANTS(slope_polynomials, SlopePolynomials)
DEEPMD_VARIANTS(push_couples, PushCouples)

}  // namespace deepmd
