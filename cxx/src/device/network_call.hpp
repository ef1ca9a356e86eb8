// What is launched between the two passes over neighbours.
#pragma once

#include <vector>

#include "device/fitting_bodies.hpp"
#include "device/split_product.hpp"

namespace deepmd::device {

// The arrays of a chunk: one row (four in those of sums and t) for each centre.
template <class Real>
struct Work {
  Real *sums = nullptr, *t = nullptr, *g_t = nullptr, *x = nullptr;
  std::vector<Real*> h, slope;  // per layer
  Real *g[2] = {}, *g_pre[2] = {}, *scratch = nullptr;
  Real *a_high = nullptr, *a_low = nullptr;  // of split products
  double *gradient = nullptr, *vector = nullptr;
};

template <class Real, class Backend>
struct NetworkCall {
  Backend& backend;
  const ModelImage<Real>& image;
  const Real* numbers;  // of the model, on the device
  const Work<Real>& work;
  double* atom_energy;  // [n_local]
  // The numbers from the first weight on (offset first_split) in parts; null: products are not split.
  const Real *high = nullptr, *low = nullptr;
  std::int64_t first_split = 0;

  // Rows [row, row + n) of a chunk: centres atoms [n] of one type. From sums to energies, and back to dE/d(sums).
  void run(int type, int row, int n, const int* atoms, const double* extra, bool wants_gradient) const {
    const CenterShape& center = image.centers[static_cast<std::size_t>(type)];
    const std::int64_t sums = static_cast<std::int64_t>(row) * 4 * image.sums_stride, t = static_cast<std::int64_t>(row) * 4 * image.t_stride;
    Real* x = work.x + static_cast<std::int64_t>(row) * image.x_stride;
    if (center.has_map) {  // T = C map
      multiply(4 * static_cast<std::int64_t>(n), center.n, center.n_sums, work.sums + sums, image.sums_stride, center.map,
               Store<Real>{work.t + t, image.t_stride, false});
    }
    MakeProducts<Real> products;
    products.n_rows = n, products.n = center.n, products.axis = center.axis;
    products.n_x = center.n_x, products.n_extra = center.n_extra;
    products.t = work.t + t, products.t_stride = image.t_stride;
    products.extra = extra, products.atoms = atoms;
    products.x = x, products.x_stride = image.x_stride;
    backend.launch(products, n);
    forward(type, row, n, atoms, x);
    if (!wants_gradient) return;
    backward(type, row, n, x);
    ProductsBack<Real> back;
    back.n_rows = n, back.n = center.n, back.axis = center.axis;
    back.t = work.t + t, back.t_stride = image.t_stride;
    back.g_x = x, back.x_stride = image.x_stride, back.g_t = work.g_t + t;
    backend.launch(back, n);
    if (center.has_map) {
      multiply(4 * static_cast<std::int64_t>(n), center.n_sums, center.n, work.g_t + t, image.t_stride, center.map_back,
               Store<Real>{work.sums + sums, image.sums_stride, false});
    }
  }

 private:
  template <class Finish>
  void multiply(std::int64_t m, int n, int k, const Real* a, int lda, std::int64_t w, const Finish& finish) const {
    backend.multiply(Product<Real>{m, n, k, a, lda, numbers + w}, finish, work.scratch);
  }

  // The same in a layer, where it may be split.
  template <class Finish>
  void multiply_layer(std::int64_t m, int n, int k, const Real* a, int lda, std::int64_t w, const Finish& finish) const {
    SplitRoom<Real> room;
    if (high) room = {high + w - first_split, low ? low + w - first_split : nullptr, work.a_high, work.a_low};
    backend.multiply(Product<Real>{m, n, k, a, lda, numbers + w}, finish, work.scratch, room);
  }

  void forward(int type, int row, int n, const int* atoms, const Real* x) const {
    const CenterShape& center = image.centers[static_cast<std::size_t>(type)];
    const std::int64_t at = static_cast<std::int64_t>(row) * image.h_stride;
    int stride = image.x_stride, width = center.n_x + center.n_extra;
    for (int l = 0; l < center.n_layers; ++l) {
      const LayerShape& layer = image.layers[static_cast<std::size_t>(type)][static_cast<std::size_t>(l)];
      const auto k = static_cast<std::size_t>(l);
      Activate<Real> act;
      act.kind = layer.kind, act.threshold = layer.threshold;
      act.bias = numbers + layer.bias, act.idt = layer.has_idt ? numbers + layer.idt : nullptr;
      act.skip = layer.skip ? x : nullptr, act.n_in = layer.n_in;
      act.h = work.h[k] + at, act.slope = work.slope[k] + at, act.stride = image.h_stride;
      multiply_layer(n, layer.n_out, layer.n_in, x, stride, layer.w, act);
      if (layer.has_skip_matrix) {
        multiply_layer(n, layer.n_out, layer.n_in, x, stride, layer.skip_matrix, Store<Real>{act.h, image.h_stride, true});
      }
      x = act.h, stride = image.h_stride, width = layer.n_out;
    }
    SumOutput<Real> sum;
    sum.n_rows = n, sum.n = width, sum.x = x, sum.stride = stride;
    sum.out = numbers + center.out, sum.shift = center.shift;
    sum.atoms = atoms, sum.atom_energy = atom_energy;
    backend.launch(sum, (n + kGroups - 1) / kGroups);
  }

  void backward(int type, int row, int n, Real* g_x) const {
    const CenterShape& center = image.centers[static_cast<std::size_t>(type)];
    const std::vector<LayerShape>& layers = image.layers[static_cast<std::size_t>(type)];
    const std::int64_t at = static_cast<std::int64_t>(row) * image.h_stride;
    SeedGradient<Real> seed;
    seed.n_rows = n, seed.out = numbers + center.out;
    if (layers.empty()) {
      seed.n = center.n_x, seed.g = g_x, seed.stride = image.x_stride;
      backend.launch(seed, n);
      return;
    }
    int now = 0;  // which of the two arrays holds the gradient
    seed.n = layers.back().n_out, seed.stride = image.h_stride;
    seed.slope = work.slope[layers.size() - 1] + at, seed.g = work.g[now] + at, seed.g_pre = work.g_pre[now] + at;
    backend.launch(seed, n);
    for (std::size_t l = layers.size(); l-- > 1; now = 1 - now) {
      const LayerShape& layer = layers[l];
      PassBack<Real> back;
      back.skip = layer.skip, back.n_in = layer.n_in;
      back.g = work.g[now] + at, back.slope = work.slope[l - 1] + at;
      back.g_in = work.g[1 - now] + at, back.g_pre = work.g_pre[1 - now] + at, back.stride = image.h_stride;
      multiply_layer(n, layer.n_back, layer.n_out, work.g_pre[now] + at, image.h_stride, layer.w_back, back);
    }
    const LayerShape& first = layers.front();
    multiply_layer(n, first.n_back, first.n_out, work.g_pre[now] + at, image.h_stride, first.w_back, Store<Real>{g_x, image.x_stride, false});
    if (first.has_skip_matrix) {
      multiply_layer(n, first.n_back, first.n_out, work.g[now] + at, image.h_stride, first.skip_back, Store<Real>{g_x, image.x_stride, true});
    }
  }
};

}  // namespace deepmd::device
