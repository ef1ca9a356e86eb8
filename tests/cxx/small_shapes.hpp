// Shapes of small models that every engine has to take.
#pragma once

#include <utility>
#include <vector>

#include "small_models.hpp"

namespace small {

using Case = std::pair<Shape, unsigned>;  // with a seed

inline std::vector<Case> sides_and_types() {
  Shape one_sided, two_sided, three, single;
  two_sided.one_side = three.one_side = single.one_side = false;
  three.n_types = 3, single.n_types = 1;
  return {{one_sided, 1}, {two_sided, 2}, {three, 3}, {single, 4}};
}

inline std::vector<Case> widths_and_layers() {
  Shape deep, linear, skipping, doubling, square;
  deep.embedding = {5, 10, 20}, deep.axis = 16, deep.fitting = {7, 14, 14}, deep.has_time_step = true;
  linear = deep;
  linear.fitting = {};
  skipping.has_time_step = doubling.has_time_step = square.has_time_step = true;
  skipping.fitting = {24, 5};  // the first layer has a skip
  doubling.fitting = {48};     // and a doubled one
  square.embedding = {25}, square.axis = 25, square.fitting = {3};
  return {{deep, 5}, {linear, 6}, {skipping, 7}, {doubling, 8}, {square, 9}};
}

// Kinds of activation that are smooth enough for every precision, with parameters of frame and atom.
inline std::vector<Case> parameters_and_activations() {
  using deepmd::Activation;
  Shape shape;
  shape.dim_fparam = 2, shape.dim_aparam = 3;
  std::vector<Case> cases = {{shape, 10}};
  for (const Activation kind : {Activation::softplus, Activation::sigmoid, Activation::silu, Activation::gelu, Activation::silut,
                                Activation::none}) {
    shape.activation = kind;
    cases.emplace_back(shape, 11);
  }
  return cases;
}

// One- and two-sided models that exclude pairs of types: the descriptor, then the model too, then the model all of them.
inline std::vector<deepmd::EnergyTree> exclusions() {
  std::vector<deepmd::EnergyTree> trees;
  for (const bool one_side : {true, false}) {
    Shape shape;
    shape.one_side = one_side;
    deepmd::EnergyTree made = tree(shape, 12);
    made.descriptors[0].keep = {1, 0, 0, 1};
    trees.push_back(made);
    made.pair_keep = {0, 1, 1, 1};
    trees.push_back(made);
    made.pair_keep = {0, 0, 0, 0};
    trees.push_back(made);
  }
  return trees;
}

}  // namespace small
