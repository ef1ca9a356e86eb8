#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace deepmd {

// Threads that wait for work and share a call: part k of it always runs as part k, so that what a part holds private is
// the same in every run. The calling thread does part 0 itself.
//
// Who waits looks again and again for a while, offering its core to others each time, and then sleeps: waking a sleeper
// costs some 0.1 ms, and the steps of a small system follow each other after a few. A thread that finds nothing to do
// for longer than that costs nothing.
//
// No OpenMP: torch and host programs bring their own runtimes of it, and a runtime's idle threads spin.
class ThreadTeam {
 public:
  explicit ThreadTeam(int n_threads, std::chrono::microseconds looking = std::chrono::milliseconds(1));
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return n_; }

  // Calls work(k) for k = 0 .. size() - 1 and waits for all. If parts throw, the exception of the first part is thrown
  // on. In a process that was forked from the team's one, which has no threads left, the parts run one after the other.
  template <class Work>
  void run(Work& work) {
    run_parts([](void* w, int part) { (*static_cast<Work*>(w))(part); }, &work);
  }

 private:
  using Call = void (*)(void* work, int part);
  void run_parts(Call call, void* work);
  void serve(int part);
  void do_part(int part) noexcept;
  void start_round();
  void wait_for_round(long seen);
  void finish_part();
  void wait_for_parts();

  int n_;
  std::chrono::microseconds looking_;
  long owner_;  // process that has the threads
  std::vector<std::thread> threads_;
  std::vector<std::exception_ptr> failures_;  // per part
  struct Signals {
    std::mutex mutex;
    std::condition_variable start, finish;
  };
  std::unique_ptr<Signals> signals_;
  std::atomic<long> round_{0};  // whoever sees a new one sees its call_ and work_
  std::atomic<int> n_running_{0};
  std::atomic<bool> is_closing_{false};
  Call call_ = nullptr;
  void* work_ = nullptr;
};

// Threads for one model: `wanted` if positive, else DP_INTRA_OP_PARALLELISM_THREADS or OMP_NUM_THREADS if set, else the
// cores that this process may use, divided among the ranks of the same node if it was started by mpirun.
int choose_thread_count(int wanted);

}  // namespace deepmd
