#pragma once

#include <functional>
#include <memory>

#include "device/comparison.hpp"
#include "device/product_kind.hpp"
#include "model/energy_tree.hpp"
#include "model/fused_potential.hpp"
#include "model/fused_tables.hpp"

namespace deepmd {

// The force call on a GPU. Frames with a pair outside its tables are evaluated by the fused path on the CPU, which is made
// when the first of them appears.
class DevicePotential : public Potential {
 public:
  // Whether both run on one device and can take the same frame in one pass.
  virtual bool can_share(const DevicePotential& other) const = 0;
  // Models [n] that can share with the first one; results [n].
  virtual void evaluate_together(const Frame& frame, DevicePotential* const* models, int n, const Result* results) = 0;
  // The same with the deviation of their forces, of which only those come down that results ask for. False if a pair lies
  // outside the tables of a model: then nothing is known.
  virtual bool compare_together(const Frame& frame, DevicePotential* const* models, int n, const Result* results,
                                device::Comparison* comparison) = 0;
  // Why the GPU was given up, in words, since when the CPU answers; "" while it works.
  virtual const std::string& why_lost() const = 0;
};

// How the fitting net is to multiply in mixed precision: as DEEPMD_GPU_PRODUCTS says, or by single products of TF32.
device::ProductKind wanted_products(bool is_tf32);

struct DeviceOptions {
  Precision precision = Precision::float64;
  device::ProductKind products = device::ProductKind::plain;
  int rank = 0;     // which device, modulo their number
  int n_ranks = 1;  // processes of this node that share its devices
  std::function<std::unique_ptr<FusedPotential>()> make_fallback;
};

// Throws DEEPMD_ERROR_UNSUPPORTED, with the reason, if there is no GPU to use, and DEEPMD_ERROR_MEMORY if it is full.
std::unique_ptr<DevicePotential> make_device_potential(EnergyTree tree, PairBasis basis, DeviceOptions options);

}  // namespace deepmd
