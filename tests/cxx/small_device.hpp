// A model on the emulated device, and the CPU's answer to compare with.
#pragma once

#include <vector>

#include "device/force_call.hpp"
#include "device/host_backend.hpp"
#include "device/model_image.hpp"
#include "model/fused_potential.hpp"
#include "small_answers.hpp"

namespace small {

// A model on the emulated device.
template <class Real>
class OnHost {
 public:
  OnHost(const deepmd::EnergyTree& tree, const deepmd::CompressionRecord* record, const deepmd::device::HostBackendOptions& options = {},
         const deepmd::device::CallOptions& call = {})
      : backend_(options),
        image_(deepmd::device::make_image(deepmd::FusedPlan<Real>(tree, deepmd::build_pair_basis(tree, record), deepmd::Isa::baseline))),
        frame_(backend_, tree.n_types),
        call_(backend_, image_, call) {}

  deepmd::device::FrameStatus evaluate(const deepmd::Frame& frame, const deepmd::Result& result) {
    deepmd::device::PassMember<deepmd::device::HostBackend>* const member = &call_;
    deepmd::device::FrameStatus status;
    deepmd::device::evaluate_pass(frame_, &member, 1, frame, &result, &status);
    return status;
  }
  Answers answer(const deepmd::Frame& frame) {
    Answers answers(frame);
    evaluate(frame, answers.result());
    return answers;
  }
  deepmd::device::ForceCall<Real, deepmd::device::HostBackend>& call() { return call_; }
  deepmd::device::DeviceFrame<deepmd::device::HostBackend>& frame() { return frame_; }
  deepmd::device::HostBackend& backend() { return backend_; }

 private:
  deepmd::device::HostBackend backend_;
  deepmd::device::ModelImage<Real> image_;
  deepmd::device::DeviceFrame<deepmd::device::HostBackend> frame_;
  deepmd::device::ForceCall<Real, deepmd::device::HostBackend> call_;
};

inline Answers on_cpu(const deepmd::EnergyTree& tree, const deepmd::Frame& frame, const deepmd::CompressionRecord* record = nullptr,
               deepmd::Precision precision = deepmd::Precision::float64) {
  const auto potential = deepmd::make_fused_potential(tree, deepmd::build_pair_basis(tree, record), {precision, 1});
  Answers answers(frame);
  potential->evaluate(frame, answers.result());
  return answers;
}

}  // namespace small
