#pragma once

#include <cstdint>
#include <string>

#include "model/device_potential.hpp"
#include "model/frame.hpp"
#include "model/metadata.hpp"
#include "model/model_file.hpp"
#include "model/path_choice.hpp"
#include "neighbors/neighbors.hpp"

namespace deepmd {

// What a caller hands in, unchecked: the fields of deepmd_input.
struct Request {
  Frame frame;                  // list is used if has_list
  bool has_list = false;
  const int* pbc = nullptr;     // [3] or null
};

// An open model file, ready to evaluate frames.
class Model {
 public:
  Model(ModelFile file, const PathChoice& choice);

  const Metadata& metadata() const { return file_.metadata(); }
  const char* path_in_use() const { return path_.potential->name(); }
  std::string describe_path() const { return path_.describe(); }
  // Pairs of all frames so far that lay outside of tables.
  std::int64_t n_outside() const { return path_.potential->n_outside(); }
  // Null on another path.
  FusedPotential* fused() { return dynamic_cast<FusedPotential*>(path_.potential.get()); }
  DevicePotential* on_device() { return dynamic_cast<DevicePotential*>(path_.potential.get()); }
  const std::string& path() const { return file_.path(); }

  // Checks the request, builds a list if there is none, and evaluates. Never leaves non-finite numbers as success.
  void evaluate(const Request& request, const Result& result);
  // The same for a model that predicts something else than energies.
  void evaluate_output(const Request& request, const OutputResult& result);
  // The two halves of it: fills in defaults and, from `neighbors`, a missing list, and checks; evaluates what was checked,
  // with rows in its list unless the model is on_device().
  void complete(Request& request, Neighbors& neighbors) const;
  void evaluate_checked(const Frame& frame, const Result& result);
  // Largest force difference (eV/Angstrom) to the frames in the file; throws DEEPMD_ERROR_SELFTEST on a mismatch.
  double selftest();

 private:
  Frame seen_by_model(const Frame& frame) const;

  ModelFile file_;
  OpenedPath path_;
  Neighbors neighbors_;
  NeighborList found_;
};

}  // namespace deepmd
