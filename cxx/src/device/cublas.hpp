// cuBLAS, opened at run time where it is: in the system, or in the Python packages that torch brings. What is declared here
// are the few functions of its stable C interface that are called.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <memory>
#include <string>

#include "core/error.hpp"
#include "device/blas_call.hpp"

namespace deepmd::device {

class Cublas {
 public:
  // Null if there is no cuBLAS, or DEEPMD_CUBLAS=0.
  static std::unique_ptr<Cublas> open(cudaStream_t stream) {
    const char* wish = std::getenv("DEEPMD_CUBLAS");
    if (wish && std::string(wish) == "0") return nullptr;
    void* const library = find_library();
    if (!library) return nullptr;
    std::unique_ptr<Cublas> made(new Cublas());
    if (!made->look_up(library) || made->create_(&made->handle_) != 0) return nullptr;
    // The library must not allocate while a call is recorded.
    if (cudaMalloc(&made->workspace_, kWorkspaceBytes) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
    if (made->set_stream_(made->handle_, stream) != 0) return nullptr;
    if (made->set_workspace_(made->handle_, made->workspace_, kWorkspaceBytes) != 0) return nullptr;
    return made;
  }
  ~Cublas() {
    if (handle_) destroy_(handle_);
    if (workspace_) cudaFree(workspace_);
  }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  const char* name() const { return "cuBLAS"; }

  void multiply(const BlasCall<double>& call) { run(dgemm_, call); }
  void multiply(const BlasCall<float>& call) { run(sgemm_, call); }

 private:
  template <class Real>
  using Gemm = int (*)(void* handle, int transa, int transb, int m, int n, int k, const Real* alpha, const Real* a, int lda,
                       const Real* b, int ldb, const Real* beta, Real* c, int ldc);

  static constexpr std::size_t kWorkspaceBytes = 32 << 20;  // what NVIDIA recommends for its larger GPUs
  static constexpr int kNotTransposed = 0;
  static constexpr int kDefault = 0, kTf32 = 3;  // CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH

  Cublas() = default;

  // The library may be loaded already (by torch, say); then that one is taken.
  static void* find_library() {
    const char* const names[] = {"libcublas.so.13", "libcublas.so.12"};
    for (const char* name : names) {
      if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    }
    const std::string packages = own_folder() + "../../nvidia/";  // beside this package
    for (const char* place : {"cu13/lib/libcublas.so.13", "cublas/lib/libcublas.so.12"}) {
      if (void* library = dlopen((packages + place).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
    return nullptr;
  }

  static std::string own_folder() {
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || !info.dli_fname) return "";
    const std::string own(info.dli_fname);
    return own.substr(0, own.rfind('/') + 1);
  }

  template <class Function>
  static bool find(void* library, const char* name, Function& to) {
    to = reinterpret_cast<Function>(dlsym(library, name));
    return to != nullptr;
  }

  bool look_up(void* library) {
    return find(library, "cublasCreate_v2", create_) && find(library, "cublasDestroy_v2", destroy_) &&
           find(library, "cublasSetStream_v2", set_stream_) && find(library, "cublasSetWorkspace_v2", set_workspace_) &&
           find(library, "cublasSetMathMode", set_math_mode_) &&
           find(library, "cublasDgemm_v2", dgemm_) && find(library, "cublasSgemm_v2", sgemm_);
  }

  template <class Real>
  void run(Gemm<Real> gemm, const BlasCall<Real>& call) {
    const Real one = 1;
    if (call.is_short != is_short_) {
      if (set_math_mode_(handle_, call.is_short ? kTf32 : kDefault) != 0) {
        throw Error(DEEPMD_ERROR_INTERNAL, "cuBLAS refuses TF32; set DEEPMD_GPU_PRODUCTS=plain");
      }
      is_short_ = call.is_short;
    }
    const int status = gemm(handle_, kNotTransposed, kNotTransposed, call.m, call.n, call.k, &one, call.a, call.lda, call.b,
                            call.ldb, &call.beta, call.c, call.ldc);
    if (status != 0) throw Error(DEEPMD_ERROR_INTERNAL, text("cuBLAS refuses a product of ", call.m, " x ", call.n, " x ", call.k,
                                                             " (status ", status, "); set DEEPMD_CUBLAS=0"));
  }

  int (*create_)(void**) = nullptr;
  int (*destroy_)(void*) = nullptr;
  int (*set_stream_)(void*, cudaStream_t) = nullptr;
  int (*set_workspace_)(void*, void*, std::size_t) = nullptr;
  int (*set_math_mode_)(void*, int) = nullptr;
  bool is_short_ = false;
  Gemm<double> dgemm_ = nullptr;
  Gemm<float> sgemm_ = nullptr;
  void* handle_ = nullptr;
  void* workspace_ = nullptr;
};

}  // namespace deepmd::device
