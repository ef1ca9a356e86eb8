// Small random models and frames.
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
  std::vector<deepmd::RowKind> kinds = {deepmd::RowKind::angular};  // of the descriptors of pairs
  int n_couples = 0;                                                // descriptors of couples, behind the first of pairs
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

inline deepmd::CoupleDescriptor couples(Random& random, const Shape& shape, int number) {
  deepmd::CoupleDescriptor made;
  made.cutoff = {3.4 - 0.3 * number, 1.0, 0.1 * number};
  made.n_types = shape.n_types;
  made.width = shape.embedding.back();
  made.keep.assign(shape.n_types * shape.n_types, 1);
  for (int t = 0; t < shape.n_types; ++t) {
    made.sel.push_back(3 + 2 * t);
    made.std_a.push_back(random.uniform(0.2, 0.3));
  }
  for (int k = 0; k < made.n_kinds(); ++k) made.embedding.push_back(network(random, 1, shape.embedding, shape, false));
  return made;
}

inline deepmd::EnergyTree tree(const Shape& shape, unsigned seed) {
  Random random(seed);
  deepmd::EnergyTree made;
  made.n_types = shape.n_types;
  made.pair_keep.assign(shape.n_types * shape.n_types, 1);
  for (std::size_t d = 0; d < shape.kinds.size() || d == 0; ++d) {
    if (d < shape.kinds.size()) {
      deepmd::PairDescriptor own = descriptor(random, shape, static_cast<int>(d));
      own.first_input = made.n_descriptor_inputs();
      made.descriptors.push_back(own);
    }
    for (int c = 0; d == 0 && c < shape.n_couples; ++c) {
      deepmd::CoupleDescriptor own = couples(random, shape, c);
      own.first_input = made.n_descriptor_inputs();
      made.couples.push_back(own);
    }
  }
  if (shape.n_couples > 0) made.min_pair_distance = 1.2;
  const int n_in = made.n_descriptor_inputs() + shape.dim_fparam + shape.dim_aparam;
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

}  // namespace small
