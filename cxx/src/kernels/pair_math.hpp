// The mathematics of one pair: switch, environment row and their derivatives. The one home of these formulas in C++;
// the torch twin, used as the judge, is python/deepmd/nn/rows.py.
#pragma once

#include <cmath>

// On the host these are inlined always: loops over neighbours are compiled once per instruction set, and a function of
// its own would belong to the baseline.
#if defined(__CUDACC__)
#define DEEPMD_HD __host__ __device__
#elif defined(__GNUC__)
#define DEEPMD_HD __attribute__((always_inline))
#else
#define DEEPMD_HD
#endif

namespace deepmd {

struct Cutoff {
  double rcut;        // Angstrom
  double rcut_smth;   // Angstrom
  double protection;  // Angstrom, added to r in the denominators; normally 0
};

// What a neighbour adds to a descriptor's sums, and of what its curve G is a function.
enum class RowKind {
  angular,      // row (x) G; a row has four entries, normalised; G of the first one
  by_inverse,   // the same with G of the inverse distance 1 / (r + protection)
  radial,       // G alone, of the normalised radial entry
};

// Raw environment row of a neighbour at distance r: (s, angular * x, angular * y, angular * z).
struct RawRow {
  double s;            // w / (r + p)
  double d_s_d_r;
  double angular;      // w / (r + p)^2
  double d_angular_d_r;
};

// w(r) = 1 for r < rs, u^3 (-6 u^2 + 15 u - 10) + 1 with u = (r - rs) / (rc - rs) between, 0 from rc on.
DEEPMD_HD inline void switch_function(double r, const Cutoff& cutoff, double& w, double& d_w_d_r) {
  const double inverse = 1.0 / (cutoff.rcut - cutoff.rcut_smth);
  double u = (r - cutoff.rcut_smth) * inverse;
  u = u < 0.0 ? 0.0 : (u > 1.0 ? 1.0 : u);
  w = u * u * u * (u * (15.0 - 6.0 * u) - 10.0) + 1.0;
  d_w_d_r = u * u * (u * (60.0 - 30.0 * u) - 30.0) * inverse;
}

DEEPMD_HD inline RawRow raw_row(double r, const Cutoff& cutoff) {
  double w, d_w;
  switch_function(r, cutoff, w, d_w);
  const double inverse = 1.0 / (r + cutoff.protection);
  RawRow row;
  row.s = w * inverse;
  row.d_s_d_r = (d_w - row.s) * inverse;
  row.angular = row.s * inverse;
  row.d_angular_d_r = (row.d_s_d_r - row.angular) * inverse;
  return row;
}

}  // namespace deepmd
