#pragma once

#include <vector>

#include "kernels/pair_math.hpp"
#include "model/dense_network.hpp"

namespace deepmd {

// A descriptor that is made of sums over pairs, in float64. For each ordered pair of types there is a curve G; with the
// normalised rows R_j and the slots that hold no neighbour, which are real neighbours of row (R_0, 0, 0, 0),
//   angular, by_inverse:  D = T^T T_<,  T = (1/N) sum_j R_j (x) G_j,  T_< its first `axis` columns, N the total of sel;
//   radial:                D = (1/5N) sum_j G_j.
// This is what all kinds of input are lowered to: see descriptor_tree.cpp.
struct PairDescriptor {
  RowKind kind = RowKind::angular;
  Cutoff cutoff{};
  int n_types = 0;
  int axis = 0;   // columns of T that multiply all of them
  int width = 0;  // numbers of a curve
  bool one_side = false;
  std::vector<int> sel;                      // [n_types]
  bool joint_slots = false;                  // empty slots have the curve of type 0, whatever type they were meant for
  std::vector<double> davg_r, std_r, std_a;  // [n_types] normalisation of rows, by the centre's type
  // [n_types][n_types] (centre, neighbour): 0 where the descriptor excludes the pair: its row is zero, its slot is used
  std::vector<char> keep;
  std::vector<DenseNetwork> embedding;       // [n_types], or [n_types^2] with number t_j * n_types + t_i
  std::vector<std::vector<double>> factors;  // by_inverse: f [width] per network, G = N(R_0) (1 + f w), w the switch
  // [n_types]: numbers that follow D as inputs of the fitting network, by the centre's type; empty if there are none
  std::vector<std::vector<double>> constants;
  int first_input = 0;  // where its numbers begin among the inputs of the fitting network

  int n_networks() const { return one_side ? n_types : n_types * n_types; }
  int network_of(int t_i, int t_j) const { return one_side ? t_j : t_j * n_types + t_i; }
  int n_out() const { return kind == RowKind::radial ? width : width * axis; }
  int n_constants() const { return constants.empty() ? 0 : static_cast<int>(constants[0].size()); }
  double empty_row(int t_i) const { return -davg_r[t_i] / std_r[t_i]; }
  double scale() const;  // of D against the undivided sums
};

// Argument of the curves for a pair of raw entry s at distance r.
inline double argument_of(const PairDescriptor& descriptor, int t_i, double s, double r) {
  if (descriptor.kind == RowKind::by_inverse) return 1.0 / (r + descriptor.cutoff.protection);
  return (s - descriptor.davg_r[t_i]) / descriptor.std_r[t_i];
}

// Curve k at n arguments: values g and derivatives g1, g2 [n][width]; g1 and g2 may be null.
void evaluate_pair_curve(const PairDescriptor& descriptor, int k, int n, const double* argument, double* g, double* g1,
                         double* g2);

}  // namespace deepmd
