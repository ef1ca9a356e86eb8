#pragma once

#include <string>
#include <vector>

#include "kernels/quintic_table.hpp"
#include "model/compression_record.hpp"
#include "model/energy_tree.hpp"

namespace deepmd {

// What stands for the embedding networks at run time: a table c of each network k, with G = c (not spectral) or
// G = c V_k (spectral). Each table reaches at least to the arguments of empty slots.
struct PairBasis {
  bool spectral = false;
  std::vector<QuinticTable<double>> tables;  // per network, those of all descriptors in turn
  std::vector<QuinticTable<double>> couple_tables;  // those of couples, per kind, of all their descriptors in turn
  std::vector<int> ranks;                    // P_k per network: the table's channels
  std::vector<std::vector<double>> basis;    // V_k [P_k][width], orthonormal rows; empty if not spectral
  double largest_error = 0;                  // of a table against its network, relative to the largest value
  std::string description;
};

// Range of a network's argument: from an empty slot or a neighbour at the cutoff to a neighbour at distance `shortest`
// (Angstrom), over all pairs of types that use the network. hi = lo if all of these are excluded. By inverse
// distance: from the cutoff to `shortest`. Networks are numbered through all descriptors.
struct ArgumentRange {
  double lo = 0, hi = 0;
};
ArgumentRange argument_range(const EnergyTree& tree, int network, double shortest);

// A basis is for pairs alone: with couples, the time hardly depends on the number of outputs (kernels/couples.hpp).
// Null: tables of the networks themselves, to rounding. Throws DEEPMD_ERROR_UNSUPPORTED, with a reason to follow "the
// model", if no table of reasonable size meets the tolerance, and DEEPMD_ERROR_FORMAT for a record that does not fit.
PairBasis build_pair_basis(const EnergyTree& tree, const CompressionRecord* record);

}  // namespace deepmd
