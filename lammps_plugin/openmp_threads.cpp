#include "openmp_threads.hpp"

#include <dlfcn.h>

#include "utils.h"

namespace deepmd {
namespace {

using Get = int (*)();
using Set = void (*)(int);

struct OpenMP {
  Get get = nullptr;
  Set set = nullptr;
};

// Of the OpenMP library that LAMMPS is linked with: a process can hold others, and torch brings one.
OpenMP find_openmp() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&LAMMPS_NS::utils::is_integer), &info) == 0) return {};
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) library = dlopen(nullptr, RTLD_LAZY);  // LAMMPS is the program itself
  if (library == nullptr) return {};
  return {reinterpret_cast<Get>(dlsym(library, "omp_get_max_threads")), reinterpret_cast<Set>(dlsym(library, "omp_set_num_threads"))};
}

const OpenMP& openmp() {
  static const OpenMP found = find_openmp();
  return found;
}

}  // namespace

RestingThreads::RestingThreads() {
  if (openmp().get == nullptr || openmp().set == nullptr) return;
  before_ = openmp().get();
  openmp().set(1);
}

RestingThreads::~RestingThreads() {
  if (before_ > 0 && openmp().get() == 1) openmp().set(before_);
}

}  // namespace deepmd
