#include "model/script_library.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "core/error.hpp"
#include "model/own_folder.hpp"
#include "model/script_border.hpp"

namespace deepmd {
namespace {

constexpr const char* kLibrary = "libdeepmd_script.so";

// torch must not bind its matrix products to those of the host: LAMMPS exports a slow reference implementation, with
// which torch runs more than ten times slower. RTLD_DEEPBIND makes it look among its own libraries first. Sanitizers
// and preloaded libraries have to see the calls, hence the variable.
int open_flags() {
  int flags = RTLD_NOW | RTLD_LOCAL;
#if defined(RTLD_DEEPBIND)
  const char* share = std::getenv("DEEPMD_SHARE_SYMBOLS");
  const bool is_shared = share && std::string(share) == "1";
  if (!is_shared && (dlsym(RTLD_DEFAULT, "dgemm_") || dlsym(RTLD_DEFAULT, "sgemm_"))) flags |= RTLD_DEEPBIND;
#endif
  return flags;
}

std::string last_problem() {
  const char* problem = dlerror();
  return problem ? problem : "unknown reason";
}

// torch may be installed in another place than beside this package: DEEPMD_TORCH_LIB names the folder of libtorch.so,
// whose libraries are then found by name.
void* open_library() {
  const std::string path = own_folder() + kLibrary;
  if (void* library = dlopen(path.c_str(), open_flags())) return library;
  const std::string problem = last_problem();
  const char* torch_folder = std::getenv("DEEPMD_TORCH_LIB");
  if (torch_folder && *torch_folder && dlopen((std::string(torch_folder) + "/libtorch.so").c_str(), open_flags())) {
    if (void* library = dlopen(path.c_str(), open_flags())) return library;
  }
  throw Error(DEEPMD_ERROR_UNSUPPORTED,
              text("the TorchScript path cannot be loaded (", problem, "); it needs the torch that the package was built "
                   "with: reinstall the package after a change of torch, or set DEEPMD_TORCH_LIB to its folder lib"));
}

const ScriptBorder& border() {
  static const ScriptBorder* const loaded = [] {
    const auto get = reinterpret_cast<const ScriptBorder* (*)()>(dlsym(open_library(), "deepmd_script_border"));
    if (!get) throw Error(DEEPMD_ERROR_UNSUPPORTED, text(kLibrary, " belongs to another version; install the package anew"));
    return get();
  }();
  return *loaded;
}

// Turns a status back into an exception.
template <class Work>
void crossing(Work&& work) {
  std::string problem;
  const deepmd_status status = work(&problem);
  if (status == DEEPMD_ERROR_MEMORY && problem.empty()) throw std::bad_alloc();
  if (status != DEEPMD_OK) throw Error(status, problem);
}

class BorderedPotential : public Potential {
 public:
  BorderedPotential(const ModelFile& file, const DeviceChoice& device) {
    crossing([&](std::string* problem) { return border().open(file, device, &inner_, problem); });
  }
  ~BorderedPotential() override {
    if (inner_) border().close(inner_);
  }
  BorderedPotential(const BorderedPotential&) = delete;
  BorderedPotential& operator=(const BorderedPotential&) = delete;

  const char* name() const override { return "script"; }
  std::string description() const override { return border().describe(*inner_); }
  void evaluate(const Frame& frame, const Result& result) override {
    crossing([&](std::string* problem) { return border().evaluate(*inner_, frame, result, problem); });
  }
  void evaluate_output(const Frame& frame, const OutputResult& result) override {
    crossing([&](std::string* problem) { return border().evaluate_output(*inner_, frame, result, problem); });
  }

 private:
  Potential* inner_ = nullptr;
};

}  // namespace

std::unique_ptr<Potential> open_script_potential(const ModelFile& file, const DeviceChoice& device) {
  return std::make_unique<BorderedPotential>(file, device);
}

bool has_gpu() {
  const char* const devices[] = {"/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg"};
  bool is_possible = false;
  for (const char* device : devices) is_possible = is_possible || access(device, F_OK) == 0;
  if (!is_possible) return false;
  try {
    return border().count_gpus() > 0;
  } catch (const Error&) {
    return false;  // no torch, no GPU path
  }
}

}  // namespace deepmd
