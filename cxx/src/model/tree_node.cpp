#include "model/tree_node.hpp"

#include <algorithm>
#include <cctype>

#include "core/error.hpp"

namespace deepmd {

void unfit(const std::string& reason) { throw Unfit{reason}; }

void require_size(const std::vector<double>& values, std::size_t n, const char* what) {
  if (values.size() != n) unfit(text("has ", values.size(), " numbers for ", what, ", expected ", n));
}

namespace {

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

DenseLayer read_layer(const TreeNode& node) {
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

}  // namespace

DenseNetwork read_network(const TreeNode& node) {
  DenseNetwork network;
  for (const TreeNode& layer : node.items("layers")) network.layers.push_back(read_layer(layer));
  if (network.layers.empty()) unfit("has a network without layers");
  for (std::size_t k = 1; k < network.layers.size(); ++k) {
    if (network.layers[k].n_in != network.layers[k - 1].n_out) unfit("has a network whose layers do not fit together");
  }
  return network;
}

std::vector<DenseNetwork> read_networks(const TreeNode& collection) {
  std::vector<DenseNetwork> networks;
  for (const TreeNode& node : collection.items("networks")) networks.push_back(read_network(node));
  return networks;
}

std::vector<char> kept_pairs(const TreeNode& node, const std::string& key, int n_types) {
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

}  // namespace deepmd
