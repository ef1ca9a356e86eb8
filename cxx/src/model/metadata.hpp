#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepmd {

// What a model of another kind than energy predicts.
struct OutputFacts {
  std::string name;              // such as "dipole"; "" for energies
  int width = 0;                 // numbers for each atom
  bool is_mean = false;          // the frame has the mean over its atoms, else their sum
  bool has_derivatives = false;
  std::vector<int> sel_types;    // types whose atoms carry the output; all of them where the file does not tell
};

// What a model of spins was made for.
struct SpinFacts {
  std::vector<double> scale;  // [n_types] Angstrom for each Bohr magneton, how far the virtual atom stands from its atom
  double reach = 0;           // Angstrom, the farthest
};

// What the file says about its model (extra record deepmd/metadata.json).
struct Metadata {
  std::string kind;                    // "energy", "spin", "pairwise_dprc" (of energies), "dipole", "polar", "dos", "property"
  std::vector<std::string> type_map;   // [n_types]
  double rcut = 0;                     // Angstrom
  int dim_fparam = 0;
  int dim_aparam = 0;
  std::vector<double> default_fparam;  // [dim_fparam], empty if there is none
  double min_pair_distance = 0;        // Angstrom, 0 if unknown
  bool passes_messages = false;        // atoms tell each other what they know
  double receptive_field = 0;          // Angstrom; how far the atoms are that an atom's output depends on
  OutputFacts output;
  SpinFacts spin;
  std::string modifier;                // what has to be added to the energies, such as "dipole_charge"; "" for nothing
  double ewald_beta = 0;               // 1/Angstrom; of that modifier

  bool has_spins() const { return kind == "spin"; }
  bool has_fragments() const { return kind == "pairwise_dprc"; }  // aparam says which atoms belong together
  bool has_energy() const { return kind == "energy" || has_spins() || has_fragments(); }
  double selftest_tolerance = 0;       // eV and eV/Angstrom
  std::string json;                    // the whole record
};

// Throws DEEPMD_ERROR_FORMAT or DEEPMD_ERROR_VERSION with a sentence that does not name the file.
Metadata parse_metadata(std::string_view json);

}  // namespace deepmd
