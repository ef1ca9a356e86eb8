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
  std::string path;       // "auto", "fused", "cuda", "script"; "": as DEEPMD_PATH of the environment says, else "auto"
  std::string precision;  // "float64", "mixed", "tf32" (cuda only); "": as DEEPMD_PRECISION says, else "float64"
  DeviceChoice device;
};

// A path that was opened for a file, and what its answers are worth.
struct OpenedPath {
  std::unique_ptr<Potential> potential;
  std::string description;    // on one line: kind of embedding with its tolerance, precision
  double selftest_tolerance = 0;  // eV and eV/Angstrom
  std::string note;           // what a user should know about the choice, to be appended; else ""

  // The same with what is only known while running: instruction set, threads, memory.
  std::string describe() const;
};

// "auto": the engine's own kernels where the model allows it, on a GPU (cuda) where one answers and the package was built
// for it, else on the CPU (fused); TorchScript for other models, and on a GPU that only torch can use. Throws
// DEEPMD_ERROR_ARGUMENT for an unknown word and DEEPMD_ERROR_UNSUPPORTED, with the reason, for a path that the model
// does not allow.
OpenedPath open_path(const ModelFile& file, const PathChoice& choice);

}  // namespace deepmd
