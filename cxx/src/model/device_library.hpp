#pragma once

#include <string>

#include "device/border.hpp"

namespace deepmd {

// libdeepmd_cuda.so lies beside libdeepmd.so where the package was built with a CUDA compiler. It is opened when a model may
// run on a GPU and the NVIDIA driver answers, not before. DEEPMD_GPU of the environment: "off" leaves GPUs alone, "emulated"
// opens libdeepmd_emulated.so for whoever asks for the path cuda, which is slow and for tests.

// Null if no GPU can be used; then *why_not says why, on one line.
const device::Border* device_border(std::string* why_not);

// Whether a real GPU answers: the emulation runs only what asks for it.
bool has_device();

// What dp doctor prints: the devices with their driver, or why there are none.
std::string describe_devices();

}  // namespace deepmd
