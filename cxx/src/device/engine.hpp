// The border's functions for a kind of backend. Traits tell what differs:
//   Backend; kIsEmulated; static int count_devices(); static std::string describe_device(int); static std::int64_t free_bytes(int);
//   static std::unique_ptr<Backend> make_backend(int device); static void enter(Backend&)
#pragma once

#include <memory>
#include <new>

#include "device/border.hpp"
#include "device/force_call.hpp"

namespace deepmd::device {

constexpr std::int64_t kUsualWork = std::int64_t{1} << 30;  // bytes: some ten thousand atoms at a time keep a GPU busy
constexpr std::int64_t kLeastWork = std::int64_t{16} << 20;

class Engine {
 public:
  virtual ~Engine() = default;
};

template <class Traits>
class EngineOn : public Engine {
 public:
  using Backend = typename Traits::Backend;

  EngineOn(int device, int n_types, const CallOptions& options)
      : device_(device), n_sharing_(options.n_sharing), backend_(Traits::make_backend(device, options.products)), frame_(*backend_, n_types), comparer_(*backend_) {}
  virtual PassMember<Backend>& member() = 0;
  virtual std::string memory() const = 0;
  virtual const char* products() const = 0;

  int device() const { return device_; }
  Backend& backend() { return *backend_; }
  DeviceFrame<Backend>& frame() { return frame_; }
  Comparer<Backend>& comparer() { return comparer_; }
  const char* describe() {
    const std::string sharing = n_sharing_ > 1 ? text(" shared by ", n_sharing_, " ranks") : std::string();
    words_ = text(Traits::describe_device(device_), sharing, ", ", backend_->product_library(), products(), ", ", memory());
    return words_.c_str();
  }

 private:
  int device_, n_sharing_;
  std::unique_ptr<Backend> backend_;
  DeviceFrame<Backend> frame_;
  Comparer<Backend> comparer_;
  std::string words_;
};

template <class Traits, class Real>
class EngineOf : public EngineOn<Traits> {
 public:
  EngineOf(int device, const ModelImage<Real>& image, const CallOptions& options)
      : EngineOn<Traits>(device, image.n_types, options), call_(this->backend(), image, options) {}
  PassMember<typename Traits::Backend>& member() override { return call_; }
  const char* products() const override {
    switch (call_.products()) {
      case ProductKind::split: return " (fitting net by three TF32 products, relative error below 1e-6)";
      case ProductKind::tf32: return " (fitting net by one TF32 product, relative error below 1e-3)";
      default: return "";
    }
  }
  std::string memory() const override {
    constexpr double kMega = 1e-6;
    return text(static_cast<double>(call_.model_bytes()) * kMega, " MB of tables and weights, ",
                static_cast<double>(call_.work_bytes()) * kMega, " MB of work arrays in ", call_.n_chunks(), call_.n_chunks() == 1 ? " chunk (at most " : " chunks (at most ",
                static_cast<double>(call_.most_work_bytes()) * kMega, " MB, ", call_.bytes_per_center(), " bytes per atom of a chunk), ",
                static_cast<double>(call_.frame_bytes() + const_cast<EngineOf*>(this)->frame().bytes()) * kMega,
                " MB of positions, lists and results");
  }

 private:
  ForceCall<Real, typename Traits::Backend> call_;
};

// Runs work(), turning exceptions into a status.
template <class Work>
deepmd_status guarded(std::string* problem, Work&& work) {
  try {
    work();
    return DEEPMD_OK;
  } catch (const Error& e) {
    *problem = e.what();
    return e.status();
  } catch (const std::bad_alloc&) {
    *problem = "memory ran out on the host; use fewer atoms per rank";
    return DEEPMD_ERROR_MEMORY;
  } catch (const std::exception& e) {
    *problem = e.what();
    return DEEPMD_ERROR_INTERNAL;
  }
}

template <class Traits>
struct BorderOf {
  using On = EngineOn<Traits>;

  static deepmd_status describe_device(int device, std::string* words, std::string* problem) {
    return guarded(problem, [&] { *words = Traits::describe_device(device); });
  }

  static deepmd_status open(const Opening& opening, Engine** opened, std::string* problem) {
    return guarded(problem, [&] {
      const int n_devices = Traits::count_devices();
      if (n_devices < 1) throw Error(DEEPMD_ERROR_UNSUPPORTED, "no GPU answers; use the path fused");
      const int device = opening.rank % n_devices;
      CallOptions options;
      options.n_sharing = std::max(1, (opening.n_ranks - 1 - device) / n_devices + 1);  // ranks device, device + n_devices, ...
      options.work_bytes = opening.work_bytes / options.n_sharing;
      if (opening.work_bytes <= 0) {
        options.work_bytes = std::max(kLeastWork, std::min(kUsualWork, Traits::free_bytes(device) / 4) / options.n_sharing);
      }
      options.products = opening.products;
      if (opening.float64) {
        *opened = new EngineOf<Traits, double>(device, *opening.float64, options);
      } else {
        *opened = new EngineOf<Traits, float>(device, *opening.mixed, options);
      }
    });
  }

  static deepmd_status evaluate(Engine* const* engines, int n, const Frame& frame, const Result* results, FrameStatus* status,
                                Comparison* comparison, std::string* problem) {
    return guarded(problem, [&] {
      std::vector<PassMember<typename Traits::Backend>*> members;
      for (int k = 0; k < n; ++k) members.push_back(&static_cast<On*>(engines[k])->member());
      On& leader = *static_cast<On*>(engines[0]);
      Traits::enter(leader.backend());
      ComparedPass<typename Traits::Backend> compared;
      if (comparison) compared = {&leader.comparer(), comparison};
      evaluate_pass(leader.frame(), members.data(), n, frame, results, status, compared);
    });
  }

  static const char* describe(Engine& engine) { return static_cast<On&>(engine).describe(); }
  static int device_of(const Engine& engine) { return static_cast<const On&>(engine).device(); }
  static void close(Engine* engine) {
    Traits::enter(static_cast<On*>(engine)->backend());
    delete engine;
  }

  static const Border* border() {
    static const Border functions = {Traits::kIsEmulated, Traits::count_devices, describe_device, open, evaluate, describe, device_of, close};
    return &functions;
  }
};

}  // namespace deepmd::device
