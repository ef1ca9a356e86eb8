// Ghosts instead of shifts.
#pragma once

#include <cstdint>
#include <vector>

#include "small_answers.hpp"
#include "small_models.hpp"

namespace small {

// Atoms of a box as a frame without shifts: images are ghosts, as an MD engine has them.
struct WithGhosts {
  explicit WithGhosts(const Box& box) : positions(box.positions), types(box.types), first{0} {
    const deepmd::ListView& list = box.frame.list;
    for (int i = 0; i < box.frame.n_local; ++i) {
      for (std::int64_t k = list.first[i]; k < list.first[i + 1]; ++k) index.push_back(atom(box, list.index[k], list.shift + 3 * k));
      first.push_back(static_cast<std::int64_t>(index.size()));
    }
    frame = box.frame;
    frame.positions = positions.data(), frame.types = types.data(), frame.cell = nullptr;
    frame.n_ghost = static_cast<int>(types.size()) - frame.n_local;
    frame.list = deepmd::ListView(frame.n_local, first.data(), index.data(), nullptr);
  }
  WithGhosts(const WithGhosts&) = delete;

  int atom(const Box& box, int j, const int* shift) {
    if (shift[0] == 0 && shift[1] == 0 && shift[2] == 0) return j;
    for (int a = 0; a < 3; ++a) {
      double x = box.positions[3 * static_cast<std::size_t>(j) + a];
      for (int b = 0; b < 3; ++b) x += shift[b] * box.cell[3 * b + a];
      positions.push_back(x);
    }
    types.push_back(box.types[j]);
    owner.push_back(j);
    return static_cast<int>(types.size()) - 1;
  }

  // Adds what was answered for ghosts to their owners.
  Answers folded(Answers answers) const {
    const auto n = static_cast<std::size_t>(frame.n_local);
    for (std::size_t g = 0; g < owner.size(); ++g) {
      const auto k = static_cast<std::size_t>(owner[g]);
      for (std::size_t a = 0; a < 3; ++a) answers.forces[3 * k + a] += answers.forces[3 * (n + g) + a];
      for (std::size_t a = 0; a < 9; ++a) answers.atom_virial[9 * k + a] += answers.atom_virial[9 * (n + g) + a];
    }
    answers.forces.resize(3 * n), answers.atom_virial.resize(9 * n);
    return answers;
  }

  std::vector<double> positions;
  std::vector<int> types, index, owner;  // owner: of each ghost
  std::vector<std::int64_t> first;
  deepmd::Frame frame;
};

// A box with all images in the `layers` cells around it as ghosts, each once, and no rows: pairs are to be found.
struct WithImages {
  WithImages(const Box& box, double radius, int layers) : positions(box.positions), types(box.types) {
    const auto n = static_cast<int>(types.size());
    for (int i = 0; i < n; ++i) owner.push_back(i);
    for (int z = -layers; z <= layers; ++z) {
      for (int y = -layers; y <= layers; ++y) {
        for (int x = -layers; x <= layers; ++x) {
          for (int i = 0; i < n && (x != 0 || y != 0 || z != 0); ++i) {
            for (int a = 0; a < 3; ++a) {
              positions.push_back(box.positions[static_cast<std::size_t>(3 * i + a)] + x * box.cell[a] + y * box.cell[3 + a] + z * box.cell[6 + a]);
            }
            types.push_back(box.types[i]), owner.push_back(i);
          }
        }
      }
    }
    frame = box.frame;
    frame.positions = positions.data(), frame.types = types.data(), frame.cell = nullptr;
    frame.n_ghost = static_cast<int>(types.size()) - n;
    frame.list = deepmd::ListView();
    frame.list.n_centers = n, frame.list.radius = radius;
    frame.list.owners = owner.data();
  }
  WithImages(const WithImages&) = delete;

  std::vector<double> positions;
  std::vector<int> types, owner;  // [n_all]
  deepmd::Frame frame;
};

}  // namespace small
