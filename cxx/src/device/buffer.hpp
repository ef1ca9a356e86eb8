#pragma once

#include <cstddef>
#include <cstdint>

#include "core/error.hpp"

namespace deepmd::device {

// Whether a block of a kernel may have so many bytes; `what` completes "the kernel that is to".
inline void check_shared_memory(std::size_t bytes, std::size_t most, const char* what) {
  if (bytes <= most) return;
  throw Error(DEEPMD_ERROR_UNSUPPORTED, text("needs ", bytes, " bytes of a GPU's shared memory for the kernel that is to ", what,
                                             ", expected at most ", most));
}

// An array in a backend's memory that only grows; its content is lost when it does. A backend has
//   void* allocate(std::int64_t bytes)   throws DEEPMD_ERROR_MEMORY
//   void release(void*)
// and counts its allocations in generation(), so that recorded calls know when their pointers are stale.
template <class T, class Backend>
class Buffer {
 public:
  explicit Buffer(Backend& backend) : backend_(&backend) {}
  ~Buffer() { clear(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Room for n elements, at once for up to n + n / 4 if that is no more than `most`.
  T* reserve(std::int64_t n, std::int64_t most = INT64_MAX / 32) {
    if (n <= size_) return data_;
    const std::int64_t roomy = n + n / 4, wanted = roomy <= most ? roomy : n;
    clear();
    data_ = static_cast<T*>(backend_->allocate(wanted * static_cast<std::int64_t>(sizeof(T))));
    size_ = wanted;
    return data_;
  }
  void clear() {
    if (data_) backend_->release(data_);
    data_ = nullptr;
    size_ = 0;
  }
  T* data() const { return data_; }
  std::int64_t bytes() const { return size_ * static_cast<std::int64_t>(sizeof(T)); }

 private:
  Backend* backend_;
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

// The same in memory of the host from which the device copies.
template <class T, class Backend>
class Staging {
 public:
  explicit Staging(Backend& backend) : backend_(&backend) {}
  ~Staging() {
    if (data_) backend_->release_staging(data_);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  T* reserve(std::int64_t n) {
    if (n <= size_) return data_;
    if (data_) backend_->release_staging(data_);
    data_ = nullptr;
    size_ = n + n / 4;
    data_ = static_cast<T*>(backend_->allocate_staging(size_ * static_cast<std::int64_t>(sizeof(T))));
    return data_;
  }
  T* data() const { return data_; }

 private:
  Backend* backend_;
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace deepmd::device
