// Dipoles and polarisabilities.
#include "deepmd/DeepTensor.h"

#include <cstdlib>
#include <new>

#include "deepmd_c/common.hpp"

struct DP_DeepTensor : deepmd_c::Held<deepmd::DeepTensor> {
  std::vector<int> selected;
};

namespace deepmd_c {
namespace {

// A copy that the caller frees.
template <class Real>
void hand_over(const std::vector<Real>& values, Real** to, int* size) {
  if (size) *size = static_cast<int>(values.size());
  if (!to) return;
  *to = static_cast<Real*>(std::malloc(std::max<std::size_t>(1, values.size()) * sizeof(Real)));
  if (*to == nullptr) throw std::bad_alloc();
  give(values, *to);
}

template <class Real>
Atoms<Real> atoms_of_one_frame(const deepmd::DeepTensor& model, long n_atoms, DP_ATOMS(Real)) {
  const Real* none = nullptr;
  return atoms_of(model, Sizes{1, n_atoms, 0, n_atoms}, coord, atype, cell, none, none);
}

template <class Real>
void compute_tensor(DP_DeepTensor* held, int n_atoms, DP_ATOMS(Real), const DP_Nlist* list, bool with_list, int nghost,
                    Real** tensor, int* size) {
  guarded(held, [&] {
    const Atoms<Real> in = atoms_of_one_frame(held->model, n_atoms, coord, atype, cell);
    std::vector<Real> values;
    if (with_list) {
      held->model.compute(values, in.coord, in.types, in.cell, nghost, list_of(list));
    } else {
      held->model.compute(values, in.coord, in.types, in.cell);
    }
    hand_over(values, tensor, size);
  });
}

template <class Real>
void compute(DP_DeepTensor* held, int n_atoms, DP_ATOMS(Real), const DP_Nlist* list, bool with_list, int nghost,
             DP_TENSOR_RESULTS(Real)) {
  guarded(held, [&] {
    const Atoms<Real> in = atoms_of_one_frame(held->model, n_atoms, coord, atype, cell);
    std::vector<Real> frame, forces, virials, atoms, atom_virials;
    if (with_list) {
      held->model.compute(frame, forces, virials, atoms, atom_virials, in.coord, in.types, in.cell, nghost, list_of(list));
    } else {
      held->model.compute(frame, forces, virials, atoms, atom_virials, in.coord, in.types, in.cell);
    }
    hand_over(atoms, atomic_tensor, size_at);
    give(frame, global_tensor), give(forces, force), give(virials, virial), give(atom_virials, atomic_virial);
  });
}

}  // namespace
}  // namespace deepmd_c

DP_DeepTensor* DP_NewDeepTensorWithParam(const char* path, int gpu_rank, const char*) {
  auto* held = new DP_DeepTensor;
  deepmd_c::guarded(held, [&] {
    held->model.init(path, gpu_rank);
    held->selected = held->model.sel_types();
  });
  return held;
}
DP_DeepTensor* DP_NewDeepTensor(const char* path) { return DP_NewDeepTensorWithParam(path, 0, ""); }
void DP_DeleteDeepTensor(DP_DeepTensor* held) { delete held; }

double DP_DeepTensorGetCutoff(DP_DeepTensor* held) {
  return deepmd_c::fact(held, 0.0, [](const auto& model) { return model.cutoff(); });
}
int DP_DeepTensorGetNumbTypes(DP_DeepTensor* held) {
  return deepmd_c::fact(held, 0, [](const auto& model) { return model.numb_types(); });
}
int DP_DeepTensorGetOutputDim(DP_DeepTensor* held) {
  return deepmd_c::fact(held, 0, [](const auto& model) { return model.output_dim(); });
}
int* DP_DeepTensorGetSelTypes(DP_DeepTensor* held) { return held->selected.data(); }
int DP_DeepTensorGetNumbSelTypes(DP_DeepTensor* held) { return static_cast<int>(held->selected.size()); }
const char* DP_DeepTensorGetTypeMap(DP_DeepTensor* held) { return deepmd_c::type_map_of(held); }
const char* DP_DeepTensorCheckOK(DP_DeepTensor* held) { return deepmd_c::text_for_caller(held->failure); }

#define DP_GIVEN global_tensor, force, virial, atomic_tensor, atomic_virial, size_at
#define DP_DEFINE_TENSORS(F, REAL)                                                                                        \
  void DP_DeepTensorComputeTensor##F(DP_DeepTensor* held, int n, DP_ATOMS(REAL), REAL** tensor, int* size) {              \
    deepmd_c::compute_tensor(held, n, coord, atype, cell, nullptr, false, 0, tensor, size);                               \
  }                                                                                                                       \
  void DP_DeepTensorComputeTensorNList##F(DP_DeepTensor* held, int n, DP_ATOMS(REAL), int nghost, const DP_Nlist* list,   \
                                          REAL** tensor, int* size) {                                                     \
    deepmd_c::compute_tensor(held, n, coord, atype, cell, list, true, nghost, tensor, size);                              \
  }                                                                                                                       \
  void DP_DeepTensorCompute##F(DP_DeepTensor* held, int n, DP_ATOMS(REAL), DP_TENSOR_RESULTS(REAL)) {                     \
    deepmd_c::compute(held, n, coord, atype, cell, nullptr, false, 0, DP_GIVEN);                                          \
  }                                                                                                                       \
  void DP_DeepTensorComputeNList##F(DP_DeepTensor* held, int n, DP_ATOMS(REAL), int nghost, const DP_Nlist* list,         \
                                    DP_TENSOR_RESULTS(REAL)) {                                                            \
    deepmd_c::compute(held, n, coord, atype, cell, list, true, nghost, DP_GIVEN);                                         \
  }
DP_DEFINE_TENSORS(, double)
DP_DEFINE_TENSORS(f, float)
