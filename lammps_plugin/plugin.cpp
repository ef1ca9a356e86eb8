// The entry point that LAMMPS calls after dlopen: offers pair_style deepmd, or the reason why it cannot be had.
#include <mpi.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "compute_deeptensor_atom.h"
#include "error.h"
#include "fix_dplr.h"
#include "force.h"
#include "lammps.h"
#include "library.h"
#include "pair_deepmd.h"

// lammpsplugin.h is not installed with LAMMPS; this is the layout that its PLUGIN package has had since March 2022.
extern "C" {
typedef void*(lammpsplugin_factory1)(void*);
typedef void*(lammpsplugin_factory2)(void*, int, char**);
typedef struct {
  const char* version;
  const char* style;
  const char* name;
  const char* info;
  const char* author;
  union {
    lammpsplugin_factory1* v1;
    lammpsplugin_factory2* v2;
  } creator;
  void* handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t*, void*);
}

namespace deepmd {
namespace {

#if defined(OPEN_MPI)
const char kBuiltMpi[] = "Open MPI";
#elif defined(MPICH_VERSION) || defined(MPICH)
const char kBuiltMpi[] = "MPICH";
#else
const char kBuiltMpi[] = "";
#endif

/// Libraries that keep MPICH's binary interface call themselves by other names; Open MPI and LAMMPS' stand-in do not.
std::string mpi_family() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text);
  if (version.find("Open MPI") != std::string::npos) return "Open MPI";
  if (version.find("STUBS") != std::string::npos) return "no MPI";
  return "MPICH";
}

/// Why this plugin must not touch the classes of the LAMMPS that loads it; "" if it may. Uses C functions only.
std::string reason_to_refuse(void* lmp) {
  const char* allow = std::getenv("DEEPMD_ALLOW_LAMMPS_MISMATCH");
  if (allow != nullptr && std::strcmp(allow, "1") == 0) return "";
  const int version = lammps_version(lmp);
  if (version != DEEPMD_LAMMPS_NUMERIC_VERSION) {
    return "this plugin was built for LAMMPS " + std::to_string(DEEPMD_LAMMPS_NUMERIC_VERSION) +
           " (yyyymmdd), but is loaded into LAMMPS " + std::to_string(version) +
           "; rebuild it for that version, or set DEEPMD_ALLOW_LAMMPS_MISMATCH=1 at your own risk";
  }
  if (lammps_extract_setting(lmp, "tagint") != static_cast<int>(sizeof(LAMMPS_NS::tagint))) {
    return "this plugin was built for another size of atom IDs (-DLAMMPS_SMALLBIG or -DLAMMPS_BIGBIG) than this LAMMPS";
  }
  const std::string family = mpi_family();
  if (*kBuiltMpi != '\0' && family != kBuiltMpi) {
    return std::string("this plugin was built with ") + kBuiltMpi + ", but this LAMMPS runs with " + family;
  }
  return "";
}

void* create_pair(void* lmp) { return new PairDeepMD(static_cast<LAMMPS_NS::LAMMPS*>(lmp)); }

void* create_spin(void* lmp) { return new PairDeepMD(static_cast<LAMMPS_NS::LAMMPS*>(lmp), true); }

void* create_compute(void* lmp, int narg, char** arg) {
  return new ComputeDeepTensorAtom(static_cast<LAMMPS_NS::LAMMPS*>(lmp), narg, arg);
}

void* create_fix(void* lmp, int narg, char** arg) {
  return new FixDplr(static_cast<LAMMPS_NS::LAMMPS*>(lmp), narg, arg);
}

/// Inputs for DeePMD-kit name this style, which keeps its forces apart. Here fix dplr takes them from the sites, and LAMMPS' own
/// pppm serves.
void* create_kspace(void* lmp) {
  int suffix = 0;
  return static_cast<LAMMPS_NS::LAMMPS*>(lmp)->force->new_kspace("pppm", 0, suffix);
}

[[noreturn]] void refuse(void* pointer, const std::string& style, const std::string& reason) {
  static_cast<LAMMPS_NS::LAMMPS*>(pointer)->error->all("plugin.cpp", __LINE__, style + ": " + reason);
}

/// These fail when a style is used, not when the plugin is found: other inputs go on working.
void* refuse_pair(void* pointer) { refuse(pointer, "pair_style deepmd", reason_to_refuse(pointer)); }
void* refuse_kspace(void* pointer) { refuse(pointer, "kspace_style pppm/dplr", reason_to_refuse(pointer)); }
void* refuse_compute(void* pointer, int, char**) {
  refuse(pointer, "compute deeptensor/atom", reason_to_refuse(pointer));
}
void* refuse_fix(void* pointer, int, char**) { refuse(pointer, "fix dplr", reason_to_refuse(pointer)); }

void* refuse_spin(void* pointer) { refuse(pointer, "pair_style deepspin", reason_to_refuse(pointer)); }

}  // namespace
}  // namespace deepmd

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void* lmp, void* handle,
                                                                         void* register_style) {
  static const std::string info = std::string("deepmd styles ") + deepmd_version();
  lammpsplugin_t plugin;
  plugin.version = DEEPMD_LAMMPS_VERSION;
  plugin.info = info.c_str();
  plugin.author = "the deepmd-engine developers";
  plugin.handle = handle;
  const auto add = [&](const char* style, const char* name) {
    plugin.style = style;
    plugin.name = name;
    reinterpret_cast<lammpsplugin_regfunc>(register_style)(&plugin, lmp);
  };
  const bool fits = deepmd::reason_to_refuse(lmp).empty();
  plugin.creator.v1 = fits ? &deepmd::create_pair : &deepmd::refuse_pair;
  add("pair", "deepmd");
  plugin.creator.v1 = fits ? &deepmd::create_spin : &deepmd::refuse_spin;
  add("pair", "deepspin");
  plugin.creator.v1 = fits ? &deepmd::create_kspace : &deepmd::refuse_kspace;
  add("kspace", "pppm/dplr");
  plugin.creator.v2 = fits ? &deepmd::create_compute : &deepmd::refuse_compute;
  add("compute", "deeptensor/atom");
  plugin.creator.v2 = fits ? &deepmd::create_fix : &deepmd::refuse_fix;
  add("fix", "dplr");
}
