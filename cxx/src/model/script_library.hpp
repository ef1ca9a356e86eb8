#pragma once

#include <memory>
#include <string>

#include "model/model_file.hpp"
#include "model/potential.hpp"

namespace deepmd {

// Where a model runs.
struct DeviceChoice {
  int gpu_rank = 0;   // which GPU (modulo their number) where torch has any; negative: the CPU
  int gpu_ranks = 1;  // processes of this node that share its GPUs
  int n_threads = 0;  // on the CPU; 0: as the environment says, else as the path has it
};

// libdeepmd_script.so, which lies beside libdeepmd.so and brings torch, is opened when one of these is first called: a
// process that evaluates by other paths never loads torch. Throws DEEPMD_ERROR_UNSUPPORTED if it cannot be loaded.

// Runs the TorchScript module of the file: works for any model, and is the reference for every other path.
std::unique_ptr<Potential> open_script_potential(const ModelFile& file, const DeviceChoice& device);

// Whether torch finds a GPU. Asked without loading torch where the system has no device of that kind.
bool has_gpu();

}  // namespace deepmd
