#pragma once

#include <vector>

#include "kernels/activation_kind.hpp"

namespace deepmd {

// y = f(x w + b), times idt where there is one, plus x (skip 1) or [x, x] (skip 2).
struct DenseLayer {
  int n_in = 0, n_out = 0;
  Activation activation = Activation::tanh;
  double threshold = 3.0;   // of silut
  int skip = 0;             // 0: none, 1: + x, 2: + [x, x]
  std::vector<double> w;    // [n_in][n_out]
  std::vector<double> b;    // [n_out]
  std::vector<double> idt;  // [n_out] or empty
};

struct DenseNetwork {
  std::vector<DenseLayer> layers;

  int n_in() const { return layers.empty() ? 0 : layers.front().n_in; }
  int n_out() const { return layers.empty() ? 0 : layers.back().n_out; }
};

// The outputs [n_out] for the inputs x [n_in].
std::vector<double> evaluate_network(const DenseNetwork& network, const std::vector<double>& x);

// A network of one input at n points e: values g and derivatives g1, g2 [n][n_out]; g1 and g2 may be null.
void evaluate_curve(const DenseNetwork& network, int n, const double* e, double* g, double* g1, double* g2);

}  // namespace deepmd
