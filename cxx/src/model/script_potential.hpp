#pragma once

#include <memory>

#include "model/model_file.hpp"
#include "model/potential.hpp"

namespace deepmd {

// Where a model runs.
struct DeviceChoice {
  int gpu_rank = 0;   // which GPU (modulo their number) where torch has any; negative: the CPU
  int n_threads = 0;  // of torch on the CPU; 0: leave as they are
};

// Runs the TorchScript module of the file: works for any model, and is the reference for every other path.
std::unique_ptr<Potential> open_script_potential(const ModelFile& file, const DeviceChoice& device);

}  // namespace deepmd
