#include "model/dense_network.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/variants.hpp"

namespace deepmd {

template <class Real>
struct DenseProduct {
  int n, n_in, n_out;
  const Real* x;  // [n][n_in]
  const Real* w;  // [n_in][n_out]
  const Real* b;  // [n_out] or null
  Real* z;        // [n][n_out]
};

// z = x w + b; the compiler makes vectors of the inner loop.
template <class Width, class Real>
DEEPMD_INLINE void dense_product_body(const DenseProduct<Real>& p) {
  for (int i = 0; i < p.n; ++i) {
    Real* __restrict row = p.z + static_cast<std::ptrdiff_t>(i) * p.n_out;
    for (int o = 0; o < p.n_out; ++o) row[o] = p.b ? p.b[o] : Real(0);
    for (int k = 0; k < p.n_in; ++k) {
      const Real factor = p.x[static_cast<std::ptrdiff_t>(i) * p.n_in + k];
      const Real* __restrict weights = p.w + static_cast<std::ptrdiff_t>(k) * p.n_out;
      for (int o = 0; o < p.n_out; ++o) row[o] += factor * weights[o];
    }
  }
}

DEEPMD_VARIANTS(dense_product, DenseProduct)

namespace {

constexpr int kPoints = 32;  // per block: the values of the widest layer stay in the cache

// f(x) and its first two derivatives.
struct Jet {
  double f, f1, f2;
};

Jet tanh_jet(double x) {
  const double t = std::tanh(x), slope = 1.0 - t * t;
  return {t, slope, -2.0 * t * slope};
}

Jet sigmoid_jet(double x) {
  const double s = 1.0 / (1.0 + std::exp(-x)), slope = s * (1.0 - s);
  return {s, slope, slope * (1.0 - 2.0 * s)};
}

Jet silu_jet(double x) {
  const Jet s = sigmoid_jet(x);
  return {x * s.f, s.f + x * s.f1, 2.0 * s.f1 + x * s.f2};
}

// Above this argument softplus is the identity to the last digit, as in torch.
constexpr double kLargeSoftplus = 20.0;

Jet softplus_jet(double x) {
  if (x > kLargeSoftplus) return {x, 1.0, 0.0};
  const Jet s = sigmoid_jet(x);
  return {std::log1p(std::exp(x)), s.f, s.f1};
}

// x/2 (1 + tanh(q)), q = sqrt(2/pi) (x + 0.044715 x^3)
Jet gelu_jet(double x) {
  constexpr double kScale = 0.7978845608028653559, kCubic = 0.044715;
  const double q1 = kScale * (1.0 + 3.0 * kCubic * x * x), q2 = kScale * 6.0 * kCubic * x;
  const Jet t = tanh_jet(kScale * (x + kCubic * x * x * x));
  const double t1 = t.f1 * q1, t2 = t.f2 * q1 * q1 + t.f1 * q2;
  return {0.5 * x * (1.0 + t.f), 0.5 * (1.0 + t.f) + 0.5 * x * t1, t1 + 0.5 * x * t2};
}

// silu below the threshold a; above it a tanh that goes on with the same value and slope.
Jet silut_jet(double x, double a) {
  if (x < a) return silu_jet(x);
  const Jet at = silu_jet(a);
  const Jet t = tanh_jet(at.f1 * (x - a));
  return {t.f + at.f, t.f1 * at.f1, t.f2 * at.f1 * at.f1};
}

Jet activation_jet(const DenseLayer& layer, double x) {
  switch (layer.activation) {
    case Activation::tanh: return tanh_jet(x);
    case Activation::none: return {x, 1.0, 0.0};
    case Activation::relu: return {x > 0.0 ? x : 0.0, x > 0.0 ? 1.0 : 0.0, 0.0};
    case Activation::relu6: return {std::min(std::max(x, 0.0), 6.0), x > 0.0 && x < 6.0 ? 1.0 : 0.0, 0.0};
    case Activation::softplus: return softplus_jet(x);
    case Activation::sigmoid: return sigmoid_jet(x);
    case Activation::silu: return silu_jet(x);
    case Activation::gelu: return gelu_jet(x);
    case Activation::silut: return silut_jet(x, layer.threshold);
  }
  return {};
}

// Values of a block of points after some layer, and their derivatives by the network's input.
struct Block {
  std::vector<double> v[3];  // value, first, second derivative [n][width]

  void resize(std::size_t size) {
    for (auto& values : v) {
      if (values.size() < size) values.resize(size);
    }
  }
};

// `orders`: 1 for values only, 3 with both derivatives.
void apply_layer(const DenseLayer& layer, int n, int orders, const Block& in, Block& out) {
  const int n_in = layer.n_in, n_out = layer.n_out;
  out.resize(static_cast<std::size_t>(n) * static_cast<std::size_t>(n_out));
  static const auto multiply = choose_dense_product<double>(best_isa());
  for (int d = 0; d < orders; ++d) {
    multiply({n, n_in, n_out, in.v[d].data(), layer.w.data(), d == 0 ? layer.b.data() : nullptr, out.v[d].data()});
  }
  for (int p = 0; p < n; ++p) {
    for (int o = 0; o < n_out; ++o) {
      const auto k = static_cast<std::size_t>(p) * static_cast<std::size_t>(n_out) + static_cast<std::size_t>(o);
      const Jet jet = activation_jet(layer, out.v[0][k]);
      const double step = layer.idt.empty() ? 1.0 : layer.idt[static_cast<std::size_t>(o)];
      const double slope = out.v[1].empty() || orders == 1 ? 0.0 : out.v[1][k];
      if (orders == 3) out.v[2][k] = step * (jet.f2 * slope * slope + jet.f1 * out.v[2][k]);
      if (orders == 3) out.v[1][k] = step * jet.f1 * slope;
      out.v[0][k] = step * jet.f;
      if (layer.skip == 0) continue;
      const auto from = static_cast<std::size_t>(p) * static_cast<std::size_t>(n_in) + static_cast<std::size_t>(o % n_in);
      for (int d = 0; d < orders; ++d) out.v[d][k] += in.v[d][from];
    }
  }
}

void copy_out(const std::vector<double>& from, std::size_t n, double* to) {
  if (to) std::copy_n(from.begin(), n, to);
}

}  // namespace

void evaluate_curve(const DenseNetwork& network, int n, const double* e, double* g, double* g1, double* g2) {
  thread_local Block in, out;  // grow once
  const auto width = static_cast<std::size_t>(network.n_out());
  const int orders = g1 || g2 ? 3 : 1;
  for (int begin = 0; begin < n; begin += kPoints) {
    const int count = std::min(kPoints, n - begin);
    in.resize(static_cast<std::size_t>(count));
    std::copy_n(e + begin, count, in.v[0].begin());
    std::fill_n(in.v[1].begin(), count, 1.0);
    std::fill_n(in.v[2].begin(), count, 0.0);
    for (const DenseLayer& layer : network.layers) {
      apply_layer(layer, count, orders, in, out);
      std::swap(in, out);
    }
    const std::size_t at = static_cast<std::size_t>(begin) * width, size = static_cast<std::size_t>(count) * width;
    copy_out(in.v[0], size, g ? g + at : nullptr);
    copy_out(in.v[1], size, g1 ? g1 + at : nullptr);
    copy_out(in.v[2], size, g2 ? g2 + at : nullptr);
  }
}

std::vector<double> evaluate_network(const DenseNetwork& network, const std::vector<double>& x) {
  Block in, out;
  in.v[0] = x;
  for (const DenseLayer& layer : network.layers) {
    apply_layer(layer, 1, 1, in, out);
    std::swap(in, out);
  }
  in.v[0].resize(static_cast<std::size_t>(network.n_out()));
  return in.v[0];
}

}  // namespace deepmd
