// A model of atomic tensors on the atoms of this rank: what compute deeptensor/atom and fix dplr share.
#ifndef DEEPMD_LAMMPS_OUTPUT_MODEL_HPP
#define DEEPMD_LAMMPS_OUTPUT_MODEL_HPP

#include <string>
#include <vector>

#include "lmp_adapter.hpp"
#include "pointers.h"
#include "shared_model.hpp"

namespace deepmd {

/// What is asked of the model; null pointers are not wanted. Core units.
struct OutputRequest {
  double* atom_output = nullptr;        // [n_local][width]
  const double* weights = nullptr;      // [n_local][width]
  double* forces = nullptr;             // [n_all][3] of the sum of weights times outputs
  double* virial = nullptr;             // [3][3] the same
};

class OutputModel : protected LAMMPS_NS::Pointers {
 public:
  /// style: how messages begin, such as "compute deeptensor/atom".
  OutputModel(LAMMPS_NS::LAMMPS* lmp, std::string style) : Pointers(lmp), style_(std::move(style)) {}

  /// Collective. kind: what the model must predict, "" for dipoles and polarisabilities.
  void open(const std::string& file, const std::string& kind);
  /// One element for each LAMMPS type, NULL for types that the model does not see; none: type i is the model's type i - 1.
  void set_elements(const std::vector<std::string>& names) { names_ = names; }
  /// Before a run: elements against masses, and what the rest of the input must provide.
  void prepare();
  /// Brings the arrays up to date with the atoms.
  void gather(const LAMMPS_NS::NeighList& list, bool list_is_new);
  void evaluate(const OutputRequest& request) const;

  int width() const { return width_; }
  const LmpAdapter& atoms() const { return adapter_; }
  /// Whether atoms of this LAMMPS type carry the output.
  bool selects(int lammps_type) const;
  double length_unit() const { return force_length_; }
  [[noreturn]] void fail(const std::string& message) const;

 private:
  std::vector<int> resolve_types() const;

  std::string style_, file_;
  std::vector<std::string> names_, type_map_;
  ModelHandle model_;
  LmpAdapter adapter_;
  std::vector<int> type_to_model_, sel_types_;
  int width_ = 0;
  bool passes_messages_ = false, special_checked_ = false;
  double rcut_ = 0.0, force_length_ = 1.0;
};

}  // namespace deepmd

#endif
