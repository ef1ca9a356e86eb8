// Models of energies that depend on spins.
#include "deepmd/DeepSpin.h"
#include "deepmd_c/common.hpp"

struct DP_DeepSpin : deepmd_c::Held<deepmd::DeepSpin> {};

namespace deepmd_c {
namespace {

template <class Real>
void compute(DP_DeepSpin* held, int n_frames, int n_atoms, bool with_list, const DP_Nlist* list, int nghost, int ago,
             DP_SPIN_ATOMS(Real), DP_PARAMETERS(Real), DP_SPIN_RESULTS(Real)) {
  guarded(held, [&] {
    deepmd::detail::require(n_frames == 1, "a model of spins takes one frame at a time, got " + std::to_string(n_frames));
    const Sizes n = {1, n_atoms, nghost, n_atoms};
    const Atoms<Real> in = atoms_of(held->model, n, coord, atype, cell, fparam, aparam);
    const std::vector<Real> spins = vector_of(spin, 3L * n_atoms);
    double total = 0.0;
    std::vector<Real> forces, spin_forces, stress, atom_energy, atom_virial;
    const bool is_atomic = atomic_energy || atomic_virial;
    if (with_list) {
      deepmd::detail::require(!is_atomic, "atomic energies and virials of spins are not given with a list of the caller; pass NULL");
      held->model.compute(total, forces, spin_forces, stress, in.coord, spins, in.types, in.cell, nghost, list_of(list), ago,
                          in.fparam, in.aparam);
    } else {
      held->model.compute(total, forces, spin_forces, stress, atom_energy, atom_virial, in.coord, spins, in.types, in.cell,
                          in.fparam, in.aparam);
    }
    if (energy) *energy = total;
    give(forces, force), give(spin_forces, force_mag), give(stress, virial);
    give(atom_energy, atomic_energy), give(atom_virial, atomic_virial);
  });
}

}  // namespace
}  // namespace deepmd_c

DP_DeepSpin* DP_NewDeepSpinWithParam2(const char* path, int gpu_rank, const char* content, int size) {
  auto* held = new DP_DeepSpin;
  deepmd_c::guarded(held, [&] { held->model.init(path, gpu_rank, deepmd_c::content_of(content, size)); });
  return held;
}
DP_DeepSpin* DP_NewDeepSpin(const char* path) { return DP_NewDeepSpinWithParam2(path, 0, nullptr, 0); }
void DP_DeleteDeepSpin(DP_DeepSpin* held) { delete held; }

DP_DEFINE_FACTS(DP_DeepSpin)
int DP_DeepSpinGetNumbTypesSpin(DP_DeepSpin*) { return 0; }  // of types of their own for spins; here atoms carry them
bool DP_DeepSpinHasDefaultFParam(DP_DeepSpin*) { return false; }
const char* DP_DeepSpinGetTypeMap(DP_DeepSpin* held) { return deepmd_c::type_map_of(held); }

#define DP_GIVEN energy, force, force_mag, virial, atomic_energy, atomic_virial
#define DP_DEFINE_SPIN_ENERGIES(F, REAL)                                                                                  \
  void DP_DeepSpinCompute##F##2(DP_DeepSpin * held, int frames, int n, DP_SPIN_ATOMS(REAL), DP_PARAMETERS(REAL),          \
                                DP_SPIN_RESULTS(REAL)) {                                                                  \
    deepmd_c::compute(held, frames, n, false, nullptr, 0, 0, coord, spin, atype, cell, fparam, aparam, DP_GIVEN);         \
  }                                                                                                                       \
  void DP_DeepSpinComputeNList##F##2(DP_DeepSpin * held, int frames, int n, DP_SPIN_ATOMS(REAL), DP_LIST,                 \
                                     DP_PARAMETERS(REAL), DP_SPIN_RESULTS(REAL)) {                                        \
    deepmd_c::compute(held, frames, n, true, list, nghost, ago, coord, spin, atype, cell, fparam, aparam, DP_GIVEN);      \
  }
DP_DEFINE_SPIN_ENERGIES(, double)
DP_DEFINE_SPIN_ENERGIES(f, float)
