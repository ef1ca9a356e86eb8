#pragma once

#include <memory>

#include "model/energy_tree.hpp"
#include "model/fused_potential.hpp"

namespace deepmd {

// A spectral basis is made for a range of distances; beyond, a projection of the network is not the network. So centres
// with a neighbour closer than `shortest` (Angstrom) are evaluated by tables of the networks themselves, which are built
// when the first such pair appears; all others by `spectral`.
std::unique_ptr<FusedPotential> make_exact_when_close(std::unique_ptr<FusedPotential> spectral, EnergyTree tree,
                                                      double shortest, const FusedOptions& options);

}  // namespace deepmd
