#pragma once

#include <memory>
#include <string>

#include "model/compression_record.hpp"
#include "model/fused_potential.hpp"
#include "model/model_file.hpp"
#include "model/potential.hpp"
#include "model/script_library.hpp"

namespace deepmd {

// How a model is to be evaluated: what a user may say, and where it runs.
struct PathChoice {
  std::string path;       // "auto", "fused", "script"; "": as DEEPMD_PATH of the environment says, else "auto"
  std::string precision;  // "float64", "mixed"; "": as DEEPMD_PRECISION says, else "float64"
  DeviceChoice device;
};

// A path that was opened for a file, and what its answers are worth.
struct OpenedPath {
  std::unique_ptr<Potential> potential;
  std::string description;    // on one line: kind of embedding with its tolerance, precision
  double selftest_tolerance;  // eV and eV/Angstrom
  std::string why_not;        // TorchScript for want of the fused path: the reason, to follow "the model"

  // The same with what is only known while running: instruction set, threads, memory.
  std::string describe() const;
};

// "auto": the fused path where the model allows it and no GPU is to be used, else TorchScript. Throws
// DEEPMD_ERROR_ARGUMENT for an unknown word and DEEPMD_ERROR_UNSUPPORTED, with the reason, for a path that the model
// does not allow.
OpenedPath open_path(const ModelFile& file, const PathChoice& choice);

}  // namespace deepmd
