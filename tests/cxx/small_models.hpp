// Small random models and frames, and the plain evaluation of a model: one centre, one neighbour, one number at a time.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "kernels/pair_math.hpp"
#include "model/energy_tree.hpp"
#include "model/frame.hpp"
#include "neighbors/neighbors.hpp"

namespace small {

struct Shape {
  int n_types = 2;
  bool one_side = true;
  std::vector<int> embedding = {4, 8};
  int axis = 3;
  std::vector<int> fitting = {10, 10};
  bool has_time_step = false;
  int dim_fparam = 0, dim_aparam = 0;
  deepmd::Activation activation = deepmd::Activation::tanh;  // of the fitting
  std::vector<deepmd::RowKind> kinds = {deepmd::RowKind::angular};  // of the descriptors
  bool joint_slots = false;
  int n_constants = 0;  // behind each descriptor
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  double normal(double width) { return std::normal_distribution<double>(0.0, width)(engine_); }
  double uniform(double lo, double hi) { return std::uniform_real_distribution<double>(lo, hi)(engine_); }
  std::vector<double> normals(std::size_t n, double width) {
    std::vector<double> values(n);
    for (double& x : values) x = normal(width);
    return values;
  }

 private:
  std::mt19937 engine_;
};

inline deepmd::DenseLayer layer(Random& random, int n_in, int n_out, deepmd::Activation activation, bool has_time_step) {
  deepmd::DenseLayer made;
  made.n_in = n_in, made.n_out = n_out;
  made.activation = activation;
  made.skip = activation != deepmd::Activation::none && n_out % n_in == 0 && n_out / n_in <= 2 ? n_out / n_in : 0;
  made.w = random.normals(static_cast<std::size_t>(n_in) * n_out, 1.0 / std::sqrt(n_in + n_out));
  made.b = random.normals(n_out, 0.5);
  if (has_time_step && made.skip) {
    for (int i = 0; i < n_out; ++i) made.idt.push_back(random.uniform(0.05, 0.2));
  }
  return made;
}

inline deepmd::DenseNetwork network(Random& random, int n_in, const std::vector<int>& widths, const Shape& shape, bool ends_linear) {
  deepmd::DenseNetwork made;
  for (int width : widths) {
    made.layers.push_back(layer(random, n_in, width, ends_linear ? shape.activation : deepmd::Activation::tanh, shape.has_time_step));
    n_in = width;
  }
  if (ends_linear) made.layers.push_back(layer(random, n_in, 1, deepmd::Activation::none, false));
  return made;
}

// Descriptors after the first one have shorter cutoffs and statistics of their own.
inline deepmd::PairDescriptor descriptor(Random& random, const Shape& shape, int number) {
  deepmd::PairDescriptor made;
  made.kind = shape.kinds[number];
  made.cutoff = {4.0 - 0.7 * number, 1.0, 0.0};
  made.n_types = shape.n_types;
  made.axis = shape.axis;
  made.width = shape.embedding.back();
  made.one_side = shape.one_side && made.kind != deepmd::RowKind::by_inverse;
  made.joint_slots = shape.joint_slots;
  made.keep.assign(shape.n_types * shape.n_types, 1);
  for (int t = 0; t < shape.n_types; ++t) {
    made.sel.push_back(6 + 3 * t);
    made.davg_r.push_back(random.uniform(0.05, 0.1));
    made.std_r.push_back(random.uniform(0.1, 0.2));
    made.std_a.push_back(random.uniform(0.1, 0.2));
    if (shape.n_constants > 0) made.constants.push_back(random.normals(shape.n_constants, 1.0));
  }
  for (int k = 0; k < made.n_networks(); ++k) made.embedding.push_back(network(random, 1, shape.embedding, shape, false));
  if (made.kind == deepmd::RowKind::by_inverse) {
    for (int k = 0; k < made.n_networks(); ++k) made.factors.push_back(random.normals(made.width, 0.7));
  }
  return made;
}

inline deepmd::EnergyTree tree(const Shape& shape, unsigned seed) {
  Random random(seed);
  deepmd::EnergyTree made;
  made.n_types = shape.n_types;
  made.pair_keep.assign(shape.n_types * shape.n_types, 1);
  int n_in = shape.dim_fparam + shape.dim_aparam;
  for (std::size_t d = 0; d < shape.kinds.size(); ++d) {
    made.descriptors.push_back(descriptor(random, shape, static_cast<int>(d)));
    n_in += made.descriptors.back().n_out() + made.descriptors.back().n_constants();
  }
  for (int t = 0; t < shape.n_types; ++t) {
    made.energy_shift.push_back(random.normal(3.0));
    made.energy_scale.push_back(random.uniform(0.5, 2.0));
    made.fitting.push_back(network(random, n_in, shape.fitting, shape, true));
  }
  made.dim_fparam = shape.dim_fparam, made.dim_aparam = shape.dim_aparam;
  made.fparam_avg = random.normals(shape.dim_fparam, 1.0), made.aparam_avg = random.normals(shape.dim_aparam, 1.0);
  made.fparam_inv_std.assign(shape.dim_fparam, 1.5), made.aparam_inv_std.assign(shape.dim_aparam, 0.7);
  return made;
}

// Atoms at random in a cube with periodic boundaries, none closer than `closest`, with their list.
struct Box {
  Box(int n, double edge, const deepmd::EnergyTree& model, unsigned seed, double closest = 1.2)
      : cell{edge, 0, 0, 0.1 * edge, edge, 0, 0, 0.2 * edge, edge}, neighbors(model.rcut(), 1.0) {
    Random random(seed);
    while (static_cast<int>(types.size()) < n) {
      double r[3];
      for (double& x : r) x = random.uniform(0.0, edge);
      if (!is_free(r, closest)) continue;
      positions.insert(positions.end(), r, r + 3);
      types.push_back(static_cast<int>(random.uniform(0.0, model.n_types)));
    }
    fparam = random.normals(model.dim_fparam, 1.0);
    aparam = random.normals(static_cast<std::size_t>(n) * model.dim_aparam, 1.0);
    update();
  }
  Box(const Box&) = delete;

  void update() {
    neighbors.update(static_cast<int>(types.size()), positions.data(), cell, nullptr);
    frame.n_local = static_cast<int>(types.size());
    frame.positions = positions.data();
    frame.types = types.data();
    frame.cell = cell;
    frame.list = deepmd::ListView(neighbors.list());
    frame.fparam = fparam.empty() ? nullptr : fparam.data();
    frame.aparam = aparam.empty() ? nullptr : aparam.data();
  }

  bool is_free(const double* r, double closest) const {
    const double edge = cell[0];
    for (std::size_t j = 0; j < types.size(); ++j) {
      for (int sz = -1; sz <= 1; ++sz) {
        for (int sy = -1; sy <= 1; ++sy) {
          for (int sx = -1; sx <= 1; ++sx) {
            const double x = positions[3 * j] + sx * edge + sy * cell[3] - r[0];
            const double y = positions[3 * j + 1] + sy * edge + sz * cell[7] - r[1], z = positions[3 * j + 2] + sz * edge - r[2];
            if (x * x + y * y + z * z < closest * closest) return false;
          }
        }
      }
    }
    return true;
  }

  double cell[9];
  std::vector<double> positions;
  std::vector<int> types;
  std::vector<double> fparam, aparam;
  deepmd::Neighbors neighbors;
  deepmd::Frame frame;
};

inline double activate(const deepmd::DenseLayer& layer, double x) {
  using deepmd::Activation;
  const double sigmoid = 1.0 / (1.0 + std::exp(-x));
  switch (layer.activation) {
    case Activation::tanh: return std::tanh(x);
    case Activation::none: return x;
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::relu6: return x > 6 ? 6 : x > 0 ? x : 0;
    case Activation::softplus: return std::log(1.0 + std::exp(x));
    case Activation::sigmoid: return sigmoid;
    case Activation::silu: return x * sigmoid;
    case Activation::gelu: return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::silut: break;
  }
  const double s = 1.0 / (1.0 + std::exp(-layer.threshold)), slope = s + layer.threshold * s * (1.0 - s);
  return x < layer.threshold ? x * sigmoid : std::tanh(slope * (x - layer.threshold)) + layer.threshold * s;
}

inline std::vector<double> run(const deepmd::DenseNetwork& network, std::vector<double> x) {
  for (const deepmd::DenseLayer& layer : network.layers) {
    std::vector<double> y(layer.n_out);
    for (int o = 0; o < layer.n_out; ++o) {
      double sum = layer.b[o];
      for (int i = 0; i < layer.n_in; ++i) sum += x[i] * layer.w[static_cast<std::size_t>(i) * layer.n_out + o];
      y[o] = activate(layer, sum) * (layer.idt.empty() ? 1.0 : layer.idt[o]);
      if (layer.skip) y[o] += x[o % layer.n_in];
    }
    x = y;
  }
  return x;
}

// What one neighbour, or an empty slot where r is the cutoff, adds to the sums [4][width] of a descriptor.
inline void add_neighbor(const deepmd::PairDescriptor& d, int t_i, int t_j, const double* row, double r, double times,
                         std::vector<double>& sums) {
  const int k = d.network_of(t_i, t_j);
  double w, slope;
  deepmd::switch_function(r, d.cutoff, w, slope);
  std::vector<double> g = run(d.embedding[k], {row[0]});
  for (int m = 0; m < d.width; ++m) {
    if (d.kind == deepmd::RowKind::by_inverse) g[m] *= 1.0 + d.factors[k][m] * w;
    if (d.kind == deepmd::RowKind::radial) {
      sums[m] += times * g[m];
      continue;
    }
    for (int b = 0; b < 4; ++b) sums[static_cast<std::size_t>(b) * d.width + m] += times * row[b] * g[m];
  }
}

// Undivided sums of one centre: neighbours on the list, then empty slots.
inline std::vector<double> plain_sums(const deepmd::EnergyTree& tree, const deepmd::PairDescriptor& d, const deepmd::Frame& frame, int i) {
  std::vector<double> sums(4 * static_cast<std::size_t>(d.width), 0.0), n_empty(d.sel.begin(), d.sel.end());
  const int t_i = frame.types[i];
  const double zero[4] = {}, empty[4] = {d.empty_row(t_i), 0, 0, 0};
  for (std::int64_t k = frame.list.first[i]; k < frame.list.first[i + 1]; ++k) {
    const int j = frame.list.index[k], t_j = frame.types[j];
    double r[3];
    for (int a = 0; a < 3; ++a) {
      r[a] = frame.positions[3 * j + a] - frame.positions[3 * i + a];
      for (int b = 0; frame.list.shift && frame.cell && b < 3; ++b) r[a] += frame.list.shift[3 * k + b] * frame.cell[3 * b + a];
    }
    const double distance = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    if (distance >= d.cutoff.rcut || !tree.pair_keep[t_i * tree.n_types + t_j]) continue;
    n_empty[t_j] -= 1;
    if (!d.keep[t_i * tree.n_types + t_j]) {
      add_neighbor(d, t_i, t_j, zero, distance, 1, sums);
      continue;
    }
    const deepmd::RawRow raw = deepmd::raw_row(distance, d.cutoff);
    const double row[4] = {(raw.s - d.davg_r[t_i]) / d.std_r[t_i], raw.angular * r[0] / d.std_a[t_i],
                           raw.angular * r[1] / d.std_a[t_i], raw.angular * r[2] / d.std_a[t_i]};
    add_neighbor(d, t_i, t_j, row, distance, 1, sums);
  }
  for (int t = 0; t < tree.n_types; ++t) add_neighbor(d, t_i, d.joint_slots ? 0 : t, empty, d.cutoff.rcut, n_empty[t], sums);
  return sums;
}

inline double plain_energy(const deepmd::EnergyTree& tree, const deepmd::Frame& frame, int i) {
  const int type = frame.types[i];
  std::vector<double> x;
  for (const deepmd::PairDescriptor& d : tree.descriptors) {
    const std::vector<double> t = plain_sums(tree, d, frame, i);
    double n_slots = 0;
    for (int sel : d.sel) n_slots += sel;
    for (int m = 0; m < d.width; ++m) {
      if (d.kind == deepmd::RowKind::radial) {
        x.push_back(t[m] / n_slots / 5.0);
        continue;
      }
      for (int a = 0; a < d.axis; ++a) {
        double sum = 0;
        for (int b = 0; b < 4; ++b) sum += t[static_cast<std::size_t>(b) * d.width + m] * t[static_cast<std::size_t>(b) * d.width + a];
        x.push_back(sum / (n_slots * n_slots));
      }
    }
    if (d.n_constants() > 0) x.insert(x.end(), d.constants[type].begin(), d.constants[type].end());
  }
  for (int c = 0; c < tree.dim_fparam; ++c) x.push_back((frame.fparam[c] - tree.fparam_avg[c]) * tree.fparam_inv_std[c]);
  for (int c = 0; c < tree.dim_aparam; ++c) x.push_back((frame.aparam[i * tree.dim_aparam + c] - tree.aparam_avg[c]) * tree.aparam_inv_std[c]);
  return tree.energy_scale[type] * run(tree.fitting[type], x)[0] + tree.energy_shift[type];
}

}  // namespace small
