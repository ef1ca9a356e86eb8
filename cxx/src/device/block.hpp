// How one body of code runs on a GPU and on the host. A body is written for a whole block of threads: what the threads do
// between two barriers is a function of the thread's number, given to each() or run(); loops and branches around these
// calls are the same for all threads. On a GPU each thread runs the function for itself, on the host (host_block.hpp) one
// thread after the other. So numbers, indices and list logic are tested anywhere; what only a GPU can show are races
// inside one each(), and speed.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define DEEPMD_BODY __device__ __forceinline__
#define DEEPMD_UNROLL _Pragma("unroll")
#define DEEPMD_ANYWHERE __host__ __device__  // called by bodies and by what launches them
#else
#define DEEPMD_BODY inline
#define DEEPMD_UNROLL
#define DEEPMD_ANYWHERE
#endif

namespace deepmd::device {

constexpr int kThreads = 128;  // in every block
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kLanes = 8;  // neighbouring threads whose numbers can be added up without shared memory
constexpr int kGroups = kThreads / kLanes;
constexpr std::size_t kUsualShared = 48 << 10;  // bytes of shared memory that every device gives without being asked

#if defined(__CUDACC__)

// A number of each thread that lives longer than one each().
template <class T>
struct OwnNumber {
  T value;
  DEEPMD_BODY T& operator[](int) { return value; }
  DEEPMD_BODY const T& operator[](int) const { return value; }
};

class CudaBlock {
 public:
  template <class T>
  using PerThread = OwnNumber<T>;

  __device__ explicit CudaBlock(unsigned char* shared) : shared_(shared) {}
  DEEPMD_BODY std::int64_t index() const { return blockIdx.x; }
  DEEPMD_BODY std::int64_t n_blocks() const { return gridDim.x; }
  DEEPMD_BODY unsigned char* shared() const { return shared_; }

  // f(t) for every thread, then a barrier.
  template <class F>
  DEEPMD_BODY void each(F&& f) {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  // Without the barrier: for work in numbers of the thread's own.
  template <class F>
  DEEPMD_BODY void run(F&& f) {
    f(static_cast<int>(threadIdx.x));
  }
  DEEPMD_BODY void barrier() { __syncthreads(); }

  // Each thread gets the sum over its group of kLanes threads, in one order for all.
  template <class T>
  DEEPMD_BODY void sum_of_lanes(OwnNumber<T>& v) {
DEEPMD_UNROLL
    for (int apart = 1; apart < kLanes; apart *= 2) v.value += __shfl_xor_sync(0xffffffffu, v.value, apart);
  }
  // words [kWarps] in shared memory: bit l of word w tells whether the flag of thread 32 w + l is set. Ends with a barrier.
  DEEPMD_BODY void ballot(const OwnNumber<int>& flag, unsigned* words) {
    const unsigned word = __ballot_sync(0xffffffffu, flag.value != 0);
    if (threadIdx.x % kWarp == 0) words[threadIdx.x / kWarp] = word;
    __syncthreads();
  }
  // Adds one and returns what was there: the order among threads is not defined.
  DEEPMD_BODY int count_up(int* place) { return atomicAdd(place, 1); }

 private:
  unsigned char* shared_;
};

DEEPMD_BODY int count_bits(unsigned word) { return __popc(word); }

#else

inline int count_bits(unsigned word) { return __builtin_popcount(word); }

#endif

// Threads below t whose flag is set in words of a ballot.
DEEPMD_BODY int flags_below(const unsigned* words, int t) {
  int n = 0;
  for (int w = 0; w < t / kWarp; ++w) n += count_bits(words[w]);
  return n + count_bits(words[t / kWarp] & ((1u << (t % kWarp)) - 1u));
}

DEEPMD_BODY int all_flags(const unsigned* words) {
  int n = 0;
  for (int w = 0; w < kWarps; ++w) n += count_bits(words[w]);
  return n;
}

// Takes pieces from shared memory, one after the other, each at a multiple of 16 bytes.
class Arena {
 public:
  DEEPMD_BODY explicit Arena(unsigned char* begin) : next_(begin) {}
  template <class T>
  DEEPMD_BODY T* take(std::size_t n) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += bytes_of<T>(n);
    return piece;
  }
  template <class T>
  DEEPMD_ANYWHERE static constexpr std::size_t bytes_of(std::size_t n) {
    return (n * sizeof(T) + 15) / 16 * 16;
  }

 private:
  unsigned char* next_;
};

// Sums over the block of kValues numbers of each thread: total [kValues] in shared memory, after a barrier.
// work [kValues * kGroups] in shared memory. The order is fixed.
template <int kValues, class Block>
DEEPMD_BODY void sum_over_block(Block& block, typename Block::template PerThread<double>* values, double* work, double* total) {
  for (int v = 0; v < kValues; ++v) block.sum_of_lanes(values[v]);
  block.each([&](int t) {
    if (t % kLanes != 0) return;
    for (int v = 0; v < kValues; ++v) work[v * kGroups + t / kLanes] = values[v][t];
  });
  block.each([&](int t) {
    if (t >= kValues) return;
    double sum = 0;
    for (int g = 0; g < kGroups; ++g) sum += work[t * kGroups + g];
    total[t] = sum;
  });
}

}  // namespace deepmd::device
