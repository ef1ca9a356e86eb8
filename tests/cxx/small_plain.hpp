// The plain evaluation of a model: one centre, one neighbour, one number at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/pair_math.hpp"
#include "model/energy_tree.hpp"
#include "model/frame.hpp"

namespace small {

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

inline void pair_vector(const deepmd::Frame& frame, int i, std::int64_t k, double* r) {
  const int j = frame.list.index[k];
  for (int a = 0; a < 3; ++a) {
    r[a] = frame.positions[3 * j + a] - frame.positions[3 * i + a];
    for (int b = 0; frame.list.shift && frame.cell && b < 3; ++b) r[a] += frame.list.shift[3 * k + b] * frame.cell[3 * b + a];
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
    pair_vector(frame, i, k, r);
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

// The numbers of a descriptor of couples, by all ordered couples of neighbours.
inline std::vector<double> plain_couples(const deepmd::EnergyTree& tree, const deepmd::CoupleDescriptor& d, const deepmd::Frame& frame, int i) {
  struct Row { int type; double r[3]; };
  std::vector<Row> rows;
  const int t_i = frame.types[i];
  for (std::int64_t k = frame.list.first[i]; k < frame.list.first[i + 1]; ++k) {
    Row row{frame.types[frame.list.index[k]], {}};
    pair_vector(frame, i, k, row.r);
    const double distance = std::sqrt(row.r[0] * row.r[0] + row.r[1] * row.r[1] + row.r[2] * row.r[2]);
    const int pair = t_i * tree.n_types + row.type;
    if (distance >= d.cutoff.rcut || !tree.pair_keep[pair] || !d.keep[pair]) continue;
    const double angular = deepmd::raw_row(distance, d.cutoff).angular / d.std_a[t_i];
    for (double& x : row.r) x *= angular;
    rows.push_back(row);
  }
  std::vector<double> sums(d.width, 0.0);
  for (const Row& j : rows) {
    for (const Row& k : rows) {
      if (j.type > k.type) continue;
      const double theta = j.r[0] * k.r[0] + j.r[1] * k.r[1] + j.r[2] * k.r[2];
      const std::vector<double> g = run(d.embedding[d.kind_of(j.type, k.type)], {theta});
      for (int m = 0; m < d.width; ++m) sums[m] += d.scale(j.type, k.type) * theta * g[m];
    }
  }
  return sums;
}

inline double plain_energy(const deepmd::EnergyTree& tree, const deepmd::Frame& frame, int i) {
  const int type = frame.types[i];
  std::vector<double> x;  // descriptors of pairs up to the first one, those of couples, the other ones
  const auto add_couples = [&] {
    for (const deepmd::CoupleDescriptor& d : tree.couples) {
      const std::vector<double> own = plain_couples(tree, d, frame, i);
      x.insert(x.end(), own.begin(), own.end());
    }
  };
  if (tree.descriptors.empty()) add_couples();
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
    if (&d == &tree.descriptors[0]) add_couples();
  }
  for (int c = 0; c < tree.dim_fparam; ++c) x.push_back((frame.fparam[c] - tree.fparam_avg[c]) * tree.fparam_inv_std[c]);
  for (int c = 0; c < tree.dim_aparam; ++c) x.push_back((frame.aparam[i * tree.dim_aparam + c] - tree.aparam_avg[c]) * tree.aparam_inv_std[c]);
  return tree.energy_scale[type] * run(tree.fitting[type], x)[0] + tree.energy_shift[type];
}

}  // namespace small
