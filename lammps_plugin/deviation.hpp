// How far the models of an ensemble disagree. Population statistics over the models; no LAMMPS types.
#ifndef DEEPMD_LAMMPS_DEVIATION_HPP
#define DEEPMD_LAMMPS_DEVIATION_HPP

#include <cstddef>

namespace deepmd {

/// Divides a deviation by the size of the mean plus `level`, if on.
struct RelativeLevel {
  bool on = false;
  double level = 0.0;
};

/// sqrt(mean_k |F_k - mean F|^2) of one atom; the force of model k starts at forces + k * stride.
double force_deviation(const double* forces, std::size_t stride, int n_models, const RelativeLevel& relative);

struct Spread {
  double max = 0.0;
  double min = 0.0;
  double avg = 0.0;
};

/// Deviations of the nine components of virials [n_models][9]; avg is their root mean square.
Spread virial_deviation(const double* virials, int n_models, const RelativeLevel& relative);

}  // namespace deepmd

#endif
