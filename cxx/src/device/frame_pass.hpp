// A pass over a frame: several models on one device share what is sent, and may be compared.
#pragma once

#include <algorithm>
#include <vector>

#include "device/comparer.hpp"
#include "device/device_frame.hpp"
#include "device/shapes.hpp"

namespace deepmd::device {

// One model's part in a pass over a frame, which several models may share.
template <class Backend>
class PassMember {
 public:
  virtual ~PassMember() = default;
  virtual Backend& backend() = 0;
  // Memory and host data for a frame that `device` has taken. keeps_forces: they are wanted on the device in any case.
  virtual void prepare(DeviceFrame<Backend>& device, const Frame& frame, const Result& result, bool keeps_forces) = 0;
  // Equal words: enqueue() does the same launches with the same arguments.
  virtual void append_key(std::vector<std::int64_t>& words) const = 0;
  virtual void enqueue() = 0;
  // [n_all][3] on the device, once it has run.
  virtual const double* forces() const = 0;
  // After all of it has run. Where the status tells of pairs that are too close or outside their tables, the numbers are
  // not to be used.
  virtual FrameStatus finish(const Frame& frame, const Result& result) = 0;
};

inline void clear_answers(const Frame& frame, const Result& result) {
  if (result.energy) *result.energy = 0.0;
  if (result.virial) std::fill_n(result.virial, 9, 0.0);
  if (result.forces) std::fill_n(result.forces, 3 * frame.n_all(), 0.0);
  if (result.atom_virial) std::fill_n(result.atom_virial, 9 * frame.n_all(), 0.0);
}

// What is wanted of several models together.
template <class Backend>
struct ComparedPass {
  Comparer<Backend>* comparer = nullptr;  // of the first one's backend; null: nothing
  Comparison* comparison = nullptr;
};

// Evaluates members [n] with as many results and status; the frame is sent once, by the first one's backend.
template <class Backend>
void evaluate_pass(DeviceFrame<Backend>& device, PassMember<Backend>* const* members, int n, const Frame& frame,
                   const Result* results, FrameStatus* status, const ComparedPass<Backend>& compared = {}) {
  if (frame.n_local == 0) {
    for (int k = 0; k < n; ++k) clear_answers(frame, results[k]);
    std::fill_n(status, n, FrameStatus());
    return;
  }
  std::vector<std::int64_t> key;
  device.take(frame);
  for (int k = 0; k < n; ++k) {
    members[k]->prepare(device, frame, results[k], compared.comparer != nullptr);
    members[k]->append_key(key);
  }
  std::vector<const double*> forces;
  if (compared.comparer) {
    compared.comparer->prepare(frame.n_local);
    compared.comparer->append_key(*compared.comparison, key);
    for (int k = 0; k < n; ++k) forces.push_back(members[k]->forces());
  }
  Backend& leader = members[0]->backend();
  leader.replay(key, [&] {
    device.send();
    for (int k = 1; k < n; ++k) leader.fork(members[k]->backend());
    for (int k = 0; k < n; ++k) members[k]->enqueue();
    for (int k = 1; k < n; ++k) leader.join(members[k]->backend());
    if (compared.comparer) compared.comparer->enqueue(device, forces, *compared.comparison);
  });
  leader.wait();
  if (compared.comparer) compared.comparer->finish(*compared.comparison);
  for (int k = 0; k < n; ++k) status[k] = members[k]->finish(frame, results[k]);
}

}  // namespace deepmd::device
