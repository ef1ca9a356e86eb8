#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/model_file.hpp"

namespace deepmd {

// What `dp compress` decided about a model: no tables, only how they are to be built.
struct CompressionRecord {
  bool spectral = false;        // else exact: tables of the networks themselves
  double tolerance = 0;         // eV/Angstrom, largest force error
  double table_tolerance = 0;   // of a table against its curve, relative to the curve's largest value
  double shortest = 0;          // Angstrom: tables reach to this distance
  double force_error = 0;       // eV/Angstrom, as measured
  std::vector<int> ranks;                  // spectral: P_k per network
  std::vector<std::vector<double>> basis;  // spectral: V_k [P_k][width] per network
};

// Nothing for a file that is not compressed. Throws DEEPMD_ERROR_FORMAT or _VERSION if its record cannot be used.
std::optional<CompressionRecord> read_compression(const ModelFile& file);

}  // namespace deepmd
