#include "core/thread_team.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace deepmd {
namespace {

template <class Condition>
bool look_for(std::chrono::microseconds time, const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    if (condition()) return true;
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  return condition();
}

}  // namespace

ThreadTeam::ThreadTeam(int n_threads, std::chrono::microseconds looking)
    : n_(std::max(1, n_threads)), looking_(looking), owner_(getpid()), failures_(n_), signals_(new Signals) {
  for (int part = 1; part < n_; ++part) threads_.emplace_back(&ThreadTeam::serve, this, part);
}

ThreadTeam::~ThreadTeam() {
  if (getpid() != owner_) {  // the threads are not in this process and cannot be joined
    for (std::thread& thread : threads_) thread.detach();
    signals_.release();  // destroying what a thread waits for would wait for that thread
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(signals_->mutex);
    is_closing_.store(true);
  }
  signals_->start.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::do_part(int part) noexcept {
  try {
    failures_[part] = nullptr;
    call_(work_, part);
  } catch (...) {
    failures_[part] = std::current_exception();
  }
}

void ThreadTeam::start_round() {
  n_running_.store(n_ - 1, std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(signals_->mutex);  // or a thread could miss it between looking and sleeping
    round_.fetch_add(1, std::memory_order_release);
  }
  signals_->start.notify_all();
}

void ThreadTeam::wait_for_round(long seen) {
  const auto is_called = [&] { return round_.load(std::memory_order_acquire) != seen || is_closing_.load(); };
  if (look_for(looking_, is_called)) return;
  std::unique_lock<std::mutex> lock(signals_->mutex);
  signals_->start.wait(lock, is_called);
}

void ThreadTeam::finish_part() {
  if (n_running_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  const std::lock_guard<std::mutex> lock(signals_->mutex);
  signals_->finish.notify_one();
}

void ThreadTeam::wait_for_parts() {
  const auto is_finished = [&] { return n_running_.load(std::memory_order_acquire) == 0; };
  if (look_for(looking_, is_finished)) return;
  std::unique_lock<std::mutex> lock(signals_->mutex);
  signals_->finish.wait(lock, is_finished);
}

void ThreadTeam::serve(int part) {
  for (long seen = 0; true; ++seen) {  // a round begins only after all parts of the one before have finished
    wait_for_round(seen);
    if (is_closing_.load()) return;
    do_part(part);
    finish_part();
  }
}

void ThreadTeam::run_parts(Call call, void* work) {
  const bool has_threads = n_ > 1 && getpid() == owner_;
  call_ = call, work_ = work;
  if (has_threads) {
    start_round();
  } else {
    for (int part = 1; part < n_; ++part) do_part(part);
  }
  do_part(0);
  if (has_threads) wait_for_parts();
  for (const std::exception_ptr& failure : failures_) {
    if (failure) std::rethrow_exception(failure);
  }
}

namespace {

int positive_number(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? std::max(0, std::atoi(value)) : 0;
}

// Processes of this job on this node, as the usual launchers say; 1 if they say nothing.
int n_local_ranks() {
  for (const char* variable : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE",
                               "SLURM_NTASKS_PER_NODE"}) {
    if (const int n = positive_number(variable)) return n;
  }
  return 1;
}

int n_usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

int choose_thread_count(int wanted) {
  if (wanted > 0) return wanted;
  for (const char* variable : {"DP_INTRA_OP_PARALLELISM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int n = positive_number(variable)) return n;
  }
  // A launcher that binds its ranks has divided the cores already; then the share is small and this leaves one thread.
  const int ranks = n_local_ranks(), cores = n_usable_cores();
  return std::max(1, cores / ranks);
}

}  // namespace deepmd
