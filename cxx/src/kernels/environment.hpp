#pragma once

#include "core/aligned_vector.hpp"
#include "kernels/pair_math.hpp"
#include "kernels/variants.hpp"

namespace deepmd {

// Neighbours inside the cutoff, one array per quantity: what does not depend on a model. Runs of one centre and one
// neighbour type begin at multiples of kPad and are filled up to the next one with harmless entries.
struct PairGeometry {
  aligned_vector<int> neighbor;         // number in the frame
  aligned_vector<double> x, y, z, r2;   // r_ij (Angstrom) and its square

  std::size_t size() const { return neighbor.size(); }
  void reserve(std::size_t n);  // makes room for n entries; the content is kept
  std::size_t bytes() const;
};

// The rows of one model for entries of one centre; row 0 is that of entry `first`.
template <class Real>
struct PairRows {
  aligned_vector<int> offset;            // of the interval's polynomials in the table
  aligned_vector<double> inverse_r;
  aligned_vector<double> d_row0;         // d(row0)/dr
  aligned_vector<double> angular;        // row[1 + b] = angular * r_ij[b]
  aligned_vector<double> d_angular;      // its derivative by r
  aligned_vector<Real> row[4], u;        // what the contraction reads

  std::size_t size() const { return offset.size(); }
  void reserve(std::size_t n);
  std::size_t bytes() const;
};

// Makes rows of entries [begin, end): a run with its filling.
template <class Real>
struct MakeRows {
  const PairGeometry* pairs = nullptr;
  PairRows<Real>* rows = nullptr;
  std::size_t first = 0, begin = 0, end = 0;
  RowKind kind = RowKind::angular;  // radial: row[0] becomes 1, the others are not used
  Cutoff cutoff{};
  double davg = 0, inverse_std_r = 1, inverse_std_a = 1;
  double lo = 0, inverse_step = 1;  // of the table
  double last = 0;          // greatest position in the table: just below the number of intervals
  int stride = 0;           // from one interval to the next
  double* beyond = nullptr;  // gains how far entries lie outside the table, in intervals; they get its first or last value
};

// From dE/d(row) to the gradient by r_ij, for entries [begin, end) with the filling: all of one centre; row and d_row[b] of
// entry k stand at k - begin.
// Adds -g[a] r_ij[b] to the lanes of virial and g to the lanes of total.
template <class Real>
struct ChainRule {
  const PairGeometry* pairs = nullptr;
  const PairRows<Real>* rows = nullptr;
  std::size_t begin = 0, end = 0;
  const Real* d_row[4] = {};
  const Real* d_inverse = nullptr;  // dE/d(1 / (r + protection)) beside the rows, or null
  double protection = 0;            // Angstrom
  double* gradient[3] = {};         // [end - begin] each
  double* total = nullptr;   // [3][8]
  double* virial = nullptr;  // [9][8]
};

template <class Real>
Kernel<MakeRows<Real>> choose_make_rows(Isa isa);
template <class Real>
Kernel<ChainRule<Real>> choose_chain_rule(Isa isa);

}  // namespace deepmd
