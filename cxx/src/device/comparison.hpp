#pragma once

namespace deepmd::device {

constexpr int kMostCompared = 16;  // models

// How far the models of a pass disagree about the forces on local atoms. The frame's list names the owners of ghosts.
struct Comparison {
  double level = -1;        // of the relative form, eV/Angstrom; negative: absolute
  double* atoms = nullptr;  // [n_local] or null: not wanted
  double most = 0, least = 0, mean = 0;
  double most_absolute = 0;  // whatever the level
};

}  // namespace deepmd::device
