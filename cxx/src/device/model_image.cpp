#include "device/model_image.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace deepmd::device {
namespace {

constexpr std::size_t kMostTableNumbers = std::size_t{1} << 31;  // offsets in a table are ints

// Appends and says where.
template <class Real, class Values>
std::int64_t append(ModelImage<Real>& image, const Values& values, std::size_t n) {
  const auto at = static_cast<std::int64_t>(image.numbers.size());
  image.numbers.insert(image.numbers.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n));
  return at;
}

template <class Real>
std::int64_t append(ModelImage<Real>& image, const PackedMatrix<Real>& packed) {
  const std::vector<Real> plain = unpack(packed);
  return append(image, plain, plain.size());
}

template <class Real>
LayerShape add_layer(ModelImage<Real>& image, const PlanLayer<Real>& layer) {
  LayerShape shape;
  shape.n_in = layer.w.k, shape.n_out = layer.n_out, shape.n_back = layer.w_back.n;
  shape.kind = layer.kind, shape.threshold = layer.threshold;
  shape.skip = layer.has_skip_matrix ? 0 : layer.skip;
  shape.has_skip_matrix = layer.has_skip_matrix;
  shape.has_idt = !layer.idt.empty();
  shape.w = append(image, layer.w);
  shape.w_back = append(image, layer.w_back);
  shape.bias = append(image, layer.bias, static_cast<std::size_t>(layer.n_out));
  if (shape.has_idt) shape.idt = append(image, layer.idt, static_cast<std::size_t>(layer.n_out));
  if (layer.has_skip_matrix) {
    shape.skip_matrix = append(image, layer.skip_matrix);
    shape.skip_back = append(image, layer.skip_back);
  }
  image.h_stride = std::max(image.h_stride, padded(layer.n_out));
  return shape;
}

template <class Real>
void add_center(ModelImage<Real>& image, const CenterPlan<Real>& plan) {
  const DescriptorPlan<Real>& descriptor = plan.descriptors[0];
  CenterShape shape;
  shape.davg = descriptor.davg, shape.inverse_std_r = descriptor.inverse_std_r, shape.inverse_std_a = descriptor.inverse_std_a;
  shape.shift = plan.shift;
  shape.n_sums = descriptor.n_sums, shape.n = descriptor.n, shape.axis = descriptor.axis;
  shape.n_x = plan.n_x, shape.n_extra = plan.n_extra;
  shape.has_map = descriptor.has_map;
  if (descriptor.has_map) {
    shape.map = append(image, descriptor.map);
    shape.map_back = append(image, descriptor.map_back);
  }
  shape.out = append(image, plan.out, plan.out.size());
  std::vector<LayerShape> layers;
  for (const PlanLayer<Real>& layer : plan.layers) layers.push_back(add_layer(image, layer));
  shape.n_layers = static_cast<int>(layers.size());
  image.most_layers = std::max(image.most_layers, shape.n_layers);
  image.sums_stride = std::max(image.sums_stride, descriptor.sums_stride);
  image.t_stride = std::max(image.t_stride, descriptor.t_stride);
  image.x_stride = std::max(image.x_stride, padded(plan.n_x + plan.n_extra));
  image.centers.push_back(shape);
  image.layers.push_back(std::move(layers));
}

}  // namespace

template <class Real>
ModelImage<Real> make_image(const FusedPlan<Real>& plan) {
  const EnergyTree& tree = plan.tree;
  if (!tree.couples.empty()) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, "has the descriptor se_e3, and se_e2_a is the only one with kernels for a GPU");
  }
  const PairDescriptor& descriptor = tree.descriptors[0];
  if (tree.descriptors.size() != 1 || descriptor.kind != RowKind::angular || descriptor.joint_slots || descriptor.n_constants() > 0) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, "has another descriptor than se_e2_a, the only one with kernels for a GPU");
  }
  ModelImage<Real> image;
  image.cutoff = descriptor.cutoff;
  image.n_types = tree.n_types, image.dim_fparam = tree.dim_fparam, image.dim_aparam = tree.dim_aparam;
  image.fparam_avg = tree.fparam_avg, image.fparam_inv_std = tree.fparam_inv_std;
  image.aparam_avg = tree.aparam_avg, image.aparam_inv_std = tree.aparam_inv_std;
  std::vector<std::int64_t> first;
  for (const PlanTable<Real>& table : plan.tables) {
    if (table.c.size() >= kMostTableNumbers) {
      throw Error(DEEPMD_ERROR_UNSUPPORTED, text("needs a table of ", table.c.size(), " numbers, expected less than ",
                                                 kMostTableNumbers, " on a GPU; compress the model"));
    }
    first.push_back(append(image, table.c, table.c.size()));
    image.widest_table = std::max(image.widest_table, table.width);
  }
  image.n_table_numbers = static_cast<std::int64_t>(image.numbers.size());
  for (const CenterPlan<Real>& center : plan.centers) {
    for (const NeighborPlan<Real>& neighbor : center.descriptors[0].neighbors) {
      const PlanTable<Real>& table = plan.tables[neighbor.network];
      const std::size_t pair = image.neighbors.size();
      NeighborShape shape;
      shape.lo = table.lo, shape.inverse_step = table.inverse_step, shape.last = table.last;
      shape.sel = neighbor.sel;
      shape.table = first[neighbor.network];
      shape.phantom = append(image, neighbor.phantom, neighbor.phantom.size());
      shape.width = table.width, shape.column = neighbor.column;
      shape.exists = tree.pair_keep[pair], shape.is_kept = descriptor.keep[pair];
      image.neighbors.push_back(shape);
    }
  }
  for (const CenterPlan<Real>& center : plan.centers) add_center(image, center);
  return image;
}

template ModelImage<float> make_image(const FusedPlan<float>&);
template ModelImage<double> make_image(const FusedPlan<double>&);

}  // namespace deepmd::device
