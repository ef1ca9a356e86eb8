#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/pair_math.hpp"
#include "model/dense_network.hpp"
#include "model/model_file.hpp"

namespace deepmd {

// An energy model with the two-body-embedding descriptor, in float64, as model.json and weights.safetensors say it.
struct EnergyTree {
  Cutoff cutoff{};
  int n_types = 0;
  int axis = 0;   // columns of T that multiply all of them
  int width = 0;  // outputs of an embedding network
  bool one_side = false;
  std::vector<int> sel;                      // [n_types]
  std::vector<double> davg_r, std_r, std_a;  // [n_types] normalisation of rows, by the centre's type
  // [n_types][n_types] (centre, neighbour): 0 where the descriptor excludes the pair: its row is zero, its slot is used
  std::vector<char> keep;
  std::vector<char> pair_keep;          // [n_types][n_types]: 0 where the model excludes the pair: it does not exist
  std::vector<DenseNetwork> embedding;  // [n_types], or [n_types^2] with number t_j * n_types + t_i
  std::vector<DenseNetwork> fitting;    // [n_types]
  int dim_fparam = 0, dim_aparam = 0;
  std::vector<double> fparam_avg, fparam_inv_std;  // [dim_fparam]
  std::vector<double> aparam_avg, aparam_inv_std;  // [dim_aparam]
  double min_pair_distance = 0;                    // Angstrom, of the training data; 0 if unknown
  std::vector<double> energy_shift, energy_scale;  // [n_types]: E_i = scale * net + shift

  int network_of(int t_i, int t_j) const { return one_side ? t_j : t_j * n_types + t_i; }
};

// Empty, with a reason in words (to follow "the model"), if the model is not of this family.
std::optional<EnergyTree> read_energy_tree(const ModelFile& file, std::string* why_not);

}  // namespace deepmd
