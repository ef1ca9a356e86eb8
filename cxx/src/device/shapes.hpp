// A model as bodies read it: numbers of one precision in one array, and structures that say where in it things begin.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/activation_kind.hpp"
#include "kernels/pair_math.hpp"

namespace deepmd::device {

// What centres of one type need to know about neighbours of one type.
struct NeighborShape {
  double lo = 0, inverse_step = 1, last = 0;  // of the table, as in PlanTable
  double sel = 0;
  std::int64_t table = 0, phantom = 0;  // in the model's numbers
  int width = 0;                        // channels of the table
  int column = 0;                       // of the sums
  int exists = 1, is_kept = 1;          // as in PairRules
};

struct CenterShape {
  double davg = 0, inverse_std_r = 1, inverse_std_a = 1;
  double shift = 0;  // eV
  std::int64_t map = 0, map_back = 0, out = 0;
  int n_sums = 0, n = 0, axis = 0, n_x = 0, n_extra = 0, n_layers = 0;
  int has_map = 0;
};

struct LayerShape {
  double threshold = 3.0;
  std::int64_t w = 0, w_back = 0;  // [n_in][n_out]; [n_out][n_back]
  std::int64_t bias = 0, idt = 0, skip_matrix = 0, skip_back = 0;
  int n_in = 0, n_out = 0, n_back = 0;  // n_back: inputs that depend on positions
  int skip = 0, has_idt = 0, has_skip_matrix = 0;
  Activation kind = Activation::tanh;
};

// On the host; the arrays are copied to the device as they are.
template <class Real>
struct ModelImage {
  Cutoff cutoff{};
  int n_types = 0, dim_fparam = 0, dim_aparam = 0;
  std::vector<double> fparam_avg, fparam_inv_std, aparam_avg, aparam_inv_std;
  std::vector<CenterShape> centers;             // [n_types]
  std::vector<NeighborShape> neighbors;         // [n_types][n_types] (centre, neighbour)
  std::vector<std::vector<LayerShape>> layers;  // [n_types][n_layers] the hidden ones
  std::vector<Real> numbers;                    // tables first
  std::int64_t n_table_numbers = 0;
  // The same for all types, so that work arrays have one shape: multiples of 16 numbers.
  int sums_stride = 0, t_stride = 0, x_stride = 0, h_stride = 0;
  int widest_table = 0, most_layers = 0;

  // The polynomials' offset in an interval is an int.
  std::int64_t bytes() const { return static_cast<std::int64_t>(numbers.size() * sizeof(Real)); }
};

// What a call found; set to 1 by whichever thread finds it.
struct FrameStatus {
  int is_too_close = 0;  // a pair closer than kClosestPair
  int is_outside = 0;    // a pair outside its table
};

}  // namespace deepmd::device
