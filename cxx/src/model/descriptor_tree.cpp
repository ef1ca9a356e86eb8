// How the descriptors of a tree become sums over pairs (model/pair_descriptor.hpp) or over couples of neighbours
// (model/couple_descriptor.hpp).
#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "model/energy_tree.hpp"
#include "model/tree_node.hpp"

namespace deepmd {
namespace {

// Column `column` of the table [n_types][slots][n_columns] of each type, which must be the same for all slots.
std::vector<double> column_of_slots(const TreeNode& node, const std::string& key, int n_types, int n_columns, int column) {
  const std::vector<double> table = node.variable(key);
  const std::size_t width = n_columns, rows = table.size() / width, per_type = rows / static_cast<std::size_t>(n_types);
  if (per_type == 0 || per_type * static_cast<std::size_t>(n_types) * width != table.size()) {
    unfit(text("has a table ", key, " of another shape than types, slots and ", n_columns));
  }
  std::vector<double> values;
  for (std::size_t row = 0; row < rows; ++row) {
    const double value = table[width * row + static_cast<std::size_t>(column)];
    if (row % per_type == 0) values.push_back(value);
    if (value != values.back()) unfit("has a table " + key + " that differs between slots");
  }
  return values;
}

void read_statistics(const TreeNode& node, PairDescriptor& made) {
  const int n_columns = made.kind == RowKind::radial ? 1 : 4;
  made.davg_r = column_of_slots(node, "davg", made.n_types, n_columns, 0);
  made.std_r = column_of_slots(node, "dstd", made.n_types, n_columns, 0);
  made.std_a = column_of_slots(node, "dstd", made.n_types, n_columns, n_columns == 1 ? 0 : 1);
  for (int a = 1; a < n_columns; ++a) {
    for (const double mean : column_of_slots(node, "davg", made.n_types, n_columns, a)) {
      if (mean != 0.0) unfit("subtracts a mean from the angular rows");
    }
    if (column_of_slots(node, "dstd", made.n_types, n_columns, a) != made.std_a) unfit("scales x, y and z differently");
  }
  for (std::size_t t = 0; t < made.std_r.size(); ++t) {
    if (!(made.std_r[t] > 0.0 && made.std_a[t] > 0.0)) unfit("has a dstd that is not positive");
  }
}

// What all kinds have in common; Made: a descriptor of pairs or of couples.
template <class Made>
Made read_common(const TreeNode& node, int n_types) {
  if (node.is_set("compress")) unfit("holds another program's compressed descriptor");
  if (!node.is_null("env_mat") && node.at("env_mat").is_set("use_exp_switch")) unfit("uses the exponential switch");
  Made made;
  made.n_types = n_types;
  made.cutoff = {node.get<double>("rcut"), node.get<double>("rcut_smth"), node.get<double>("env_protection", 0.0)};
  made.keep = kept_pairs(node, "exclude_types", n_types);
  return made;
}

template <class Made>
void check_embeddings(const Made& made, int n_networks) {
  if (made.embedding.size() != static_cast<std::size_t>(n_networks) ||
      made.sel.size() != static_cast<std::size_t>(made.n_types)) {
    unfit("has another number of embedding networks or of sel than its types need");
  }
  for (const DenseNetwork& network : made.embedding) {
    if (network.n_in() != 1 || network.n_out() != made.width) unfit("has embedding networks of different shapes");
    for (const DenseLayer& layer : network.layers) {
      const Activation f = layer.activation;
      if (f == Activation::relu || f == Activation::relu6 || f == Activation::silut) {
        unfit("has embedding networks with kinks (relu, relu6, silut), of which no smooth table can be made");
      }
    }
  }
  if (std::accumulate(made.sel.begin(), made.sel.end(), 0) < 1) unfit("has no slots (sel)");
}

void check_pairs(const PairDescriptor& made) {
  check_embeddings(made, made.n_networks());
  if (made.kind != RowKind::radial && (made.axis < 1 || made.axis > made.width)) unfit(text("has axis_neuron ", made.axis));
}

// se_e2_a and se_e2_r have networks of their own for each type or pair of types.
PairDescriptor read_by_type(const TreeNode& node, int n_types, RowKind kind) {
  auto made = read_common<PairDescriptor>(node, n_types);
  made.kind = kind;
  const bool is_radial = kind == RowKind::radial;
  made.axis = is_radial ? 0 : node.get<int>("axis_neuron");
  made.one_side = is_radial ? node.at("embeddings").get<int>("ndim") == 1 : node.get<bool>("type_one_side", false);
  made.sel = node.get<std::vector<int>>("sel");
  made.embedding = read_networks(node.at("embeddings"));
  made.width = made.embedding.empty() ? 0 : made.embedding[0].n_out();
  check_pairs(made);
  read_statistics(node, made);
  return made;
}

// -------------------------------------------------------------------------------------- one network for all types

// The vectors A_t of all types.
std::vector<std::vector<double>> read_type_vectors(const TreeNode& node, int n_types) {
  if (node.is_set("use_econf_tebd")) unfit("has type vectors of electron configurations");
  const DenseNetwork network = read_network(node.at("embedding"));
  if (network.n_in() != n_types) unfit("has type vectors of another number of types");
  std::vector<std::vector<double>> vectors;
  for (int t = 0; t < n_types; ++t) {
    std::vector<double> unit(static_cast<std::size_t>(n_types), 0.0);
    unit[static_cast<std::size_t>(t)] = 1.0;
    vectors.push_back(evaluate_network(network, unit));
  }
  return vectors;
}

// N(s, a) for constants a as a network of s: a linear layer puts them beside s.
DenseNetwork with_constants(const DenseNetwork& network, const std::vector<double>& constants) {
  DenseLayer first;
  first.n_in = 1;
  first.n_out = static_cast<int>(constants.size()) + 1;
  first.activation = Activation::none;
  first.w.assign(constants.size() + 1, 0.0);
  first.w[0] = 1.0;
  first.b.assign(1, 0.0);
  first.b.insert(first.b.end(), constants.begin(), constants.end());
  if (network.n_in() != first.n_out) unfit("has an embedding network whose inputs are not the distance and the types");
  DenseNetwork made = network;
  made.layers.insert(made.layers.begin(), first);
  return made;
}

// N(s) (1 + f) as a network.
DenseNetwork with_factors(const DenseNetwork& network, const std::vector<double>& f) {
  DenseLayer last;
  last.n_in = last.n_out = static_cast<int>(f.size());
  last.activation = Activation::none;
  last.w.assign(f.size() * f.size(), 0.0);
  last.b.assign(f.size(), 0.0);
  for (std::size_t m = 0; m < f.size(); ++m) last.w[m * f.size() + m] = 1.0 + f[m];
  DenseNetwork made = network;
  made.layers.push_back(last);
  return made;
}

// The curve of neighbours of type t_j around centres of type t_i (not used if one-sided):
//   concat  N(s, A_j, A_i);   strip  N(s) (1 + f), f = N_t(A_j, A_i);   strip, smooth  N(s) (1 + f w).
struct TypedCurves {
  DenseNetwork network, of_types;
  std::vector<std::vector<double>> vectors;
  bool is_stripped = false;

  void add(int t_i, int t_j, PairDescriptor& made) const {
    std::vector<double> types = vectors[static_cast<std::size_t>(t_j)];
    if (t_i >= 0) types.insert(types.end(), vectors[static_cast<std::size_t>(t_i)].begin(), vectors[static_cast<std::size_t>(t_i)].end());
    if (!is_stripped) return made.embedding.push_back(with_constants(network, types));
    if (of_types.n_in() != static_cast<int>(types.size())) unfit("has a network of types whose inputs are not the types");
    std::vector<double> f = evaluate_network(of_types, types);
    require_size(f, static_cast<std::size_t>(made.width), "the factors of the embedding");
    made.embedding.push_back(made.kind == RowKind::by_inverse ? network : with_factors(network, f));
    if (made.kind == RowKind::by_inverse) made.factors.push_back(std::move(f));
  }
};

PairDescriptor read_se_atten(const TreeNode& node, int n_types, bool is_v2) {
  if (node.is_set("attn_layer")) unfit("has attention layers");
  auto made = read_common<PairDescriptor>(node, n_types);
  TypedCurves curves;
  curves.vectors = read_type_vectors(node.at("type_embedding"), n_types);
  curves.is_stripped = is_v2 || node.get<std::string>("tebd_input_mode", "concat") == "strip";
  const bool is_smooth = curves.is_stripped && (is_v2 || node.get<bool>("smooth_type_embedding", false));
  const std::vector<DenseNetwork> networks = read_networks(node.at("embeddings"));
  if (networks.size() != 1) unfit("has several embedding networks where one serves all types");
  curves.network = networks[0];
  if (curves.is_stripped) {
    const std::vector<DenseNetwork> of_types = read_networks(node.at("embeddings_strip"));
    if (of_types.size() != 1) unfit("has several networks of types");
    curves.of_types = of_types[0];
  }
  made.axis = node.get<int>("axis_neuron");
  made.width = curves.network.n_out();
  made.joint_slots = true;
  made.sel.assign(static_cast<std::size_t>(n_types), 0);
  const auto sel = node.get<nlohmann::json>("sel");
  for (const int n : sel.is_array() ? sel.get<std::vector<int>>() : std::vector<int>{sel.get<int>()}) made.sel[0] += n;
  const bool is_blind = node.get<bool>("type_one_side", false);  // to the centre's type
  if (is_smooth) made.kind = RowKind::by_inverse;
  made.one_side = is_blind && !is_smooth;  // else the centre's normalisation is part of the curve
  for (int t_j = 0; t_j < n_types; ++t_j) {
    for (int t_i = 0; t_i < (made.one_side ? 1 : n_types); ++t_i) curves.add(is_blind ? -1 : t_i, t_j, made);
  }
  if (node.get<bool>("concat_output_tebd", true)) made.constants = curves.vectors;
  check_pairs(made);
  read_statistics(node, made);
  return made;
}

// --------------------------------------------------------------------------------------------- couples of neighbours

// Networks are stored for all n_types^2 ordered pairs, number a + b * n_types; those with a > b have no use.
CoupleDescriptor read_se_e3(const TreeNode& node, int n_types) {
  auto made = read_common<CoupleDescriptor>(node, n_types);
  made.sel = node.get<std::vector<int>>("sel");
  const std::vector<DenseNetwork> networks = read_networks(node.at("embeddings"));
  if (networks.size() != static_cast<std::size_t>(n_types * n_types)) unfit("has another number of networks than of pairs of types");
  for (int b = 0; b < n_types; ++b) {
    for (int a = 0; a <= b; ++a) made.embedding.push_back(networks[static_cast<std::size_t>(a + b * n_types)]);
  }
  made.width = networks[0].n_out();
  check_embeddings(made, made.n_kinds());
  PairDescriptor rows;
  rows.n_types = n_types;
  read_statistics(node, rows);
  made.std_a = rows.std_a;
  return made;
}

void add(PairDescriptor made, EnergyTree& tree) {
  made.first_input = tree.n_descriptor_inputs();
  tree.descriptors.push_back(std::move(made));
}

void add(CoupleDescriptor made, EnergyTree& tree) {
  made.first_input = tree.n_descriptor_inputs();
  tree.couples.push_back(std::move(made));
}

}  // namespace

void read_descriptors(const TreeNode& node, EnergyTree& tree) {
  const auto type = node.get<std::string>("type");
  const int n = tree.n_types;
  if (type == "se_e2_a") return add(read_by_type(node, n, RowKind::angular), tree);
  if (type == "se_r" || type == "se_e2_r") return add(read_by_type(node, n, RowKind::radial), tree);
  if (type == "se_e3") return add(read_se_e3(node, n), tree);
  if (type == "dpa1" || type == "se_atten") return add(read_se_atten(node, n, false), tree);
  if (type == "se_atten_v2") return add(read_se_atten(node, n, true), tree);
  if (type != "hybrid") {
    unfit("has the descriptor '" + type +
          "', the fused path runs se_e2_a, se_e2_r, se_e3, se_atten without attention and hybrids of these");
  }
  const std::vector<TreeNode> parts = node.items("list");
  if (parts.empty()) unfit("has a hybrid descriptor without parts");
  for (const TreeNode& part : parts) read_descriptors(part, tree);
}

}  // namespace deepmd
