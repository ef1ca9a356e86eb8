#pragma once

#include <string>

#include "model/model.hpp"

namespace deepmd {

// The same frame with energy, forces, virial and atom energies, or what else the model predicts, as this library computes
// them.
SelftestFrame recompute(Model& model, const SelftestFrame& frame);

// Largest force difference (eV/Angstrom). Throws DEEPMD_ERROR_SELFTEST if any result differs by more than `tolerance`
// times the largest entry of its array (or times 1 if that is smaller: rounding grows with the numbers).
double compare_selftest(const SelftestFrame& stored, const SelftestFrame& computed, double tolerance,
                        const std::string& path);

}  // namespace deepmd
