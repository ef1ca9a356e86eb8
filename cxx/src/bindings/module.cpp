#include <pybind11/pybind11.h>

#include "deepmd/deepmd.h"

PYBIND11_MODULE(_core, m) {
  m.def("version", [] { return deepmd_version(); });
}
