#pragma once

#include "model/energy_tree.hpp"
#include "model/fused_tables.hpp"

namespace deepmd {

// What a table stands for, from the embedding network itself: c [n][P] at n arguments, with derivatives c1 if not null.
// For pairs outside the table's range; slow, and allocates.
void evaluate_exactly(const EnergyTree& tree, const PairBasis& basis, int network, int n, const double* argument,
                      double* c, double* c1);

}  // namespace deepmd
