#pragma once

#include <cstdint>
#include <string>

#include "core/error.hpp"
#include "model/frame.hpp"

namespace deepmd {

// What every engine path offers: energies and derivatives of one frame.
//
// The frame has been checked: counts, types, finite positions, list indices in range. Pairs beyond the cutoff are on the
// list and are to be skipped; pairs closer than kClosestPair are to be refused. All wanted results are overwritten. The
// energy is a sum of atom energies that depend on the pair vectors r_ij = r_j + shift . cell - r_i only, so that with
// g = dE/dr_ij for centre i and neighbour j
//   forces: F_i += g, F_j -= g;  virial: W[a][b] -= g[a] r_ij[b];  atom virial: w_j[a][b] -= g[a] r_ij[b].
class Potential {
 public:
  virtual ~Potential() = default;
  virtual void evaluate(const Frame& frame, const Result& result) = 0;
  // The same for the outputs of models that predict something else.
  virtual void evaluate_output(const Frame&, const OutputResult&) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text("the path ", name(), " computes energies only; use the path script"));
  }
  virtual const char* name() const = 0;
  // What is worth knowing about the path beside its name, on one line.
  virtual std::string description() const { return {}; }
  // Pairs so far that lay outside of tables, so that the networks themselves were evaluated.
  virtual std::int64_t n_outside() const { return 0; }
};

}  // namespace deepmd
