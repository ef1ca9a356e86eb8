#pragma once

#include <cstdint>

#include "kernels/isa.hpp"

namespace deepmd {

// One row of a neighbour list with a skin, and where its pairs inside the cutoff go: arrays with room for kFilterSlack
// more than the row has entries.
struct Filter {
  std::int64_t n = 0;
  const int* index = nullptr;         // [n]
  const int* shift = nullptr;         // [n][3] or null
  const double* cell = nullptr;       // [3][3] if there are shifts
  const double* positions = nullptr;  // [n_all][3]
  double center[3] = {};
  double rcut2 = 0;
  int* neighbor = nullptr;
  double *x = nullptr, *y = nullptr, *z = nullptr, *r2 = nullptr;
};
constexpr int kFilterSlack = 8;

struct Filtered {
  int n = 0;
  double closest2 = 0;  // smallest r2, or rcut2
};

using FilterKernel = Filtered (*)(const Filter&);
FilterKernel choose_filter(Isa isa);

}  // namespace deepmd
