// deepmd_plugin.so, the file that LAMMPS finds and opens: it loads the plugin proper in a scope of its own.
//
// LAMMPS carries a reference implementation of BLAS whose symbols (dgemm_ ...) are global in the process. Loaded in the
// ordinary way, torch's libraries would bind their own matrix products to it and run them more than ten times slower.
// RTLD_DEEPBIND makes the plugin and everything that comes with it look among themselves first.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

/// Path of deepmd_pair.so, which is installed beside this file.
std::string plugin_path() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&plugin_path), &info) == 0 || info.dli_fname == nullptr) return "deepmd_pair.so";
  const std::string own(info.dli_fname);
  const auto slash = own.rfind('/');
  return (slash == std::string::npos ? std::string() : own.substr(0, slash + 1)) + "deepmd_pair.so";
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void* lmp, void* handle, void* register_style) {
  const std::string path = plugin_path();
  int flags = RTLD_NOW | RTLD_LOCAL;
#if defined(RTLD_DEEPBIND)
  // Sanitizers and preloaded libraries have to see the calls: DEEPMD_SHARE_SYMBOLS=1 loads in the ordinary way.
  const char* share = std::getenv("DEEPMD_SHARE_SYMBOLS");
  if (share == nullptr || std::string(share) != "1") flags |= RTLD_DEEPBIND;
#endif
  void* library = dlopen(path.c_str(), flags);
  if (library == nullptr) {
    std::fprintf(stderr, "deepmd: pair_style deepmd is not available, the plugin cannot be loaded: %s; run dp doctor\n",
                 dlerror());
    return;
  }
  using Init = void (*)(void*, void*, void*);
  if (auto init = reinterpret_cast<Init>(dlsym(library, "lammpsplugin_init"))) init(lmp, handle, register_style);
}
