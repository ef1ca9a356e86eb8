#include "openmp_threads.hpp"

#include <dlfcn.h>

#include "utils.h"

namespace deepmd {
namespace {

constexpr int kPauseSoft = 1;  // omp_pause_soft of OpenMP 5: memory and settings of the threads are kept

using Pause = int (*)(int);

// Of the OpenMP library that LAMMPS is linked with: a process can hold others, and torch brings one.
Pause find_pause() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&LAMMPS_NS::utils::is_integer), &info) == 0) return nullptr;
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) library = dlopen(nullptr, RTLD_LAZY);  // LAMMPS is the program itself
  return library ? reinterpret_cast<Pause>(dlsym(library, "omp_pause_resource_all")) : nullptr;
}

}  // namespace

void rest_openmp_threads() {
  static const Pause pause = find_pause();
  if (pause != nullptr) pause(kPauseSoft);
}

}  // namespace deepmd
