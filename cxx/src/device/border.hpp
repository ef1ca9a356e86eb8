// The functions of a library that runs models on a GPU: libdeepmd_cuda.so, or libdeepmd_emulated.so, which does the same in
// the host's memory. No exception crosses; a status and, unless it is DEEPMD_OK, a sentence in *problem do.
#pragma once

#include <string>

#include "deepmd/deepmd.h"
#include "device/comparison.hpp"
#include "device/product_kind.hpp"
#include "device/shapes.hpp"
#include "model/frame.hpp"

namespace deepmd::device {

class Engine;  // one model on one device

struct Opening {
  const ModelImage<double>* float64 = nullptr;  // one of the two
  const ModelImage<float>* mixed = nullptr;
  int rank = 0;                 // the device, modulo their number
  int n_ranks = 1;              // on this node, which share its devices
  std::int64_t work_bytes = 0;  // of a device for a chunk's arrays, for all ranks together; 0: as the device allows
  ProductKind products = ProductKind::plain;
};

struct Border {
  bool is_emulated;
  int (*count_devices)();
  deepmd_status (*describe_device)(int device, std::string* words, std::string* problem);
  deepmd_status (*open)(const Opening& opening, Engine** opened, std::string* problem);
  // Engines [n] of the same device and number of types, for one frame; how far their forces differ is told by comparison,
  // which may be null.
  deepmd_status (*evaluate)(Engine* const* engines, int n, const Frame& frame, const Result* results, FrameStatus* status,
                            Comparison* comparison, std::string* problem);
  // Name of the device, library in use, and memory; valid until the next call.
  const char* (*describe)(Engine& engine);
  int (*device_of)(const Engine& engine);
  void (*close)(Engine* engine);
};

}  // namespace deepmd::device

extern "C" {
// The name that dlsym looks up.
__attribute__((visibility("default"))) const deepmd::device::Border* deepmd_device_border(void);
}
