#include "kernels/environment.hpp"

#include <cmath>

#include "kernels/vector.hpp"

namespace deepmd {

void PairGeometry::reserve(std::size_t n) {
  if (n <= size()) return;
  n += n / 4;
  neighbor.resize(n);
  for (auto* each : {&x, &y, &z, &r2}) each->resize(n);
}

std::size_t PairGeometry::bytes() const { return size() * (sizeof(int) + 4 * sizeof(double)); }

template <class Real>
void PairRows<Real>::reserve(std::size_t n) {
  if (n <= size()) return;
  n += n / 4;
  offset.resize(n);
  for (auto* each : {&inverse_r, &d_row0, &angular, &d_angular}) each->resize(n);
  for (auto& each : row) each.resize(n);
  u.resize(n);
}

template <class Real>
std::size_t PairRows<Real>::bytes() const {
  return size() * (sizeof(int) + 4 * sizeof(double) + 5 * sizeof(Real));
}

template struct PairRows<float>;
template struct PairRows<double>;

namespace {

// One vector of neighbours. Loops over the lanes of these arrays become single instructions, square root and
// comparisons included, which the operators of a vector type do not in a function that is compiled for several sets.
template <int kLanes>
struct RowLanes {
  double s[kLanes], d_s[kLanes], angular[kLanes], d_angular[kLanes], inverse_r[kLanes];
  double at[kLanes];      // position in the table
  double beyond[kLanes];  // how far outside it would be
};

template <int kLanes, class Real>
DEEPMD_INLINE void raw_rows(const MakeRows<Real>& a, const double* r2, RowLanes<kLanes>& lanes) {
#pragma GCC unroll 1
  for (int l = 0; l < kLanes; ++l) {
    const double r = std::sqrt(r2[l]);
    const RawRow row = raw_row(r, a.cutoff);
    const double argument = a.kind == RowKind::by_inverse ? 1.0 / (r + a.cutoff.protection) : (row.s - a.davg) * a.inverse_std_r;
    const double at = (argument - a.lo) * a.inverse_step;
    const double from_zero = at < 0.0 ? 0.0 : at;
    const double inside = from_zero > a.last ? a.last : from_zero;
    lanes.s[l] = row.s;
    lanes.d_s[l] = row.d_s_d_r;
    lanes.angular[l] = row.angular;
    lanes.d_angular[l] = row.d_angular_d_r;
    lanes.inverse_r[l] = 1.0 / r;
    lanes.at[l] = inside;
    lanes.beyond[l] = std::abs(at - inside);
  }
}

template <class Width, class Real>
DEEPMD_INLINE void make_rows_body(const MakeRows<Real>& args) {
  const MakeRows<Real> a = args;  // nothing stored below can change this copy
  using V = Vector<double, Width::kBytes>;
  using Integers = Vector<int, Width::kBytes / 2>;
  constexpr int kLanes = Width::kBytes / sizeof(double);
  const PairGeometry& p = *a.pairs;
  PairRows<Real>& rows = *a.rows;
  RowLanes<kLanes> lanes;
  V beyond = {};
  for (std::size_t k = a.begin; k < a.end; k += kLanes) {
    const std::size_t to = k - a.first;
    raw_rows<kLanes>(a, p.r2.data() + k, lanes);
    const V at = load<V>(lanes.at), w = load<V>(lanes.angular) * a.inverse_std_a;
    beyond += load<V>(lanes.beyond);
    const Integers interval = __builtin_convertvector(at, Integers);
    store(rows.offset.data() + to, interval * a.stride);
    store_from_double(rows.u.data() + to, at - __builtin_convertvector(interval, V));
    store(rows.inverse_r.data() + to, load<V>(lanes.inverse_r));
    store(rows.d_row0.data() + to, load<V>(lanes.d_s) * a.inverse_std_r);
    store(rows.angular.data() + to, w);
    store(rows.d_angular.data() + to, load<V>(lanes.d_angular) * a.inverse_std_a);
    if (a.kind == RowKind::radial) {
      store_from_double(rows.row[0].data() + to, V{} + 1.0);
      continue;
    }
    store_from_double(rows.row[0].data() + to, (load<V>(lanes.s) - a.davg) * a.inverse_std_r);
    store_from_double(rows.row[1].data() + to, w * load<V>(p.x.data() + k));
    store_from_double(rows.row[2].data() + to, w * load<V>(p.y.data() + k));
    store_from_double(rows.row[3].data() + to, w * load<V>(p.z.data() + k));
  }
  *a.beyond += sum_of_lanes<V, kLanes>(beyond);
}

template <class Width, bool kHasInverse, class Real>
DEEPMD_INLINE void chain_rule_of(const ChainRule<Real>& a) {
  using V = Vector<double, Width::kBytes>;
  constexpr int kLanes = Width::kBytes / sizeof(double);
  const PairGeometry& p = *a.pairs;
  const PairRows<Real>& rows = *a.rows;
  V total[3] = {}, virial[9] = {};
  for (std::size_t k = a.begin; k < a.end; k += kLanes) {
    const std::size_t i = k - a.begin;
    const V r[3] = {load<V>(p.x.data() + k), load<V>(p.y.data() + k), load<V>(p.z.data() + k)};
    const V d0 = load_as_double<V>(a.d_row[0] + i);
    const V d[3] = {load_as_double<V>(a.d_row[1] + i), load_as_double<V>(a.d_row[2] + i),
                    load_as_double<V>(a.d_row[3] + i)};
    const V along = r[0] * d[0] + r[1] * d[1] + r[2] * d[2];
    const V inverse_r = load<V>(rows.inverse_r.data() + i);
    V along_r = d0 * load<V>(rows.d_row0.data() + i) + along * load<V>(rows.d_angular.data() + i);
    if constexpr (kHasInverse) {  // d/dr of 1 / (r + p) is its square, negative
      const V inverse = inverse_r / (inverse_r * a.protection + 1.0);
      along_r -= load_as_double<V>(a.d_inverse + i) * inverse * inverse;
    }
    const V radial = along_r * inverse_r;
    const V angular = load<V>(rows.angular.data() + i);
#pragma GCC unroll 3
    for (int b = 0; b < 3; ++b) {
      const V g = radial * r[b] + angular * d[b];
      store(a.gradient[b] + i, g);
      total[b] += g;
#pragma GCC unroll 3
      for (int c = 0; c < 3; ++c) virial[3 * b + c] -= g * r[c];
    }
  }
#pragma GCC unroll 3
  for (int b = 0; b < 3; ++b) store(a.total + 8 * b, load<V>(a.total + 8 * b) + total[b]);
#pragma GCC unroll 9
  for (int b = 0; b < 9; ++b) store(a.virial + 8 * b, load<V>(a.virial + 8 * b) + virial[b]);
}

template <class Width, class Real>
DEEPMD_INLINE void chain_rule_body(const ChainRule<Real>& a) {
  if (a.d_inverse) return chain_rule_of<Width, true>(a);
  chain_rule_of<Width, false>(a);
}

}  // namespace

DEEPMD_VARIANTS(make_rows, MakeRows)
DEEPMD_VARIANTS(chain_rule, ChainRule)

}  // namespace deepmd
