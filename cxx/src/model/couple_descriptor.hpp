#pragma once

#include <vector>

#include "kernels/pair_math.hpp"
#include "model/dense_network.hpp"

namespace deepmd {

// A descriptor that is made of sums over couples of neighbours, in float64; the sibling of PairDescriptor. For each kind
// of couple, two types a <= b in either order, there is a curve G of theta = R_j . R_k, of the normalised rows' angular parts:
//   D = sum_kinds 1/(sel_a sel_b) sum_{j of type a, k of type b} theta_jk G_ab(theta_jk),
// in both orders and with itself where a = b. Empty slots have no angular part and add nothing.
struct CoupleDescriptor {
  Cutoff cutoff{};
  int n_types = 0;
  int width = 0;             // numbers of a curve
  std::vector<int> sel;      // [n_types]
  std::vector<double> std_a; // [n_types] normalisation of rows, by the centre's type
  std::vector<char> keep;    // [n_types][n_types] (centre, neighbour): 0 where the row of the neighbour is zero
  std::vector<DenseNetwork> embedding;  // per kind
  int first_input = 0;       // where its numbers begin among the inputs of the fitting network

  int n_kinds() const { return n_types * (n_types + 1) / 2; }
  static int kind_of(int a, int b) { return b * (b + 1) / 2 + a; }  // a <= b
  // 1/(sel_a sel_b), or 0 where there are no slots: such couples do not count.
  double scale(int a, int b) const;
  // Largest |theta| of neighbours that are no closer than `shortest` (Angstrom), over all types of centres.
  double largest_product(double shortest) const;
};

}  // namespace deepmd
