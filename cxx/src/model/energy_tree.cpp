#include "model/energy_tree.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "model/safetensors.hpp"

namespace deepmd {
namespace {

using nlohmann::json;

// Why the model is not of this family; the sentence goes on after "the model ".
struct Unfit {
  std::string reason;
};

[[noreturn]] void unfit(const std::string& reason) { throw Unfit{reason}; }

// A part of the tree and the arrays that it refers to.
class Node {
 public:
  Node(const json& data, const SafeTensors& arrays) : data_(&data), arrays_(&arrays) {}

  Node at(const std::string& key) const { return {data_->at(key), *arrays_}; }
  std::vector<Node> items(const std::string& key) const {
    std::vector<Node> nodes;
    for (const json& item : data_->at(key)) nodes.emplace_back(item, *arrays_);
    return nodes;
  }
  bool is_null(const std::string& key) const { return !data_->contains(key) || data_->at(key).is_null(); }
  template <class T>
  T get(const std::string& key) const {
    return data_->at(key).get<T>();
  }
  template <class T>
  T get(const std::string& key, const T& otherwise) const {
    return is_null(key) ? otherwise : get<T>(key);
  }
  // Whether something is set that a plain model leaves out, false, zero or empty.
  bool is_set(const std::string& key) const {
    if (is_null(key)) return false;
    const json& value = data_->at(key);
    if (value.is_boolean()) return value.get<bool>();
    return value.is_number() ? value.get<double>() != 0.0 : !value.empty();
  }
  // The array under @variables; empty if it is null.
  std::vector<double> variable(const std::string& key) const {
    const Node variables = at("@variables");
    return variables.is_null(key) ? std::vector<double>() : arrays_->doubles(variables.name(key));
  }
  std::vector<std::int64_t> shape(const std::string& key) const { return arrays_->shape(at("@variables").name(key)); }

 private:
  std::string name(const std::string& key) const {
    const auto path = get<std::string>(key);  // such as /variable_0007
    return path.substr(path.rfind('/') + 1);
  }

  const json* data_;
  const SafeTensors* arrays_;
};

void require_size(const std::vector<double>& values, std::size_t n, const char* what) {
  if (values.size() != n) unfit(text("has ", values.size(), " numbers for ", what, ", expected ", n));
}

Activation activation_of(const std::string& given, double* threshold) {
  static const std::pair<const char*, Activation> known[] = {
      {"tanh", Activation::tanh},       {"none", Activation::none},         {"linear", Activation::none},
      {"relu", Activation::relu},       {"relu6", Activation::relu6},       {"softplus", Activation::softplus},
      {"sigmoid", Activation::sigmoid}, {"silu", Activation::silu},         {"gelu", Activation::gelu},
      {"gelu_tf", Activation::gelu},    {"silut", Activation::silut}};
  std::string name = given;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto colon = name.find(':');
  if (colon != std::string::npos) *threshold = std::stod(name.substr(colon + 1));
  for (const auto& [word, activation] : known) {
    if (name.substr(0, colon) == word) return activation;
  }
  unfit("uses the activation function '" + given + "', which has no kernel");
}

DenseLayer read_layer(const Node& node) {
  DenseLayer layer;
  const auto shape = node.shape("w");
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) unfit("has a layer whose weights are no matrix");
  layer.n_in = static_cast<int>(shape[0]);
  layer.n_out = static_cast<int>(shape[1]);
  layer.activation = activation_of(node.get<std::string>("activation_function", "none"), &layer.threshold);
  if (node.get<bool>("resnet", true)) {
    if (layer.n_out == layer.n_in) layer.skip = 1;
    if (layer.n_out == 2 * layer.n_in) layer.skip = 2;
  }
  const auto n_out = static_cast<std::size_t>(layer.n_out);
  layer.w = node.variable("w");
  layer.b = node.variable("b");
  if (layer.b.empty()) layer.b.assign(n_out, 0.0);
  layer.idt = node.variable("idt");
  require_size(layer.b, n_out, "the bias of a layer");
  if (!layer.idt.empty()) require_size(layer.idt, n_out, "the time step of a layer");
  return layer;
}

std::vector<DenseNetwork> read_networks(const Node& collection) {
  std::vector<DenseNetwork> networks;
  for (const Node& node : collection.items("networks")) {
    DenseNetwork network;
    for (const Node& layer : node.items("layers")) network.layers.push_back(read_layer(layer));
    if (network.layers.empty()) unfit("has a network without layers");
    for (std::size_t k = 1; k < network.layers.size(); ++k) {
      if (network.layers[k].n_in != network.layers[k - 1].n_out) unfit("has a network whose layers do not fit together");
    }
    networks.push_back(std::move(network));
  }
  return networks;
}

// [n_types][n_types], 0 for the listed pairs in both orders.
std::vector<char> kept_pairs(const Node& node, const std::string& key, int n_types) {
  std::vector<char> keep(static_cast<std::size_t>(n_types * n_types), 1);
  for (const auto& pair : node.get<std::vector<std::vector<int>>>(key, {})) {
    if (pair.size() != 2) unfit(key + " holds no pair of types");
    for (const int t : pair) {
      if (t < 0 || t >= n_types) unfit(key + " holds a type that the model does not have");
    }
    keep[static_cast<std::size_t>(pair[0] * n_types + pair[1])] = 0;
    keep[static_cast<std::size_t>(pair[1] * n_types + pair[0])] = 0;
  }
  return keep;
}

// The rows of the table [n_types][slots][4], which must be the same for all slots; column of each type.
std::vector<double> column_of_slots(const Node& descriptor, const std::string& key, int n_types, std::size_t column) {
  const std::vector<double> table = descriptor.variable(key);
  const std::size_t rows = table.size() / 4, per_type = rows / static_cast<std::size_t>(n_types);
  if (per_type == 0 || per_type * static_cast<std::size_t>(n_types) * 4 != table.size()) {
    unfit("has a table " + key + " of another shape than types, slots and 4");
  }
  std::vector<double> values;
  for (std::size_t row = 0; row < rows; ++row) {
    if (row % per_type == 0) values.push_back(table[4 * row + column]);
    if (table[4 * row + column] != values.back()) unfit("has a table " + key + " that differs between slots");
  }
  return values;
}

void read_statistics(const Node& descriptor, EnergyTree& tree) {
  tree.davg_r = column_of_slots(descriptor, "davg", tree.n_types, 0);
  tree.std_r = column_of_slots(descriptor, "dstd", tree.n_types, 0);
  tree.std_a = column_of_slots(descriptor, "dstd", tree.n_types, 1);
  for (std::size_t a = 1; a < 4; ++a) {
    for (const double mean : column_of_slots(descriptor, "davg", tree.n_types, a)) {
      if (mean != 0.0) unfit("subtracts a mean from the angular rows");
    }
    if (column_of_slots(descriptor, "dstd", tree.n_types, a) != tree.std_a) unfit("scales x, y and z differently");
  }
  for (std::size_t t = 0; t < tree.std_r.size(); ++t) {
    if (!(tree.std_r[t] > 0.0 && tree.std_a[t] > 0.0)) unfit("has a dstd that is not positive");
  }
}

void read_descriptor(const Node& descriptor, EnergyTree& tree) {
  const auto type = descriptor.get<std::string>("type");
  if (type != "se_e2_a") unfit("has the descriptor '" + type + "', the fused path runs 'se_e2_a'");
  if (descriptor.is_set("compress")) unfit("holds another program's compressed descriptor");
  if (!descriptor.is_null("env_mat") && descriptor.at("env_mat").is_set("use_exp_switch")) {
    unfit("uses the exponential switch");
  }
  tree.cutoff = {descriptor.get<double>("rcut"), descriptor.get<double>("rcut_smth"),
                 descriptor.get<double>("env_protection", 0.0)};
  tree.axis = descriptor.get<int>("axis_neuron");
  tree.one_side = descriptor.get<bool>("type_one_side", false);
  tree.sel = descriptor.get<std::vector<int>>("sel");
  tree.keep = kept_pairs(descriptor, "exclude_types", tree.n_types);
  tree.embedding = read_networks(descriptor.at("embeddings"));
  const auto expected = static_cast<std::size_t>(tree.one_side ? tree.n_types : tree.n_types * tree.n_types);
  if (tree.embedding.size() != expected || tree.sel.size() != static_cast<std::size_t>(tree.n_types)) {
    unfit("has another number of embedding networks or of sel than its types need");
  }
  tree.width = tree.embedding[0].n_out();
  for (const DenseNetwork& network : tree.embedding) {
    if (network.n_in() != 1 || network.n_out() != tree.width) unfit("has embedding networks of different shapes");
    for (const DenseLayer& layer : network.layers) {
      const Activation f = layer.activation;
      if (f == Activation::relu || f == Activation::relu6 || f == Activation::silut) {
        unfit("has embedding networks with kinks (relu, relu6, silut), of which no smooth table can be made");
      }
    }
  }
  if (tree.axis < 1 || tree.axis > tree.width) unfit(text("has axis_neuron ", tree.axis));
  read_statistics(descriptor, tree);
}

// Terms of the energy beside the network, by type.
struct EnergyTerms {
  std::vector<double> out_bias;    // [n_types]
  std::vector<char> atom_keep;     // [n_types]: 0 where the model excludes the type
  std::vector<double> bias;        // [n_types] of the fitting
  std::vector<char> fitting_keep;  // [n_types]
  std::vector<char> vacuum;        // [n_types]: 1 where the network's value for no neighbours is subtracted
};

std::vector<char> kept_types(const Node& node, const std::string& key, int n_types) {
  std::vector<char> keep(static_cast<std::size_t>(n_types), 1);
  for (const int t : node.get<std::vector<int>>(key, {})) {
    if (t < 0 || t >= n_types) unfit(key + " holds no type");
    keep[static_cast<std::size_t>(t)] = 0;
  }
  return keep;
}

// Entries that are not null, and the types beyond the end of the list, unless all are null.
std::vector<char> vacuum_flags(const Node& fitting, int n_types) {
  std::vector<char> flags(static_cast<std::size_t>(n_types), 0);
  if (!fitting.is_set("atom_ener")) return flags;
  const auto entries = fitting.get<json>("atom_ener");
  if (std::all_of(entries.begin(), entries.end(), [](const json& entry) { return entry.is_null(); })) return flags;
  for (std::size_t t = 0; t < flags.size(); ++t) flags[t] = t >= entries.size() || !entries[t].is_null();
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

void read_parameters(const Node& fitting, const std::string& name, int dim, std::vector<double>& avg,
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

void read_fitting(const Node& model, EnergyTree& tree) {
  const Node fitting = model.at("fitting");
  const auto type = fitting.get<std::string>("type");
  if (type != "ener") unfit("predicts '" + type + "', the fused path runs 'ener'");
  for (const char* key : {"mixed_types", "dim_case_embd", "use_aparam_as_mask", "tot_ener_zero", "spin"}) {
    if (fitting.is_set(key)) unfit(text("has a fitting net with '", key, "'"));
  }
  tree.dim_fparam = fitting.get<int>("numb_fparam", 0);
  tree.dim_aparam = fitting.get<int>("numb_aparam", 0);
  read_parameters(fitting, "fparam", tree.dim_fparam, tree.fparam_avg, tree.fparam_inv_std);
  read_parameters(fitting, "aparam", tree.dim_aparam, tree.aparam_avg, tree.aparam_inv_std);
  tree.fitting = read_networks(fitting.at("nets"));
  const auto n_types = static_cast<std::size_t>(tree.n_types);
  if (tree.fitting.size() != n_types) unfit("has another number of fitting networks than of types");
  for (const DenseNetwork& network : tree.fitting) {
    if (network.n_in() != tree.width * tree.axis + tree.dim_fparam + tree.dim_aparam || network.n_out() != 1) {
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
  const Node model = Node(all, arrays).at("model");
  const auto type = model.get<std::string>("type");
  if (type != "standard") unfit("is of the type '" + type + "', the fused path runs 'standard'");
  EnergyTree tree;
  tree.n_types = static_cast<int>(model.get<std::vector<std::string>>("type_map").size());
  if (tree.n_types < 1) unfit("has no types");
  tree.min_pair_distance = file.metadata().min_pair_distance;
  tree.pair_keep = kept_pairs(model, "pair_exclude_types", tree.n_types);
  read_descriptor(model.at("descriptor"), tree);
  read_fitting(model, tree);
  return tree;
}

}  // namespace

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
