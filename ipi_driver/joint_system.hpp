// Several structures with the same atoms and the same cell as one system without pairs between them, so that a batch of
// beads costs one call of the model instead of one for each.
#pragma once

#include <cstdint>
#include <vector>

#include "deepmd/deepmd.h"
#include "protocol.hpp"

namespace deepmd::ipi {

class JointSystem {
 public:
  // types [n_atoms] and aparam [n_atoms][dim_aparam] (or empty) are those of each structure.
  void start(const std::vector<int>& types, const std::vector<double>& aparam);
  // Appends a structure; `list` may change afterwards.
  void add(const Frame& frame, const deepmd_list& list);

  // Fills in what add() gathered; cell, pbc and fparam stay as the caller set them. The arrays belong to this object.
  void describe(deepmd_input& input, deepmd_output& output);
  // The part of structure k of what the model gave.
  void take(std::size_t k, Evaluation& result) const;

 private:
  const std::vector<int>* types_one_ = nullptr;
  const std::vector<double>* aparam_one_ = nullptr;
  std::vector<double> positions_;    // [n_structures * n_atoms][3], and so on
  std::vector<int> types_;
  std::vector<double> aparam_;
  std::vector<std::int64_t> first_;
  std::vector<int> index_;
  std::vector<int> shift_;
  std::vector<double> forces_;
  std::vector<double> atom_energy_;
  std::vector<double> atom_virial_;  // [n_structures * n_atoms][3][3]
  deepmd_list list_{};
};

}  // namespace deepmd::ipi
