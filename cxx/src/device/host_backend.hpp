// A backend in the host's memory, on which the tests run what a GPU runs.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "core/error.hpp"
#include "device/blas_call.hpp"
#include "device/buffer.hpp"
#include "device/host_block.hpp"
#include "device/split_product.hpp"

namespace deepmd::device {

struct HostBackendOptions {
  std::int64_t most_blocks = 5;          // in a launch: few, so that blocks take turns
  std::int64_t most_bytes = INT64_MAX;   // of "device" memory
  std::int64_t most_shared = 227 << 10;  // bytes of a block
  std::int64_t fails_after = INT64_MAX;  // launches: then the device is lost
  bool is_reversed = false;              // threads run in descending order
  bool has_library = false;              // products are made column-major and finished by a second launch
};

class HostBackend {
 public:
  explicit HostBackend(const HostBackendOptions& options = {}) : options_(options) {}
  HostBackend(const HostBackend&) = delete;

  void* allocate(std::int64_t bytes) {
    if (bytes_ + bytes > options_.most_bytes) throw Error(DEEPMD_ERROR_MEMORY, text("out of memory for ", bytes, " bytes"));
    void* const p = std::malloc(static_cast<std::size_t>(bytes) + 1);
    std::memset(p, 0xff, static_cast<std::size_t>(bytes) + 1);  // nothing may read what nobody wrote: not a number
    bytes_ += bytes;
    sizes_[p] = bytes;
    ++generation_;
    return p;
  }
  void release(void* p) {
    bytes_ -= sizes_[p];
    sizes_.erase(p);
    std::free(p);
  }
  void* allocate_staging(std::int64_t bytes) { return std::malloc(static_cast<std::size_t>(bytes) + 1); }
  void release_staging(void* p) { std::free(p); }
  std::int64_t generation() const { return generation_; }
  std::int64_t most_blocks() const { return options_.most_blocks; }
  std::int64_t bytes() const { return bytes_; }
  std::int64_t n_launches() const { return n_launches_; }

  // Nothing may come with a null pointer, which memcpy and memset do not take.
  void upload(void* to, const void* from, std::int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void download(void* to, const void* from, std::int64_t bytes) { upload(to, from, bytes); }
  void clear(void* p, std::int64_t bytes) {
    if (bytes > 0) std::memset(p, 0, static_cast<std::size_t>(bytes));
  }

  template <class Body>
  void check_limits(const Body& body, const char* what) const {
    check_shared_memory(body.shared_bytes(), static_cast<std::size_t>(options_.most_shared), what);
  }

  template <class Body>
  void launch(const Body& body, std::int64_t n_blocks) {
    launch_exactly(body, n_blocks < options_.most_blocks ? n_blocks : options_.most_blocks);
  }
  template <class Body>
  void launch_exactly(const Body& body, std::int64_t n_blocks) {
    if (++n_launches_ > options_.fails_after) {
      throw Error(DEEPMD_ERROR_INTERNAL, "the GPU cannot start a kernel: emulated failure");
    }
    std::vector<double> shared(body.shared_bytes() / sizeof(double) + 2);
    for (std::int64_t b = 0; b < n_blocks; ++b) {
      std::memset(shared.data(), 0xff, shared.size() * sizeof(double));
      HostBlock block(b, n_blocks, reinterpret_cast<unsigned char*>(shared.data()), options_.is_reversed);
      body(block);
    }
  }

  template <class Real, class Finish>
  void multiply(const Product<Real>& p, const Finish& finish, Real* scratch, const SplitRoom<Real>& room = {}) {
    if (!options_.has_library) {
      const MultiplyTiles<Real, Finish> body{p, finish};
      return launch(body, body.n_tiles());
    }
    const auto library = [](const BlasCall<Real>& call) { multiply_columns(call); };
    if (room.w_high) return multiply_split(*this, p, room, finish, scratch, library);
    multiply_by_library(*this, p, finish, scratch, library);
  }
  bool splits() const { return options_.has_library; }

  template <class Work>
  void replay(const std::vector<std::int64_t>&, Work&& work) {
    work();
  }
  void fork(HostBackend&) {}
  void join(HostBackend&) {}
  void wait() {}

 private:
  template <class Real>
  static void multiply_columns(const BlasCall<Real>& call) {
    for (int j = 0; j < call.n; ++j) {
      for (int i = 0; i < call.m; ++i) {
        Real sum = 0;
        for (int l = 0; l < call.k; ++l) {
          Real a = call.a[i + static_cast<std::int64_t>(l) * call.lda], b = call.b[l + static_cast<std::int64_t>(j) * call.ldb];
          if (call.is_short) {  // what units for such numbers see of them
            a = static_cast<Real>(high_part(static_cast<float>(a))), b = static_cast<Real>(high_part(static_cast<float>(b)));
          }
          sum += a * b;
        }
        Real& to = call.c[i + static_cast<std::int64_t>(j) * call.ldc];
        to = call.beta == Real(0) ? sum : sum + call.beta * to;
      }
    }
  }

  HostBackendOptions options_;
  std::map<void*, std::int64_t> sizes_;
  std::int64_t bytes_ = 0, generation_ = 0, n_launches_ = 0;
};

}  // namespace deepmd::device
