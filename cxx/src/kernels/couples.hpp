// Couples of neighbours: sums of theta G(theta) over theta = R_j . R_k of two runs of neighbours of one centre, with G [width]
// as a table. A couple costs the same whatever the width: what its interval of the table needs to know of all couples in
// it are the moments sum theta u^d, and on the way back the polynomial that the table becomes when its channels are added
// up by dE/d(sums).
#pragma once

#include "kernels/variants.hpp"

namespace deepmd {

constexpr int kMoments = 8;  // numbers of an interval, of which degrees 0 to 5 are used
constexpr int kBanks = 2;    // couples take turns: those of one interval need not wait for each other's sums

// Rows of the neighbours of one type, filled up to a multiple of kPad with zeros, which add nothing.
struct CoupleRun {
  int n = 0;
  const double* row[3] = {};
};

// Where a table has its intervals; products outside [lo, hi] count as the nearer end.
struct CoupleGrid {
  double lo = 0, hi = 0;
  double inverse_step = 1;
  double last = 0;  // greatest position: just below the number of intervals
};

// Every neighbour j with every k; within one run each two of them once, counted twice, and each with itself.
struct CoupleRuns {
  CoupleRun j, k;
  bool is_same = false;
  CoupleGrid grid;
};

template <class Real>
struct SumCouples {
  CoupleRuns runs;
  Real* moments = nullptr;           // [intervals][kBanks][kMoments], gains sum theta u^d
  unsigned char* touched = nullptr;  // [intervals], set where something was added
  double* beyond = nullptr;          // gains how far products lie outside
};

// sums[m] += sum over intervals and degrees of moments c; the moments of these intervals become zero.
template <class Real>
struct SpendMoments {
  int n = 0;
  const int* interval = nullptr;  // [n]
  const Real* table = nullptr;    // [intervals][6][width]
  int width = 0;                  // a multiple of the lanes of a vector
  Real* moments = nullptr;
  Real* sums = nullptr;           // [width]
};

// Coefficients by powers of u of d(theta sum_m g[m] G_m)/d(theta) in each listed interval.
template <class Real>
struct SlopePolynomials {
  int n = 0;
  const int* interval = nullptr;
  const Real* table = nullptr;
  int width = 0;
  const Real* g = nullptr;      // [width] or more
  double first = 0;             // position of lo, counted in steps from zero
  Real* polynomials = nullptr;  // [intervals][kMoments]
};

// d_j[b] += sum_k slope R_k[b] and the other way round; within one run both are the same array.
template <class Real>
struct PushCouples {
  CoupleRuns runs;
  const Real* polynomials = nullptr;
  double* d_j[3] = {};
  double* d_k[3] = {};
};

template <class Real>
Kernel<SumCouples<Real>> choose_sum_couples(Isa isa);
template <class Real>
Kernel<SpendMoments<Real>> choose_spend_moments(Isa isa);
template <class Real>
Kernel<SlopePolynomials<Real>> choose_slope_polynomials(Isa isa);
template <class Real>
Kernel<PushCouples<Real>> choose_push_couples(Isa isa);

}  // namespace deepmd
