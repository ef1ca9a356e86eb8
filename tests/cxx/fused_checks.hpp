// A model on the fused engine against the plain evaluation and against differences.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "model/fused_potential.hpp"
#include "small_answers.hpp"
#include "small_models.hpp"
#include "small_plain.hpp"

namespace small {

inline std::unique_ptr<deepmd::FusedPotential> make(const deepmd::EnergyTree& tree, int n_threads = 1, deepmd::Precision precision = deepmd::Precision::float64,
                                     const deepmd::CompressionRecord* record = nullptr) {
  return deepmd::make_fused_potential(tree, deepmd::build_pair_basis(tree, record), {precision, n_threads});
}

inline Answers evaluate(deepmd::Potential& potential, const deepmd::Frame& frame) {
  Answers answers(frame);
  potential.evaluate(frame, answers.result());
  return answers;
}

inline double energy_of(deepmd::Potential& potential, const deepmd::Frame& frame) {
  double energy;
  potential.evaluate(frame, {&energy, nullptr, nullptr, nullptr, nullptr});
  return energy;
}

// Atomic energies against the plain evaluation; forces and virial against differences of the energy.
inline void check_model(const deepmd::EnergyTree& tree, deepmd::Potential& potential, Box& box, double tolerance,
                        const deepmd::EnergyTree* judged = nullptr) {
  const Answers answers = evaluate(potential, box.frame);
  double sum = 0;
  for (int i = 0; i < box.frame.n_local; ++i) {
    CHECK_NEAR(answers.atom_energy[i], plain_energy(judged ? *judged : tree, box.frame, i), tolerance);
    sum += answers.atom_energy[i];
  }
  CHECK_NEAR(answers.energy, sum, 1e-10);
  const double h = 1e-4;
  for (std::size_t k = 0; k < std::min<std::size_t>(answers.forces.size(), 9); ++k) {
    const double x = box.positions[k];
    double difference = 0;
    for (const double sign : {1.0, -1.0}) {
      box.positions[k] = x + sign * h;
      difference += sign * energy_of(potential, box.frame);  // the list has a skin
    }
    box.positions[k] = x;
    CHECK_NEAR(answers.forces[k], -difference / (2 * h), 2e-6 + tolerance / h);
  }
  for (int a = 0; a < 3; ++a) {  // W = -dE/d(strain)
    for (int b = 0; b < 3; ++b) {
      double difference = 0;
      const std::vector<double> positions = box.positions;
      const std::vector<double> cell(box.cell, box.cell + 9);
      for (const double sign : {1.0, -1.0}) {
        for (std::size_t i = 0; i < positions.size(); i += 3) box.positions[i + a] = positions[i + a] + sign * h * positions[i + b];
        for (int c = 0; c < 3; ++c) box.cell[3 * c + a] = cell[3 * c + a] + sign * h * cell[3 * c + b];
        difference += sign * energy_of(potential, box.frame);
      }
      box.positions = positions;
      std::copy(cell.begin(), cell.end(), box.cell);
      CHECK_NEAR(answers.virial[3 * a + b], -difference / (2 * h), 2e-5 + 10 * tolerance / h);
      double atoms = 0;
      for (int i = 0; i < box.frame.n_local; ++i) atoms += answers.atom_virial[9 * i + 3 * a + b];
      CHECK_NEAR(atoms, answers.virial[3 * a + b], 1e-10);
    }
  }
}

}  // namespace small
