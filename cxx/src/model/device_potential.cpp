#include "model/device_potential.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/error.hpp"
#include "device/model_image.hpp"
#include "model/device_library.hpp"
#include "model/frame_rows.hpp"
#include "model/pair_blocks.hpp"

namespace deepmd {
namespace {

// Turns a status back into an exception.
template <class Work>
void crossing(Work&& work) {
  std::string problem;
  const deepmd_status status = work(&problem);
  if (status != DEEPMD_OK) throw Error(status, problem);
}

// DEEPMD_GPU_MEMORY: MiB that work arrays may take; 0 if it is not set.
std::int64_t work_bytes() {
  const char* wish = std::getenv("DEEPMD_GPU_MEMORY");
  if (!wish || !*wish) return 0;
  char* end = nullptr;
  const long long mega = std::strtoll(wish, &end, 10);
  if (*end != '\0' || mega < 1) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("the environment variable DEEPMD_GPU_MEMORY is '", wish,
                                            "', expected a number of MiB, 1 or more"));
  }
  return static_cast<std::int64_t>(mega) << 20;
}

// DEEPMD_GPU_PRODUCTS
device::ProductKind products_of_environment() {
  const char* wish = std::getenv("DEEPMD_GPU_PRODUCTS");
  const std::string word = wish && *wish ? wish : "plain";
  if (word == "plain") return device::ProductKind::plain;
  if (word == "split") return device::ProductKind::split;
  if (word == "tf32") return device::ProductKind::tf32;
  throw Error(DEEPMD_ERROR_ARGUMENT, text("the environment variable DEEPMD_GPU_PRODUCTS is '", word, "', expected plain, split or tf32"));
}

double longest_cutoff(const EnergyTree& tree) {
  double longest = 0;
  for (const PairDescriptor& descriptor : tree.descriptors) longest = std::max(longest, descriptor.cutoff.rcut);
  return longest;
}

class OnDevice : public DevicePotential {
 public:
  OnDevice(EnergyTree tree, PairBasis basis, DeviceOptions options) : n_types_(tree.n_types), rcut_(longest_cutoff(tree)), options_(std::move(options)) {
    std::string why_not;
    border_ = device_border(&why_not);
    if (!border_) throw Error(DEEPMD_ERROR_UNSUPPORTED, "needs a GPU for the path cuda: " + why_not);
    if (options_.precision == Precision::mixed) {
      open<float>(std::move(tree), std::move(basis));
    } else {
      open<double>(std::move(tree), std::move(basis));
    }
  }
  ~OnDevice() override {
    if (engine_) border_->close(engine_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  const char* name() const override { return "cuda"; }
  std::string description() const override {
    return lost_.empty() ? border_->describe(*engine_) : "given up, the CPU answers: " + lost_;
  }
  const std::string& why_lost() const override { return lost_; }
  std::int64_t n_outside() const override { return fallback_ ? fallback_->n_outside() : 0; }

  void evaluate(const Frame& frame, const Result& result) override {
    DevicePotential* const self = this;
    evaluate_together(frame, &self, 1, &result);
  }

  bool can_share(const DevicePotential& other) const override {
    const auto& that = static_cast<const OnDevice&>(other);
    return that.n_types_ == n_types_ && border_->device_of(*that.engine_) == border_->device_of(*engine_);
  }

  void evaluate_together(const Frame& frame, DevicePotential* const* models, int n, const Result* results) override {
    const std::vector<device::FrameStatus> status = run(frame, models, n, results, nullptr);
    for (int k = 0; k < n; ++k) {
      if (status[static_cast<std::size_t>(k)].is_outside) static_cast<OnDevice*>(models[k])->fall_back(frame, results[k]);
    }
  }

  bool compare_together(const Frame& frame, DevicePotential* const* models, int n, const Result* results,
                        device::Comparison* comparison) override {
    const std::vector<device::FrameStatus> status = run(frame, models, n, results, comparison);
    return std::none_of(status.begin(), status.end(), [](const device::FrameStatus& found) { return found.is_outside; });
  }

 private:
  std::vector<device::FrameStatus> run(const Frame& frame, DevicePotential* const* models, int n, const Result* results,
                                       device::Comparison* comparison) {
    std::vector<device::Engine*> engines;
    std::vector<device::FrameStatus> status(static_cast<std::size_t>(n));
    for (int k = 0; k < n; ++k) {
      auto& model = static_cast<OnDevice&>(*models[k]);
      if (lost_.empty()) lost_ = model.lost_;
      engines.push_back(model.engine_);
    }
    try {
      if (lost_.empty()) {
        crossing([&](std::string* problem) {
          return border_->evaluate(engines.data(), n, frame, results, status.data(), comparison, problem);
        });
      }
    } catch (const Error& e) {
      if (e.status() != DEEPMD_ERROR_INTERNAL) throw;
      give_up(e.what());
    }
    if (!lost_.empty()) {
      for (int k = 0; k < n; ++k) static_cast<OnDevice*>(models[k])->lost_ = lost_, status[static_cast<std::size_t>(k)] = {0, 1};
    }
    for (device::FrameStatus& found : status) {
      if (!found.is_too_close) continue;
      refuse_close_pairs(with_rows(frame));
      found.is_outside = 1;  // too close by the rounding of the device alone: the CPU answers
    }
    return status;
  }

  template <class Real>
  void open(EnergyTree tree, PairBasis basis) {
    const FusedPlan<Real> plan(std::move(tree), std::move(basis), Isa::baseline);
    const device::ModelImage<Real> image = device::make_image(plan);
    device::Opening opening;
    if constexpr (sizeof(Real) == sizeof(double)) {
      opening.float64 = &image;
    } else {
      opening.mixed = &image;
    }
    opening.rank = options_.rank < 0 ? 0 : options_.rank;
    opening.n_ranks = options_.n_ranks;
    opening.work_bytes = work_bytes();
    opening.products = options_.products;
    crossing([&](std::string* problem) { return border_->open(opening, &engine_, problem); });
  }

  // After a failure that is not about memory nothing on the device can be trusted, nor anything be done with it.
  void give_up(const char* reason) {
    static std::once_flag once;
    lost_ = reason;
    std::call_once(once, [&] {
      std::fprintf(stderr, "deepmd: %s; the GPU is given up, and the CPU answers from here on, much slower; restart to use the GPU again\n", reason);
    });
  }

  void fall_back(const Frame& frame, const Result& result) {
    if (!fallback_) fallback_ = options_.make_fallback();
    fallback_->evaluate(with_rows(frame), result);
  }

  Frame with_rows(const Frame& frame) {
    Frame same = frame;
    same.list = rows_of(frame, rcut_, found_);
    same.list.n_centers = frame.n_local;
    return same;
  }

  int n_types_;
  double rcut_;
  NeighborList found_;
  DeviceOptions options_;
  const device::Border* border_ = nullptr;
  device::Engine* engine_ = nullptr;
  std::unique_ptr<FusedPotential> fallback_;
  std::string lost_;
};

}  // namespace

device::ProductKind wanted_products(bool is_tf32) {
  return is_tf32 ? device::ProductKind::tf32 : products_of_environment();
}

std::unique_ptr<DevicePotential> make_device_potential(EnergyTree tree, PairBasis basis, DeviceOptions options) {
  return std::make_unique<OnDevice>(std::move(tree), std::move(basis), std::move(options));
}

}  // namespace deepmd
