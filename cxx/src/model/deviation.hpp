#pragma once

#include <cstddef>

namespace deepmd {

// How far several models disagree (the formulas stand in kernels/deviation_math.hpp). <> is the mean over the models (population
// statistics), F_i^k the force of model k on atom i, W^k its virial, E^k its energy, N the number of atoms:
//
//   force of atom i       e_i  = sqrt(< |F_i^k - <F_i>|^2 >)                   avg: mean over the atoms
//   virial component ab   e_ab = sqrt(< (W_ab^k - <W_ab>)^2 >) / N             avg: root mean square over the nine
//   energy                e    = sqrt(< (E^k - <E>)^2 >) / N
//   relative forms        e_i / (|<F_i>| + level),   e_ab / (|<W_ab>| / N + level)
//
// Against known values (labels), these stand in the place of <>, also in the relative forms. Equal models deviate by
// exactly zero, and zero stays zero in the relative forms whatever the level.

// The same quantities as several models see them, in n_groups groups of `width` numbers each.
struct ModelValues {
  int n_models = 0;
  std::size_t n_groups = 0;
  std::size_t width = 1;
  const double* const* of_model = nullptr;  // [n_models] -> [n_groups][width]
};

// mean [n_groups][width] over the models.
void model_mean(const ModelValues& values, double* mean);

// deviation [n_groups]: root mean square over the models of the distance from center [n_groups][width], or from their
// mean if it is null.
void group_deviation(const ModelValues& values, const double* center, double* deviation);

// Divides deviation [n_groups] by (|center| + level); the center is the mean of the models if it is null.
void make_relative(const ModelValues& values, const double* center, double level, double* deviation);

struct Spread {
  double max = 0, min = 0, avg = 0;
};
Spread spread_of_atoms(const double* deviation, std::size_t n_atoms);  // avg: mean; zeros if there are no atoms
Spread spread_of_virial(const double* deviation);                      // [9], avg: root mean square

// What several models say about one frame; a null pointer: unknown.
struct FrameOpinions {
  int n_models = 0;
  std::size_t n_atoms = 0;                 // atoms whose forces are compared
  const double* const* forces = nullptr;   // [n_models] -> [n_atoms][3]
  const double* virials = nullptr;         // [n_models][3][3]
  const double* energies = nullptr;        // [n_models]
  const double* true_forces = nullptr;     // [n_atoms][3] in the place of the mean
  const double* true_virial = nullptr;     // [3][3]
  const double* true_energy = nullptr;     // [1]
  double relative = -1;                    // level; negative: absolute deviations
  double relative_v = -1;
  double n_counted = 0;                    // N by which energies and virials are divided; 0: n_atoms
};

struct FrameDeviation {
  Spread force, virial;
  double energy = 0;
};

// What is unknown comes out as NaN. atoms [n_atoms] gets the deviation of each force.
FrameDeviation frame_deviation(const FrameOpinions& opinions, double* atoms);

}  // namespace deepmd
