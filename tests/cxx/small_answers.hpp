// What a force call answers, compared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "model/frame.hpp"

namespace small {

struct Answers {
  explicit Answers(const deepmd::Frame& frame)
      : forces(3 * frame.n_all(), -7.0), virial(9, -7.0), atom_energy(frame.n_local, -7.0), atom_virial(9 * frame.n_all(), -7.0) {}
  deepmd::Result result() { return {&energy, forces.data(), virial.data(), atom_energy.data(), atom_virial.data()}; }
  double energy = -7.0;
  std::vector<double> forces, virial, atom_energy, atom_virial;
};

// Infinite where something is not a number.
inline double largest(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    const double difference = std::abs(a[k] - b[k]);
    most = difference <= most ? most : std::isnan(difference) ? INFINITY : difference;
  }
  return most;
}

inline void check_same(const Answers& a, const Answers& b, double tolerance) {
  CHECK_NEAR(a.energy, b.energy, tolerance);
  CHECK(largest(a.forces, b.forces) <= tolerance);
  CHECK(largest(a.virial, b.virial) <= 10 * tolerance);
  CHECK(largest(a.atom_energy, b.atom_energy) <= tolerance);
  CHECK(largest(a.atom_virial, b.atom_virial) <= 10 * tolerance);
}

inline bool is_identical(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

inline bool is_identical(const Answers& a, const Answers& b) {
  return a.energy == b.energy && is_identical(a.forces, b.forces) && is_identical(a.virial, b.virial) &&
         is_identical(a.atom_energy, b.atom_energy) && is_identical(a.atom_virial, b.atom_virial);
}

}  // namespace small
