// Several models of energies on the same atoms.
#include "deepmd_c/common.hpp"

struct DP_DeepPotModelDevi : deepmd_c::Held<deepmd::DeepPotModelDevi> {};

namespace deepmd_c {
namespace {

template <class Real>
struct All {
  std::vector<double> energy;
  std::vector<std::vector<Real>> force, virial, atom_energy, atom_virial;
};

// list: nullptr for none.
template <class Real>
void compute(DP_DeepPotModelDevi* held, int n_frames, int n_atoms, bool with_list, const DP_Nlist* list, int nghost, int ago,
             DP_ATOMS(Real), DP_PARAMETERS(Real), DP_RESULTS(Real)) {
  guarded(held, [&] {
    deepmd::detail::require(n_frames == 1, "an ensemble takes one frame at a time, got " + std::to_string(n_frames));
    const Sizes n = {1, n_atoms, nghost, n_atoms};
    const Atoms<Real> in = atoms_of(held->model, n, coord, atype, cell, fparam, aparam);
    All<Real> all;
    if (with_list) {
      held->model.compute(all.energy, all.force, all.virial, all.atom_energy, all.atom_virial, in.coord, in.types, in.cell,
                          nghost, list_of(list), ago, in.fparam, in.aparam);
    } else {
      held->model.compute(all.energy, all.force, all.virial, all.atom_energy, all.atom_virial, in.coord, in.types, in.cell,
                          in.fparam, in.aparam);
    }
    give(all.energy, energy), give_rows(all.force, force), give_rows(all.virial, virial);
    give_rows(all.atom_energy, atomic_energy), give_rows(all.atom_virial, atomic_virial);
  });
}

}  // namespace
}  // namespace deepmd_c

DP_DeepPotModelDevi* DP_NewDeepPotModelDeviWithParam(const char** paths, int n_models, int gpu_rank, const char** contents,
                                                     int n_contents, const int* sizes) {
  auto* held = new DP_DeepPotModelDevi;
  deepmd_c::guarded(held, [&] {
    std::vector<std::string> bytes;
    for (int k = 0; k < n_contents; ++k) bytes.push_back(deepmd_c::content_of(contents[k], sizes[k]));
    held->model.init(std::vector<std::string>(paths, paths + n_models), gpu_rank, bytes);
  });
  return held;
}
DP_DeepPotModelDevi* DP_NewDeepPotModelDevi(const char** paths, int n_models) {
  return DP_NewDeepPotModelDeviWithParam(paths, n_models, 0, nullptr, 0, nullptr);
}
void DP_DeleteDeepPotModelDevi(DP_DeepPotModelDevi* held) { delete held; }

DP_DEFINE_FACTS(DP_DeepPotModelDevi)
int DP_DeepPotModelDeviGetNumbTypesSpin(DP_DeepPotModelDevi*) { return 0; }
bool DP_DeepPotModelDeviHasDefaultFParam(DP_DeepPotModelDevi* held) {
  return deepmd_c::fact(held, false, [](const auto& model) { return model.has_default_fparam(); });
}

#define DP_GIVEN energy, force, virial, atomic_energy, atomic_virial
#define DP_DEFINE_ENSEMBLE(F, REAL)                                                                                       \
  void DP_DeepPotModelDeviCompute##F(DP_DeepPotModelDevi* held, int n, DP_ATOMS(REAL), DP_RESULTS(REAL)) {                \
    const REAL* none = nullptr;                                                                                           \
    deepmd_c::compute(held, 1, n, false, nullptr, 0, 0, coord, atype, cell, none, none, DP_GIVEN);                        \
  }                                                                                                                       \
  void DP_DeepPotModelDeviComputeNList##F(DP_DeepPotModelDevi* held, int n, DP_ATOMS(REAL), DP_LIST, DP_RESULTS(REAL)) {  \
    const REAL* none = nullptr;                                                                                           \
    deepmd_c::compute(held, 1, n, true, list, nghost, ago, coord, atype, cell, none, none, DP_GIVEN);                     \
  }                                                                                                                       \
  void DP_DeepPotModelDeviCompute##F##2(DP_DeepPotModelDevi * held, int frames, int n, DP_ATOMS(REAL),                    \
                                        DP_PARAMETERS(REAL), DP_RESULTS(REAL)) {                                          \
    deepmd_c::compute(held, frames, n, false, nullptr, 0, 0, coord, atype, cell, fparam, aparam, DP_GIVEN);               \
  }                                                                                                                       \
  void DP_DeepPotModelDeviComputeNList##F##2(DP_DeepPotModelDevi * held, int frames, int n, DP_ATOMS(REAL), DP_LIST,      \
                                             DP_PARAMETERS(REAL), DP_RESULTS(REAL)) {                                     \
    deepmd_c::compute(held, frames, n, true, list, nghost, ago, coord, atype, cell, fparam, aparam, DP_GIVEN);            \
  }
DP_DEFINE_ENSEMBLE(, double)
DP_DEFINE_ENSEMBLE(f, float)
