#include "model/fused_fitting.hpp"

#include <algorithm>

namespace deepmd {
namespace {

template <class Real>
void grow(aligned_vector<Real>& buffer, std::size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

}  // namespace

template <class Real>
FusedFitting<Real>::FusedFitting(const FusedPlan<Real>& plan) : kernels_(plan.kernels) {
  std::size_t n_layers = 0;
  for (const CenterPlan<Real>& center : plan.centers) n_layers = std::max(n_layers, center.layers.size());
  h_.resize(n_layers);
  slope_.resize(n_layers);
}

template <class Real>
void FusedFitting<Real>::make_room(const CenterPlan<Real>& center, int m) {
  int widest = 0;
  for (std::size_t l = 0; l < center.layers.size(); ++l) {
    const int stride = padded(center.layers[l].n_out);
    widest = std::max(widest, stride);
    grow(h_[l], static_cast<std::size_t>(m) * stride);
    grow(slope_[l], static_cast<std::size_t>(m) * stride);
  }
  for (auto* each : {&g_, &g_in_, &g_pre_}) grow(*each, static_cast<std::size_t>(m) * widest);
}

template <class Real>
void FusedFitting<Real>::run_layer(const PlanLayer<Real>& layer, int m, const Real* x, int x_stride, Real* h, Real* slope) {
  const int stride = padded(layer.n_out);
  kernels_.gemm({m, &layer.w, x, x_stride, h, stride, layer.bias.data(), false});
  Activate<Real> activate;
  activate.kind = layer.kind, activate.threshold = layer.threshold;
  activate.m = m, activate.n = layer.n_out;
  activate.x = h, activate.y = h, activate.slope = slope, activate.stride = stride;
  activate.idt = layer.idt.empty() ? nullptr : layer.idt.data();
  if (layer.skip == 1 && !layer.has_skip_matrix) activate.skip = x, activate.skip_stride = x_stride;
  kernels_.activate(activate);
  if (layer.has_skip_matrix) {
    kernels_.gemm({m, &layer.skip_matrix, x, x_stride, h, stride, layer.skip_bias.data(), true});
  } else if (layer.skip == 2) {
    for (int i = 0; i < m; ++i) {
      const Real* from = x + static_cast<std::ptrdiff_t>(i) * x_stride;
      Real* to = h + static_cast<std::ptrdiff_t>(i) * stride;
      for (int c = 0; c < layer.n_in; ++c) to[c] += from[c], to[layer.n_in + c] += from[c];
    }
  }
}

template <class Real>
void FusedFitting<Real>::forward(const CenterPlan<Real>& center, int m, const Real* x, double* energy) {
  make_room(center, m);
  int stride = center.x_stride, n = center.n_x + center.n_extra;
  for (std::size_t l = 0; l < center.layers.size(); ++l) {
    const PlanLayer<Real>& layer = center.layers[l];
    run_layer(layer, m, x, stride, h_[l].data(), slope_[l].data());
    x = h_[l].data();
    n = layer.n_out;
    stride = padded(n);
  }
  kernels_.sum_outputs({m, n, x, center.out.data(), stride, center.shift, energy});
}

// From g_ = dE/dh to dE/dx in g_ for a layer that is not the first.
template <class Real>
void FusedFitting<Real>::run_layer_back(const PlanLayer<Real>& layer, int m, int stride_in) {
  if (layer.skip == 1) {  // the skip's share stands in g_ already
    kernels_.gemm({m, &layer.w_back, g_pre_.data(), padded(layer.n_out), g_.data(), stride_in, nullptr, true});
    return;
  }
  for (int i = 0; layer.skip == 2 && i < m; ++i) {
    const Real* from = g_.data() + static_cast<std::ptrdiff_t>(i) * padded(layer.n_out);
    Real* to = g_in_.data() + static_cast<std::ptrdiff_t>(i) * stride_in;
    for (int c = 0; c < layer.n_in; ++c) to[c] = from[c] + from[layer.n_in + c];
  }
  kernels_.gemm({m, &layer.w_back, g_pre_.data(), padded(layer.n_out), g_in_.data(), stride_in, nullptr, layer.skip == 2});
  g_.swap(g_in_);
}

template <class Real>
void FusedFitting<Real>::backward(const CenterPlan<Real>& center, int m, Real* g_x) {
  const std::vector<PlanLayer<Real>>& layers = center.layers;
  const int n_out = layers.empty() ? center.n_x : padded(layers.back().n_out);
  const int stride_out = layers.empty() ? center.x_stride : n_out;
  Real* g = layers.empty() ? g_x : g_.data();
  for (int i = 0; i < m; ++i) std::copy_n(center.out.data(), n_out, g + static_cast<std::ptrdiff_t>(i) * stride_out);
  for (std::size_t l = layers.size(); l-- > 0;) {
    const PlanLayer<Real>& layer = layers[l];
    kernels_.scale_rows({m, layer.n_out, g_.data(), slope_[l].data(), g_pre_.data(), padded(layer.n_out)});
    if (l > 0) {
      run_layer_back(layer, m, padded(layer.n_in));
      continue;
    }
    kernels_.gemm({m, &layer.w_back, g_pre_.data(), padded(layer.n_out), g_x, center.x_stride, nullptr, false});
    if (layer.has_skip_matrix) {
      kernels_.gemm({m, &layer.skip_back, g_.data(), padded(layer.n_out), g_x, center.x_stride, nullptr, true});
    }
  }
}

template <class Real>
std::size_t FusedFitting<Real>::bytes() const {
  std::size_t n = g_.size() + g_in_.size() + g_pre_.size();
  for (std::size_t l = 0; l < h_.size(); ++l) n += h_[l].size() + slope_[l].size();
  return n * sizeof(Real);
}

template class FusedFitting<float>;
template class FusedFitting<double>;

}  // namespace deepmd
