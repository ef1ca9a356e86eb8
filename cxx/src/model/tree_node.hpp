#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/dense_network.hpp"
#include "model/safetensors.hpp"

namespace deepmd {

struct EnergyTree;

// Why a model cannot be taken by the fused path; the sentence goes on after "the model ".
struct Unfit {
  std::string reason;
};

[[noreturn]] void unfit(const std::string& reason);

// A part of the tree and the arrays that it refers to.
class TreeNode {
 public:
  TreeNode(const nlohmann::json& data, const SafeTensors& arrays) : data_(&data), arrays_(&arrays) {}

  TreeNode at(const std::string& key) const { return {data_->at(key), *arrays_}; }
  std::vector<TreeNode> items(const std::string& key) const {
    std::vector<TreeNode> nodes;
    for (const nlohmann::json& item : data_->at(key)) nodes.emplace_back(item, *arrays_);
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
    const nlohmann::json& value = data_->at(key);
    if (value.is_boolean()) return value.get<bool>();
    return value.is_number() ? value.get<double>() != 0.0 : !value.empty();
  }
  // The array under @variables; empty if it is null.
  std::vector<double> variable(const std::string& key) const {
    const TreeNode variables = at("@variables");
    return variables.is_null(key) ? std::vector<double>() : arrays_->doubles(variables.name(key));
  }
  std::vector<std::int64_t> shape(const std::string& key) const { return arrays_->shape(at("@variables").name(key)); }

 private:
  std::string name(const std::string& key) const {
    const auto path = get<std::string>(key);  // such as /variable_0007
    return path.substr(path.rfind('/') + 1);
  }

  const nlohmann::json* data_;
  const SafeTensors* arrays_;
};

void require_size(const std::vector<double>& values, std::size_t n, const char* what);
DenseNetwork read_network(const TreeNode& node);
std::vector<DenseNetwork> read_networks(const TreeNode& collection);
// [n_types][n_types], 0 for the listed pairs in both orders.
std::vector<char> kept_pairs(const TreeNode& node, const std::string& key, int n_types);
// Puts one descriptor, or those of a hybrid, into the tree; n_types must be known.
void read_descriptors(const TreeNode& node, EnergyTree& tree);

}  // namespace deepmd
