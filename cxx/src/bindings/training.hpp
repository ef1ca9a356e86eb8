// The part of the module _kernels that layers with attention and messages need.
#pragma once

#include <pybind11/pybind11.h>

void define_training(pybind11::module_& m);
