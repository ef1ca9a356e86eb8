#include "model/energy_tree.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "model/safetensors.hpp"
#include "model/tree_node.hpp"

namespace deepmd {
namespace {

using nlohmann::json;

// Terms of the energy beside the network, by type.
struct EnergyTerms {
  std::vector<double> out_bias;    // [n_types]
  std::vector<char> atom_keep;     // [n_types]: 0 where the model excludes the type
  std::vector<double> bias;        // [n_types] of the fitting
  std::vector<char> fitting_keep;  // [n_types]
  std::vector<char> vacuum;        // [n_types]: 1 where the network's value for no neighbours is subtracted
};

std::vector<char> kept_types(const TreeNode& node, const std::string& key, int n_types) {
  std::vector<char> keep(static_cast<std::size_t>(n_types), 1);
  for (const int t : node.get<std::vector<int>>(key, {})) {
    if (t < 0 || t >= n_types) unfit(key + " holds no type");
    keep[static_cast<std::size_t>(t)] = 0;
  }
  return keep;
}

// Entries that are not null, and the types beyond the end of the list, unless all are null.
// One network for all types has one such term.
std::vector<char> vacuum_flags(const TreeNode& fitting, int n_types) {
  std::vector<char> flags(static_cast<std::size_t>(n_types), 0);
  if (!fitting.is_set("atom_ener")) return flags;
  const auto entries = fitting.get<json>("atom_ener");
  if (std::all_of(entries.begin(), entries.end(), [](const json& entry) { return entry.is_null(); })) return flags;
  const bool is_joint = fitting.is_set("mixed_types");
  for (std::size_t t = 0; t < flags.size(); ++t) flags[t] = is_joint || t >= entries.size() || !entries[t].is_null();
  return flags;
}

// E_i = ((net - vacuum + bias) fitting_keep + out_bias) atom_keep as scale net + shift.
void fold_energy_terms(const EnergyTerms& terms, EnergyTree& tree) {
  for (std::size_t t = 0; t < static_cast<std::size_t>(tree.n_types); ++t) {
    double bias = terms.bias[t];
    if (terms.vacuum[t]) {
      if (tree.dim_fparam + tree.dim_aparam > 0) {
        unfit("subtracts a vacuum energy (atom_ener) that depends on fparam or aparam");
      }
      bias -= evaluate_network(tree.fitting[t], std::vector<double>(static_cast<std::size_t>(tree.fitting[t].n_in())))[0];
    }
    const double fitting_keep = terms.fitting_keep[t], atom_keep = terms.atom_keep[t];
    tree.energy_scale.push_back(fitting_keep * atom_keep);
    tree.energy_shift.push_back((bias * fitting_keep + terms.out_bias[t]) * atom_keep);
  }
}

void read_parameters(const TreeNode& fitting, const std::string& name, int dim, std::vector<double>& avg,
                     std::vector<double>& inv_std) {
  const auto n = static_cast<std::size_t>(dim);
  if (n == 0) return;
  avg = fitting.variable(name + "_avg");
  inv_std = fitting.variable(name + "_inv_std");
  if (avg.empty()) avg.assign(n, 0.0);
  if (inv_std.empty()) inv_std.assign(n, 1.0);
  require_size(avg, n, "the mean of parameters");
  require_size(inv_std, n, "the spread of parameters");
}

void read_fitting(const TreeNode& model, EnergyTree& tree) {
  const TreeNode fitting = model.at("fitting");
  const auto type = fitting.get<std::string>("type");
  if (type != "ener") unfit("predicts '" + type + "', the fused path runs 'ener'");
  for (const char* key : {"dim_case_embd", "use_aparam_as_mask", "tot_ener_zero", "spin"}) {
    if (fitting.is_set(key)) unfit(text("has a fitting net with '", key, "'"));
  }
  tree.dim_fparam = fitting.get<int>("numb_fparam", 0);
  tree.dim_aparam = fitting.get<int>("numb_aparam", 0);
  read_parameters(fitting, "fparam", tree.dim_fparam, tree.fparam_avg, tree.fparam_inv_std);
  read_parameters(fitting, "aparam", tree.dim_aparam, tree.aparam_avg, tree.aparam_inv_std);
  const auto n_types = static_cast<std::size_t>(tree.n_types);
  tree.fitting = read_networks(fitting.at("nets"));
  if (fitting.is_set("mixed_types") && tree.fitting.size() == 1) tree.fitting.resize(n_types, tree.fitting[0]);
  if (tree.fitting.size() != n_types) unfit("has another number of fitting networks than of types");
  const int n_in = tree.n_descriptor_inputs() + tree.dim_fparam + tree.dim_aparam;
  for (const DenseNetwork& network : tree.fitting) {
    if (network.n_in() != n_in || network.n_out() != 1) {
      unfit("has a fitting network whose inputs are not the descriptor and the parameters");
    }
  }
  EnergyTerms terms;
  terms.out_bias = model.variable("out_bias");
  terms.atom_keep = kept_types(model, "atom_exclude_types", tree.n_types);
  terms.fitting_keep = kept_types(fitting, "exclude_types", tree.n_types);
  terms.bias = fitting.variable("bias_atom_e");
  if (terms.bias.empty()) terms.bias.assign(n_types, 0.0);
  terms.vacuum = vacuum_flags(fitting, tree.n_types);
  require_size(terms.out_bias, n_types, "the energies of the types");
  require_size(terms.bias, n_types, "the energies of the types in the fitting");
  fold_energy_terms(terms, tree);
}

EnergyTree read_tree(const ModelFile& file) {
  const auto record = file.record("deepmd/model.json"), weights = file.record("deepmd/weights.safetensors");
  if (!record || !weights) unfit("holds no plain weights");
  const SafeTensors arrays(*weights);
  const json all = json::parse(*record);
  const TreeNode model = TreeNode(all, arrays).at("model");
  const auto type = model.get<std::string>("type");
  if (type != "standard") unfit("is of the type '" + type + "', the fused path runs 'standard'");
  EnergyTree tree;
  tree.n_types = static_cast<int>(model.get<std::vector<std::string>>("type_map").size());
  if (tree.n_types < 1) unfit("has no types");
  tree.min_pair_distance = file.metadata().min_pair_distance;
  tree.pair_keep = kept_pairs(model, "pair_exclude_types", tree.n_types);
  read_descriptors(model.at("descriptor"), tree);
  read_fitting(model, tree);
  return tree;
}

}  // namespace

int EnergyTree::first_network(int descriptor) const {
  int n = 0;
  for (int d = 0; d < descriptor; ++d) n += descriptors[static_cast<std::size_t>(d)].n_networks();
  return n;
}

int EnergyTree::n_descriptor_inputs() const {
  int n = 0;
  for (const PairDescriptor& each : descriptors) n += each.n_out() + each.n_constants();
  for (const CoupleDescriptor& each : couples) n += each.width;
  return n;
}

int EnergyTree::n_networks() const { return first_network(static_cast<int>(descriptors.size())); }

NumberedCurve EnergyTree::curve(int network) const {
  NumberedCurve found{0, network};
  while (found.network >= descriptors[static_cast<std::size_t>(found.descriptor)].n_networks()) {
    found.network -= descriptors[static_cast<std::size_t>(found.descriptor++)].n_networks();
  }
  return found;
}

double EnergyTree::rcut() const {
  double largest = 0;
  for (const PairDescriptor& descriptor : descriptors) largest = std::max(largest, descriptor.cutoff.rcut);
  for (const CoupleDescriptor& descriptor : couples) largest = std::max(largest, descriptor.cutoff.rcut);
  return largest;
}

std::optional<EnergyTree> read_energy_tree(const ModelFile& file, std::string* why_not) {
  const auto refuse = [&](const std::string& reason) {
    if (why_not) *why_not = reason;
    return std::nullopt;
  };
  try {
    return read_tree(file);
  } catch (const Unfit& e) {
    return refuse(e.reason);
  } catch (const json::exception& e) {
    return refuse(text("has a tree that cannot be read (", e.what(), ")"));
  } catch (const std::logic_error& e) {  // a number in a word that is none
    return refuse(text("has a tree that cannot be read (", e.what(), ")"));
  } catch (const Error& e) {
    return refuse(e.what());
  }
}

}  // namespace deepmd
