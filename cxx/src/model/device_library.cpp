#include "model/device_library.hpp"

#include <dlfcn.h>

#include <cstdlib>

#include "core/error.hpp"
#include "model/own_folder.hpp"

namespace deepmd {
namespace {

constexpr const char* kCuda = "libdeepmd_cuda.so";
constexpr const char* kEmulated = "libdeepmd_emulated.so";

struct Opened {
  const device::Border* border = nullptr;
  std::string why_not;
  int driver = 0;  // version as the driver counts: 1000 * major + 10 * minor
};

// Asks the driver itself how many devices it has; nothing else is loaded for that.
int count_by_driver(int* version, std::string* why_not) {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) {
    *why_not = "no NVIDIA driver is installed (libcuda.so.1 is not found)";
    return 0;
  }
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  const auto get_version = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDriverGetVersion"));
  int n = 0;
  if (!init || !count || init(0) != 0 || count(&n) != 0) {
    *why_not = "the NVIDIA driver does not answer, or sees no device";
    return 0;
  }
  if (get_version) get_version(version);
  if (n == 0) *why_not = "the NVIDIA driver sees no device (CUDA_VISIBLE_DEVICES may hide them)";
  return n;
}

const device::Border* load(const char* name, std::string* why_not) {
  void* const library = dlopen((own_folder() + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* problem = dlerror();
    *why_not = text(name, " cannot be loaded (", problem ? problem : "unknown reason", ")");
    return nullptr;
  }
  const auto get = reinterpret_cast<const device::Border* (*)()>(dlsym(library, "deepmd_device_border"));
  if (!get) *why_not = text(name, " belongs to another version; install the package anew");
  return get ? get() : nullptr;
}

Opened open_library() {
  Opened opened;
  const char* wish = std::getenv("DEEPMD_GPU");
  const std::string word = wish ? wish : "";
  if (word == "off") {
    opened.why_not = "DEEPMD_GPU=off leaves GPUs alone";
  } else if (word == "emulated") {
    opened.border = load(kEmulated, &opened.why_not);
  } else if (!word.empty() && word != "auto") {
    opened.why_not = text("the environment variable DEEPMD_GPU is '", word, "', expected auto, off or emulated");
#if DEEPMD_HAS_CUDA
  } else if (count_by_driver(&opened.driver, &opened.why_not) > 0) {
    opened.border = load(kCuda, &opened.why_not);
    if (opened.border && opened.border->count_devices() < 1) {
      opened.border = nullptr;
      opened.why_not = "the NVIDIA driver is older than the CUDA that the package was built with; update the driver";
    }
  }
#else
  } else {
    (void)kCuda, (void)count_by_driver;
    opened.why_not = "the package was built without a CUDA compiler";
  }
#endif
  return opened;
}

const Opened& opened() {
  static const Opened once = open_library();
  return once;
}

}  // namespace

const device::Border* device_border(std::string* why_not) {
  if (!opened().border && why_not) *why_not = opened().why_not;
  return opened().border;
}

bool has_device() { return opened().border && !opened().border->is_emulated; }

std::string describe_devices() {
  const device::Border* border = device_border(nullptr);
  if (!border) return "none in use: " + opened().why_not;
  std::string all;
  for (int k = 0; k < border->count_devices(); ++k) {
    std::string words, problem;
    if (border->describe_device(k, &words, &problem) != DEEPMD_OK) words = problem;
    all += (all.empty() ? "" : "; ") + words;
  }
  if (opened().driver > 0) all += text("; driver for CUDA ", opened().driver / 1000, ".", opened().driver % 1000 / 10);
  return all;
}

}  // namespace deepmd
