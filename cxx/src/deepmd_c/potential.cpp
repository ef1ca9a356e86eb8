// Texts, neighbour lists and models of energies.
#include <limits>

#include "deepmd_c/common.hpp"

struct DP_DeepPot : deepmd_c::Held<deepmd::DeepPot> {};

namespace deepmd_c {
namespace {

DP_DeepPot* open(const char* path, int gpu_rank, const std::string& content) {
  auto* held = new DP_DeepPot;
  guarded(held, [&] { held->model.init(path, gpu_rank, content); });
  return held;
}

// Where the results of a call go.
template <class Real>
struct Results {
  double* energy;
  Real *force, *virial, *atomic_energy, *atomic_virial;
};

// A list, or none if `list` is null and there are no ghosts.
struct Neighbors {
  bool is_given;
  const DP_Nlist* list;
  int n_ghost, ago;
};

template <class Real>
void compute(DP_DeepPot* held, const Sizes& n, const Neighbors& neighbors, DP_ATOMS(Real), DP_PARAMETERS(Real),
             const Results<Real>& results) {
  guarded(held, [&] {
    const Atoms<Real> in = atoms_of(held->model, n, coord, atype, cell, fparam, aparam);
    const bool is_atomic = results.atomic_energy || results.atomic_virial;
    auto ask = [&](auto&... out) {
      if (neighbors.is_given) {
        held->model.compute(out..., in.coord, in.types, in.cell, neighbors.n_ghost, list_of(neighbors.list), neighbors.ago,
                            in.fparam, in.aparam);
      } else if (n.n_types != n.n_atoms) {
        held->model.compute_mixed_type(out..., static_cast<int>(n.n_frames), in.coord, in.types, in.cell, in.fparam, in.aparam);
      } else {
        held->model.compute(out..., in.coord, in.types, in.cell, in.fparam, in.aparam);
      }
    };
    std::vector<double> energy;
    std::vector<Real> force, virial, atom_energy, atom_virial;
    if (is_atomic) {
      ask(energy, force, virial, atom_energy, atom_virial);
    } else {
      ask(energy, force, virial);
    }
    give(energy, results.energy), give(force, results.force), give(virial, results.virial);
    give(atom_energy, results.atomic_energy), give(atom_virial, results.atomic_virial);
  });
}

}  // namespace
}  // namespace deepmd_c

using deepmd_c::Neighbors;
using deepmd_c::Results;
using deepmd_c::Sizes;

void DP_DeleteChar(const char* text) { delete[] text; }

const char* DP_ReadFileToChar2(const char* path, int* size) {
  std::string content;
  try {
    deepmd::read_file_to_string(path, content);
    deepmd::detail::require(content.size() < std::numeric_limits<int>::max(), std::string(path) + " is larger than 2 GB");
    *size = static_cast<int>(content.size());
  } catch (const std::exception& error) {
    content = error.what();
    *size = -static_cast<int>(content.size());
  }
  return deepmd_c::text_for_caller(content);
}

const char* DP_ReadFileToChar(const char* path) {
  int size = 0;
  const char* content = DP_ReadFileToChar2(path, &size);
  if (size >= 0) return content;
  DP_DeleteChar(content);
  return deepmd_c::text_for_caller("");
}

void DP_PrintSummary(const char* prefix) { deepmd::DeepPot().print_summary(prefix ? prefix : ""); }

DP_Nlist* DP_NewNlist(int inum, int* ilist, int* numneigh, int** firstneigh) {
  return new DP_Nlist{deepmd::InputNlist(inum, ilist, numneigh, firstneigh)};
}
DP_Nlist* DP_NewNlist_comm(int inum, int* ilist, int* numneigh, int** firstneigh, int, int*, int*, int*, int**, int*, int*,
                           void*, int) {
  return DP_NewNlist(inum, ilist, numneigh, firstneigh);
}
void DP_NlistSetMask(DP_Nlist* list, int mask) { list->list.set_mask(mask); }
void DP_NlistSetMapping(DP_Nlist* list, int* mapping) { list->list.set_mapping(mapping); }
const char* DP_NlistCheckOK(DP_Nlist*) { return deepmd_c::text_for_caller(""); }
void DP_DeleteNlist(DP_Nlist* list) { delete list; }

DP_DeepPot* DP_NewDeepPot(const char* path) { return deepmd_c::open(path, 0, ""); }
DP_DeepPot* DP_NewDeepPotWithParam(const char* path, int gpu_rank, const char*) {
  return deepmd_c::open(path, gpu_rank, "");  // content without its size: the file says the same
}
DP_DeepPot* DP_NewDeepPotWithParam2(const char* path, int gpu_rank, const char* content, int size) {
  return deepmd_c::open(path, gpu_rank, deepmd_c::content_of(content, size));
}
void DP_DeleteDeepPot(DP_DeepPot* held) { delete held; }

DP_DEFINE_FACTS(DP_DeepPot)
int DP_DeepPotGetNumbTypesSpin(DP_DeepPot*) { return 0; }
bool DP_DeepPotHasDefaultFParam(DP_DeepPot* held) {
  return deepmd_c::fact(held, false, [](const auto& model) { return model.has_default_fparam(); });
}
const char* DP_DeepPotGetTypeMap(DP_DeepPot* held) { return deepmd_c::type_map_of(held); }

#define DP_GIVEN(REAL) \
  Results<REAL> { energy, force, virial, atomic_energy, atomic_virial }
#define DP_DEFINE_ENERGIES(F, REAL)                                                                                       \
  void DP_DeepPotCompute##F(DP_DeepPot* held, int n, DP_ATOMS(REAL), DP_RESULTS(REAL)) {                                  \
    const REAL* none = nullptr;                                                                                           \
    deepmd_c::compute(held, Sizes{1, n, 0, n}, Neighbors{}, coord, atype, cell, none, none, DP_GIVEN(REAL));              \
  }                                                                                                                       \
  void DP_DeepPotComputeNList##F(DP_DeepPot* held, int n, DP_ATOMS(REAL), DP_LIST, DP_RESULTS(REAL)) {                    \
    const REAL* none = nullptr;                                                                                           \
    deepmd_c::compute(held, Sizes{1, n, nghost, n}, Neighbors{true, list, nghost, ago}, coord, atype, cell, none, none,   \
                      DP_GIVEN(REAL));                                                                                    \
  }                                                                                                                       \
  void DP_DeepPotCompute##F##2(DP_DeepPot * held, int frames, int n, DP_ATOMS(REAL), DP_PARAMETERS(REAL),                 \
                               DP_RESULTS(REAL)) {                                                                        \
    deepmd_c::compute(held, Sizes{frames, n, 0, n}, Neighbors{}, coord, atype, cell, fparam, aparam, DP_GIVEN(REAL));     \
  }                                                                                                                       \
  void DP_DeepPotComputeNList##F##2(DP_DeepPot * held, int frames, int n, DP_ATOMS(REAL), DP_LIST, DP_PARAMETERS(REAL),   \
                                    DP_RESULTS(REAL)) {                                                                   \
    deepmd_c::compute(held, Sizes{frames, n, nghost, n}, Neighbors{true, list, nghost, ago}, coord, atype, cell, fparam,  \
                      aparam, DP_GIVEN(REAL));                                                                            \
  }                                                                                                                       \
  void DP_DeepPotComputeMixedType##F(DP_DeepPot* held, int frames, int n, DP_ATOMS(REAL), DP_PARAMETERS(REAL),            \
                                     DP_RESULTS(REAL)) {                                                                  \
    deepmd_c::compute(held, Sizes{frames, n, 0, static_cast<long>(frames) * n}, Neighbors{}, coord, atype, cell, fparam,  \
                      aparam, DP_GIVEN(REAL));                                                                            \
  }
DP_DEFINE_ENERGIES(, double)
DP_DEFINE_ENERGIES(f, float)
