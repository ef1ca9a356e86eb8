#include "kernels/pair_forces.hpp"

#include <algorithm>

namespace deepmd {

void pair_forces(const PairEnds& ends, const double* g, double* forces, double* virial) {
  std::fill(forces, forces + 3 * static_cast<std::int64_t>(ends.n_atoms), 0.0);
  std::fill(virial, virial + 9 * static_cast<std::int64_t>(ends.n_frames), 0.0);
  for (std::int64_t i = 0; i < ends.n_atoms; ++i) {  // serial: the order of the sums does not depend on the threads
    double* w = virial + 9 * static_cast<std::int64_t>(ends.frame[i]);
    for (std::int64_t p = ends.first[i]; p < ends.first[i + 1]; ++p) {
      const double* v = ends.vectors + 3 * p;
      const std::int64_t j = ends.neighbor[p];
      for (int a = 0; a < 3; ++a) {
        const double own = g[3 * p + a];
        forces[3 * i + a] += own;
        forces[3 * j + a] -= own;
        for (int b = 0; b < 3; ++b) w[3 * a + b] -= own * v[b];
      }
    }
  }
}

void pair_forces_adjoint(const PairEnds& ends, const double* d_forces, const double* d_virial, double* d_g) {
  for (std::int64_t i = 0; i < ends.n_atoms; ++i) {
    const double* u_w = d_virial + 9 * static_cast<std::int64_t>(ends.frame[i]);
    for (std::int64_t p = ends.first[i]; p < ends.first[i + 1]; ++p) {
      const double* v = ends.vectors + 3 * p;
      const std::int64_t j = ends.neighbor[p];
      for (int a = 0; a < 3; ++a) {
        double own = d_forces[3 * i + a] - d_forces[3 * j + a];
        for (int b = 0; b < 3; ++b) own -= u_w[3 * a + b] * v[b];
        d_g[3 * p + a] = own;
      }
    }
  }
}

}  // namespace deepmd
