// libdeepmd_cuda.so: the engine of engine.hpp on NVIDIA GPUs.
#include <cstdlib>

#include "device/cuda_backend.hpp"
#include "device/engine.hpp"

namespace deepmd::device {
namespace {

struct Cuda {
  using Backend = CudaBackend;
  static constexpr bool kIsEmulated = false;

  static int count_devices() {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
      cudaGetLastError();
      return 0;
    }
    return n;
  }
  static std::string describe_device(int device) {
    cudaDeviceProp facts;
    check_cuda(cudaGetDeviceProperties(&facts, device), "describe itself");
    return text(facts.name, " (device ", device, " of ", count_devices(), ", compute capability ", facts.major, ".", facts.minor,
                ", ", facts.totalGlobalMem >> 20, " MiB)");
  }
  static std::int64_t free_bytes(int device) {
    std::size_t free = 0, all = 0;
    cudaSetDevice(device);
    check_cuda(cudaMemGetInfo(&free, &all), "tell its free memory");
    return static_cast<std::int64_t>(free);
  }
  static std::unique_ptr<Backend> make_backend(int device, ProductKind) {
    const char* graphs = std::getenv("DEEPMD_GPU_GRAPHS");
    return std::make_unique<Backend>(device, !(graphs && graphs[0] == '0'));
  }
  static void enter(Backend& backend) { backend.make_current(); }
};

}  // namespace
}  // namespace deepmd::device

extern "C" const deepmd::device::Border* deepmd_device_border(void) {
  return deepmd::device::BorderOf<deepmd::device::Cuda>::border();
}
