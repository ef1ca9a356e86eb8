#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepmd {

// What the file says about its model (extra record deepmd/metadata.json).
struct Metadata {
  std::string kind;                    // "energy"
  std::vector<std::string> type_map;   // [n_types]
  double rcut = 0;                     // Angstrom
  int dim_fparam = 0;
  int dim_aparam = 0;
  std::vector<double> default_fparam;  // [dim_fparam], empty if there is none
  double min_pair_distance = 0;        // Angstrom, 0 if unknown
  double selftest_tolerance = 0;       // eV and eV/Angstrom
  std::string json;                    // the whole record
};

// Throws DEEPMD_ERROR_FORMAT or DEEPMD_ERROR_VERSION with a sentence that does not name the file.
Metadata parse_metadata(std::string_view json);

}  // namespace deepmd
