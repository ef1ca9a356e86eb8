#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/couple_descriptor.hpp"
#include "model/dense_network.hpp"
#include "model/model_file.hpp"
#include "model/pair_descriptor.hpp"

namespace deepmd {

// A curve by its number among those of all descriptors of a model.
struct NumberedCurve {
  int descriptor = 0;
  int network = 0;  // of that descriptor
};

// An energy model on descriptors made of pairs or couples of neighbours, in float64, as model.json and weights.safetensors
// say it. Inputs of the fitting network: the descriptors, each with its constants, where its `first_input` says; then the
// parameters of frame and atom.
struct EnergyTree {
  int n_types = 0;
  std::vector<PairDescriptor> descriptors;  // with `couples`: more than one of a hybrid
  std::vector<CoupleDescriptor> couples;
  std::vector<char> pair_keep;              // [n_types][n_types]: 0 where the model excludes the pair: it does not exist
  std::vector<DenseNetwork> fitting;        // [n_types]
  int dim_fparam = 0, dim_aparam = 0;
  std::vector<double> fparam_avg, fparam_inv_std;  // [dim_fparam]
  std::vector<double> aparam_avg, aparam_inv_std;  // [dim_aparam]
  double min_pair_distance = 0;                    // Angstrom, of the training data; 0 if unknown
  std::vector<double> energy_shift, energy_scale;  // [n_types]: E_i = scale * net + shift

  int n_descriptor_inputs() const;
  int n_networks() const;  // of pairs
  int first_network(int descriptor) const;  // its number among all
  NumberedCurve curve(int network) const;
  double rcut() const;  // Angstrom, the largest
};

// Empty, with a reason in words (to follow "the model"), if the model is not of this family.
std::optional<EnergyTree> read_energy_tree(const ModelFile& file, std::string* why_not);

}  // namespace deepmd
