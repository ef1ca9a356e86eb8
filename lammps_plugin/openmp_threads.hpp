// The OpenMP threads of LAMMPS itself.
#pragma once

namespace deepmd {

// As long as it lives, LAMMPS' own parallel loops run on one thread. Without styles of its OPENMP package only one is left, which wraps
// positions whenever the list is rebuilt; waking threads for it takes milliseconds, and then they spin for some ten milliseconds
// on the cores that the engine's threads need.
class RestingThreads {
 public:
  RestingThreads();
  ~RestingThreads();
  RestingThreads(const RestingThreads&) = delete;
  RestingThreads& operator=(const RestingThreads&) = delete;

 private:
  int before_ = 0;  // 0: LAMMPS has no OpenMP
};

}  // namespace deepmd
