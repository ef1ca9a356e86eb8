#pragma once

#include <vector>

#include "core/aligned_vector.hpp"
#include "kernels/activation.hpp"
#include "kernels/contraction.hpp"
#include "kernels/couples.hpp"
#include "kernels/environment.hpp"
#include "kernels/filter.hpp"
#include "kernels/gemm.hpp"
#include "kernels/products.hpp"
#include "model/energy_tree.hpp"
#include "model/fused_pairs.hpp"
#include "model/fused_tables.hpp"

namespace deepmd {

// The kernels of one instruction set.
template <class Real>
struct Kernels {
  explicit Kernels(Isa chosen)
      : isa(chosen),
        lanes(vector_bytes(chosen) / static_cast<int>(sizeof(Real))),
        filter(choose_filter(chosen)),
        gemm(choose_gemm<Real>(chosen)),
        make_rows(choose_make_rows<Real>(chosen)),
        chain_rule(choose_chain_rule<Real>(chosen)),
        contract(choose_contract<Real>(chosen)),
        project(choose_project<Real>(chosen)),
        products(choose_products<Real>(chosen)),
        products_backward(choose_products_backward<Real>(chosen)),
        activate(choose_activate<Real>(chosen)),
        scale_rows(choose_scale_rows<Real>(chosen)),
        sum_outputs(choose_sum_outputs<Real>(chosen)),
        couple_rows(choose_make_rows<double>(chosen)),
        couple_chain(choose_chain_rule<double>(chosen)),
        sum_couples(choose_sum_couples<Real>(chosen)),
        spend_moments(choose_spend_moments<Real>(chosen)),
        slope_polynomials(choose_slope_polynomials<Real>(chosen)),
        push_couples(choose_push_couples<Real>(chosen)) {}

  Isa isa;
  int lanes;
  FilterKernel filter;
  Kernel<Gemm<Real>> gemm;
  Kernel<MakeRows<Real>> make_rows;
  Kernel<ChainRule<Real>> chain_rule;
  Kernel<Contract<Real>> contract;
  Kernel<Project<Real>> project;
  Kernel<Products<Real>> products;
  Kernel<ProductsBackward<Real>> products_backward;
  Kernel<Activate<Real>> activate;
  Kernel<ScaleRows<Real>> scale_rows;
  Kernel<SumOutputs<Real>> sum_outputs;
  Kernel<MakeRows<double>> couple_rows;  // products of rows are geometry, in float64 always
  Kernel<ChainRule<double>> couple_chain;
  Kernel<SumCouples<Real>> sum_couples;
  Kernel<SpendMoments<Real>> spend_moments;
  Kernel<SlopePolynomials<Real>> slope_polynomials;
  Kernel<PushCouples<Real>> push_couples;
};

// A table as the contraction reads it.
template <class Real>
struct PlanTable {
  double lo = 0, inverse_step = 1, last = 0;
  int channels = 0, width = 0;  // width: channels filled up to whole vectors
  aligned_vector<Real> c;       // [n_intervals][6][width]
};

// What centres of one type need to know about neighbours of one type.
template <class Real>
struct NeighborPlan {
  int network = 0;
  int column = 0;  // where its channels begin in the sums
  double sel = 0;
  int phantom_column = 0;
  aligned_vector<Real> phantom;  // [width] what an empty slot adds to the radial sums from phantom_column on
  aligned_vector<Real> blank;    // [width] what an excluded neighbour adds there, or empty: nothing
};

template <class Real>
struct PlanLayer {
  int n_in = 0, n_out = 0;
  Activation kind = Activation::tanh;
  double threshold = 3.0;
  int skip = 0;
  PackedMatrix<Real> w, w_back;     // w_back: transposed, only the inputs that depend on positions
  aligned_vector<Real> bias, idt;   // [padded(n_out)], idt may be empty
  bool has_skip_matrix = false;     // the first layer's inputs are not those of the model: its skip is a product too
  PackedMatrix<Real> skip_matrix, skip_back;
  aligned_vector<Real> skip_bias;   // [padded(n_out)] what the skip takes from constants
};

// One descriptor for centres of one type. The sums over neighbours C [rows][n_sums] become T = C map (T = C if there is
// no map) [rows][n]; products of the first `axis` columns of T with all of them are inputs of the layers. A radial
// descriptor has one row, whose columns are inputs themselves.
template <class Real>
struct DescriptorPlan {
  RowKind kind = RowKind::angular;
  Cutoff cutoff{};
  double davg = 0, inverse_std_r = 1, inverse_std_a = 1;
  std::vector<NeighborPlan<Real>> neighbors;  // [n_types]
  int n_rows = 4;
  int n_sums = 0, sums_stride = 0;
  bool has_map = false;
  PackedMatrix<Real> map, map_back;
  int n = 0, axis = 0, t_stride = 0;
  int first_x = 0, n_x = 0;  // its inputs
};

// Couples of neighbours of types a <= b.
template <class Real>
struct CoupleKind {
  int a = 0, b = 0;
  double scale = 0;  // 1/(sel_a sel_b), contained in c; 0: such couples do not count
  CoupleGrid grid;
  int n_intervals = 0, width = 0;
  aligned_vector<Real> c;  // [n_intervals][6][width]
};

// One descriptor of couples, for centres of all types. Its sums are inputs of the layers.
template <class Real>
struct CouplePlan {
  int rules = 0;
  int width = 0;
  int most_intervals = 0;
  std::vector<CoupleKind<Real>> kinds;
};

// All that belongs to centres of one type.
template <class Real>
struct CenterPlan {
  std::vector<DescriptorPlan<Real>> descriptors;
  std::vector<int> couple_x;               // first input of each descriptor of couples, which follow those of pairs
  int n_x = 0, n_extra = 0, x_stride = 0;  // inputs from descriptors, parameters of frame and atom
  std::vector<PlanLayer<Real>> layers;     // the hidden ones
  aligned_vector<Real> out;                // weights of the output, times the scale of the energy
  double shift = 0;                        // eV; the output's bias included
};

template <class Real>
struct FusedPlan {
  FusedPlan(EnergyTree tree, PairBasis basis, Isa isa);

  EnergyTree tree;
  PairBasis basis;  // its tables are moved into `tables`
  Kernels<Real> kernels;
  std::vector<PairRules> rules;            // all different
  std::vector<int> rules_of;               // per descriptor of pairs: which ones
  std::vector<CouplePlan<Real>> couples;
  std::vector<PlanTable<Real>> tables;     // per network
  std::vector<CenterPlan<Real>> centers;   // [n_types]
  int widest_layer = 0;                    // most outputs of a hidden layer of any type
  std::size_t bytes() const;               // of tables and weights

 private:
  int number_of_rules(const PairRules& own);
};

}  // namespace deepmd
