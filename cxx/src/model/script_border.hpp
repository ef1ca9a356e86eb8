// The functions of libdeepmd_script.so. Only plain pointers and strings cross, and no exception does: both libraries
// hold their own copies of the common parts.
#pragma once

#include "model/script_library.hpp"

namespace deepmd {

// Everything returns a status and, unless it is DEEPMD_OK, the sentence in *problem.
struct ScriptBorder {
  deepmd_status (*open)(const ModelFile& file, const DeviceChoice& device, Potential** opened, std::string* problem);
  deepmd_status (*evaluate)(Potential& potential, const Frame& frame, const Result& result, std::string* problem);
  deepmd_status (*evaluate_output)(Potential& potential, const Frame& frame, const OutputResult& result,
                                   std::string* problem);
  const char* (*describe)(const Potential& potential);
  void (*close)(Potential* potential);
  int (*count_gpus)();
};

}  // namespace deepmd

extern "C" {
// The name that dlsym looks up.
__attribute__((visibility("default"))) const deepmd::ScriptBorder* deepmd_script_border(void);
}
