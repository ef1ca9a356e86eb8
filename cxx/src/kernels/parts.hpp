// The threads of the training kernels: a call runs as parts of its range, each on a thread of one team.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/thread_team.hpp"

namespace deepmd {

// The team of this process, null for one thread; `set_training_threads` makes it anew where the number changes, and
// must not run beside a kernel. Kernels that run beside each other take turns.
ThreadTeam* training_team();
void set_training_threads(int n);

// Held while a team works; a second caller waits.
class Turn {
 public:
  Turn();
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
};

// Calls work(begin, end) for parts of 0 .. n; in one part where each would have less than `least`.
template <class Work>
void in_parts(std::int64_t n, std::int64_t least, const Work& work) {
  ThreadTeam* team = training_team();
  const std::int64_t parts = team ? std::min<std::int64_t>(team->size(), n / std::max<std::int64_t>(least, 1)) : 1;
  if (parts <= 1) return work(std::int64_t(0), n);
  auto one = [&](int part) {
    if (part < parts) work(n * part / parts, n * (part + 1) / parts);
  };
  Turn turn;
  team->run(one);
}

}  // namespace deepmd
