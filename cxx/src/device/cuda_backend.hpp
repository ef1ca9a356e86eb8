// A backend on one GPU: one stream, memory, launches, products by cuBLAS where it is found, recorded calls. To be included
// by CUDA sources only.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "device/blas_call.hpp"
#include "device/buffer.hpp"
#include "device/cublas.hpp"
#include "device/recorded_calls.hpp"
#include "device/split_product.hpp"

namespace deepmd::device {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a failed allocation would be reported again by the next launch
  throw Error(status == cudaErrorMemoryAllocation ? DEEPMD_ERROR_MEMORY : DEEPMD_ERROR_INTERNAL,
              text("the GPU cannot ", what, ": ", cudaGetErrorString(status)));
}

struct DropGraph {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using RecordedGraph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DropGraph>;

template <class Body>
__global__ void __launch_bounds__(kThreads) run_body(const __grid_constant__ Body body) {
  extern __shared__ __align__(16) unsigned char shared[];
  CudaBlock block(shared);
  body(block);
}

class CudaBackend {
 public:
  // device: its number among the visible ones. use_graphs: calls that come again are recorded.
  CudaBackend(int device, bool use_graphs) : device_(device), use_graphs_(use_graphs) {
    make_current();
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make an event");
    check_cuda(cudaDeviceGetAttribute(&n_processors_, cudaDevAttrMultiProcessorCount, device), "tell its number of processors");
    check_cuda(cudaDeviceGetAttribute(&most_shared_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "tell its shared memory");
    blas_ = Cublas::open(stream_);
  }
  ~CudaBackend() {
    make_current();
    graphs_.clear();
    blas_.reset();
    cudaEventDestroy(event_);
    cudaStreamDestroy(stream_);
  }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  // Before any other call in a thread that may have used another device.
  void make_current() const { cudaSetDevice(device_); }
  int device() const { return device_; }
  const char* product_library() const { return blas_ ? blas_->name() : "own products"; }

  void* allocate(std::int64_t bytes) {
    void* p = nullptr;
    check_cuda(cudaMalloc(&p, static_cast<std::size_t>(bytes > 0 ? bytes : 1)), text("set aside ", bytes, " bytes").c_str());
    ++generation_;
    return p;
  }
  void release(void* p) { cudaFree(p); }
  void* allocate_staging(std::int64_t bytes) {
    void* p = nullptr;
    check_cuda(cudaHostAlloc(&p, static_cast<std::size_t>(bytes > 0 ? bytes : 1), cudaHostAllocDefault), "pin host memory");
    ++generation_;
    return p;
  }
  void release_staging(void* p) { cudaFreeHost(p); }
  std::int64_t generation() const { return generation_; }
  std::int64_t most_blocks() const { return static_cast<std::int64_t>(n_processors_) * kBlocksPerProcessor; }

  void upload(void* to, const void* from, std::int64_t bytes) { copy(to, from, bytes, cudaMemcpyHostToDevice); }
  void download(void* to, const void* from, std::int64_t bytes) { copy(to, from, bytes, cudaMemcpyDeviceToHost); }
  void clear(void* p, std::int64_t bytes) {
    check_cuda(cudaMemsetAsync(p, 0, static_cast<std::size_t>(bytes), stream_), "clear memory");
  }

  // Whether the device can run a body as it will be launched; throws DEEPMD_ERROR_UNSUPPORTED with the limit that it breaks.
  template <class Body>
  void check_limits(const Body& body, const char* what) {
    const std::size_t shared = body.shared_bytes();
    check_shared_memory(shared, static_cast<std::size_t>(most_shared_), what);
    cudaFuncAttributes facts;
    const cudaError_t status = cudaFuncGetAttributes(&facts, run_body<Body>);
    if (status != cudaSuccess) {
      cudaGetLastError();
      throw Error(DEEPMD_ERROR_UNSUPPORTED, text("has no code for this GPU in the package (", cudaGetErrorString(status),
                                                 "); build it with DEEPMD_CUDA_ARCHITECTURES for this GPU"));
    }
    if (facts.maxThreadsPerBlock < kThreads) {
      throw Error(DEEPMD_ERROR_UNSUPPORTED, text("cannot have the kernel that is to ", what, " run by this GPU: a block may have ",
                                                 facts.maxThreadsPerBlock, " threads, expected ", kThreads));
    }
    if (shared > kUsualShared) allow_shared<Body>(shared);
    int n_blocks = 0;
    check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n_blocks, run_body<Body>, kThreads, shared), "tell how many blocks it holds");
    if (n_blocks < 1) {
      throw Error(DEEPMD_ERROR_UNSUPPORTED, text("cannot have the kernel that is to ", what, " run by this GPU: a block of ", kThreads,
                                                 " threads, ", facts.numRegs, " registers and ", shared, " bytes of shared memory does not fit"));
    }
  }

  template <class Body>
  void launch(const Body& body, std::int64_t n_blocks) {
    launch_exactly(body, n_blocks < most_blocks() ? n_blocks : most_blocks());
  }
  template <class Body>
  void launch_exactly(const Body& body, std::int64_t n_blocks) {
    if (n_blocks == 0) return;
    const std::size_t shared = body.shared_bytes();
    if (shared > kUsualShared) allow_shared<Body>(shared);
    run_body<Body><<<static_cast<unsigned>(n_blocks), kThreads, shared, stream_>>>(body);
    check_cuda(cudaGetLastError(), "start a kernel");
  }

  template <class Real, class Finish>
  void multiply(const Product<Real>& p, const Finish& finish, Real* scratch, const SplitRoom<Real>& room = {}) {
    if (!blas_) {
      const MultiplyTiles<Real, Finish> body{p, finish};
      return launch(body, body.n_tiles());
    }
    const auto library = [this](const BlasCall<Real>& call) { blas_->multiply(call); };
    if (room.w_high) return multiply_split(*this, p, room, finish, scratch, library);
    multiply_by_library(*this, p, finish, scratch, library);
  }
  bool splits() const { return blas_ != nullptr; }  // whether split products are made as such

  // Runs work(), or what was recorded of it. The first call with a key runs it (libraries set themselves up there), the
  // second one records it.
  template <class Work>
  void replay(const std::vector<std::int64_t>& key, Work&& work) {
    if (!use_graphs_) return work();
    bool is_new = false;
    RecordedGraph& graph = graphs_.find(key, &is_new);
    if (is_new) return work();
    if (!graph) graph.reset(record(work));
    if (!graph) return work();
    check_cuda(cudaGraphLaunch(graph.get(), stream_), "start a recorded call");
  }

  // Work of `other` enqueued from here on begins when what this one has enqueued is done; join: the other way round.
  void fork(CudaBackend& other) { follow(*this, other); }
  void join(CudaBackend& other) { follow(other, *this); }
  void wait() { check_cuda(cudaStreamSynchronize(stream_), "finish its work"); }

 private:
  static constexpr std::int64_t kBlocksPerProcessor = 32;
  static constexpr std::size_t kMostGraphs = 16;

  static void follow(CudaBackend& first, CudaBackend& then) {
    check_cuda(cudaEventRecord(first.event_, first.stream_), "mark a place in a stream");
    check_cuda(cudaStreamWaitEvent(then.stream_, first.event_, 0), "let a stream wait");
  }

  void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_), "copy memory");
  }

  // Null, and no further attempts, where recording fails: the work can always be enqueued call by call.
  template <class Work>
  cudaGraphExec_t record(Work& work) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t made = nullptr;
    bool is_sound = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
    if (is_sound) {
      try {
        work();
      } catch (const Error&) {
        is_sound = false;
      }
      is_sound = cudaStreamEndCapture(stream_, &graph) == cudaSuccess && is_sound;
    }
    if (is_sound) is_sound = cudaGraphInstantiate(&made, graph, 0) == cudaSuccess;
    if (graph) cudaGraphDestroy(graph);
    if (is_sound) return made;
    cudaGetLastError();
    use_graphs_ = false;
    return nullptr;
  }

  template <class Body>
  void allow_shared(std::size_t bytes) {
    check_cuda(cudaFuncSetAttribute(run_body<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
               "give a block that much shared memory");
  }

  int device_;
  bool use_graphs_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  int n_processors_ = 1, most_shared_ = 0;
  std::int64_t generation_ = 0;
  std::unique_ptr<Cublas> blas_;
  RecordedCalls<RecordedGraph> graphs_{kMostGraphs};
};

}  // namespace deepmd::device
