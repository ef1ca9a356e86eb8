#pragma once

#include <string>
#include <vector>

#include "kernels/quintic_table.hpp"
#include "model/energy_tree.hpp"

namespace deepmd {

struct CompressionRecord;

// What stands for the embedding networks at run time: a table c of each network k, with G = c (not spectral) or
// G = c V_k (spectral).
struct PairBasis {
  bool spectral = false;
  std::vector<QuinticTable<double>> tables;  // per network
  std::vector<int> ranks;                    // P_k per network: the table's channels
  std::vector<std::vector<double>> basis;    // V_k [P_k][width], orthonormal rows; empty if not spectral
  double largest_error = 0;                  // of a table against its network, relative to the largest value
  std::string description;
};

// Null: tables of the networks themselves, to rounding.
PairBasis build_pair_basis(const EnergyTree& tree, const CompressionRecord* record);

}  // namespace deepmd
