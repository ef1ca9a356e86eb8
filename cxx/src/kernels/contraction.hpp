#pragma once

#include "kernels/pair_math.hpp"
#include "kernels/variants.hpp"

namespace deepmd {

// The neighbours of one type of one centre, as the contraction wants them. Entry k uses the polynomials at
// table + offset[k]; row components are row[0..3][k].
template <class Real>
struct RowView {
  int n = 0;
  const int* offset = nullptr;
  const Real* u = nullptr;
  const Real* row[4] = {};
};

// sums[a][m] += sum_k row[a][k] c_m(u_k) for all channels, of radial rows for a = 0 alone; nothing is stored per neighbour.
template <class Real>
struct Contract {
  RowView<Real> rows;
  RowKind kind = RowKind::angular;
  const Real* table = nullptr;  // [...][6][width]
  int width = 0;                // a multiple of the lanes of a vector
  Real* sums = nullptr;         // [4][stride]
  int stride = 0;
};

// The way back. With g[a][m] = dE/d(sums[a][m]):
//   d_row[a][k] = sum_m g[a][m] c_m(u_k),   d_argument[k] = sum_m c'_m(u_k) / step * sum_a row[a][k] g[a][m].
// Where the curve is one of row[0], d_row[0] gains d_argument instead; of radial rows, d_row is (d_argument, 0, 0, 0).
// Written for k up to the next multiple of kPad.
template <class Real>
struct Project {
  RowView<Real> rows;
  RowKind kind = RowKind::angular;
  const Real* table = nullptr;
  int width = 0;
  Real inverse_step = 0;
  const Real* g = nullptr;  // [4][stride]
  int stride = 0;
  Real* d_row[4] = {};
  Real* d_argument = nullptr;  // by_inverse only
};

template <class Real>
Kernel<Contract<Real>> choose_contract(Isa isa);
template <class Real>
Kernel<Project<Real>> choose_project(Isa isa);

}  // namespace deepmd
