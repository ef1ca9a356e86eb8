/* The C interface of DeePMD-kit, under its names: for programs written for it, which compile and link (-ldeepmd_c) as they are.
 * New programs are better off with deepmd/deepmd.h, whose calls say what went wrong and whose structs can grow.
 *
 * Energies in eV, lengths in Angstrom; coord [n_frames][n_atoms][3], cell [n_frames][3][3] or NULL for open boundaries, atype
 * [n_atoms]; fparam [n_frames][dim_fparam] and aparam [n_frames][n_local][dim_aparam] or NULL (also of ghosts, [n_atoms], where
 * ..IsAParamNAll says so: models of quantum atoms and fragments). Results are written where a pointer is not NULL: energy
 * [n_frames], force [n_frames][n_atoms][3], virial [n_frames][9], atomic_energy [n_frames][n_atoms], atomic_virial
 * [n_frames][n_atoms][9]. A name that ends in `f` takes floats.
 *
 * After every call that can fail ask ..CheckOK: "" or the sentence that says what went wrong, and then the results are
 * untouched. Texts returned here belong to the caller, who gives them to DP_DeleteChar. */
#ifndef DEEPMD_C_API_H
#define DEEPMD_C_API_H

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

#if defined(_WIN32)
#define DP_EXPORT
#else
#define DP_EXPORT __attribute__((visibility("default")))
#endif

#define DP_C_API_VERSION 27

/* ------------------------------------------------------------------------------------------------ texts and files */

DP_EXPORT void DP_DeleteChar(const char* text);
/* The content of a file and its size; where it cannot be read, why, and minus the length of that sentence. The first
 * form is for text, and empty where the file cannot be read. */
DP_EXPORT const char* DP_ReadFileToChar(const char* path);
DP_EXPORT const char* DP_ReadFileToChar2(const char* path, int* size);
DP_EXPORT void DP_PrintSummary(const char* prefix);

/* ------------------------------------------------------------------------------------------------ neighbour lists */

/* A full list over local atoms and ghosts; nothing is copied. The communication of the second form is not needed here:
 * ghosts of models that pass messages have rows of their own, or a mapping. */
typedef struct DP_Nlist DP_Nlist;
DP_EXPORT DP_Nlist* DP_NewNlist(int inum, int* ilist, int* numneigh, int** firstneigh);
DP_EXPORT DP_Nlist* DP_NewNlist_comm(int inum, int* ilist, int* numneigh, int** firstneigh, int nswap, int* sendnum,
                                     int* recvnum, int* firstrecv, int** sendlist, int* sendproc, int* recvproc,
                                     void* world, int nprocs);
DP_EXPORT void DP_NlistSetMask(DP_Nlist* list, int mask);
DP_EXPORT void DP_NlistSetMapping(DP_Nlist* list, int* mapping);
DP_EXPORT const char* DP_NlistCheckOK(DP_Nlist* list);
DP_EXPORT void DP_DeleteNlist(DP_Nlist* list);

/* --------------------------------------------------------------- what models of energies have in common, by prefix */

#define DP_DECLARE_FACTS(NAME)                                \
  typedef struct NAME NAME;                                   \
  DP_EXPORT double NAME##GetCutoff(NAME* model);              \
  DP_EXPORT int NAME##GetNumbTypes(NAME* model);              \
  DP_EXPORT int NAME##GetNumbTypesSpin(NAME* model);          \
  DP_EXPORT int NAME##GetDimFParam(NAME* model);              \
  DP_EXPORT int NAME##GetDimAParam(NAME* model);              \
  DP_EXPORT bool NAME##IsAParamNAll(NAME* model);             \
  DP_EXPORT bool NAME##HasDefaultFParam(NAME* model);         \
  DP_EXPORT const char* NAME##CheckOK(NAME* model);

DP_DECLARE_FACTS(DP_DeepPot)
DP_DECLARE_FACTS(DP_DeepPotModelDevi)
DP_DECLARE_FACTS(DP_DeepSpin)

DP_EXPORT const char* DP_DeepPotGetTypeMap(DP_DeepPot* model); /* names separated by blanks */
DP_EXPORT const char* DP_DeepSpinGetTypeMap(DP_DeepSpin* model);

/* ------------------------------------------------------------------------------------------------------ energies */

/* Never NULL; DP_DeepPotCheckOK tells whether the model is open. The content may be that of the file, read before. */
DP_EXPORT DP_DeepPot* DP_NewDeepPot(const char* path);
DP_EXPORT DP_DeepPot* DP_NewDeepPotWithParam(const char* path, int gpu_rank, const char* content);
DP_EXPORT DP_DeepPot* DP_NewDeepPotWithParam2(const char* path, int gpu_rank, const char* content, int size);
DP_EXPORT void DP_DeleteDeepPot(DP_DeepPot* model);

/* With a list, the last nghost atoms are ghosts, and ago > 0 tells that it is the list of the last call. */
#define DP_RESULTS(REAL) double *energy, REAL *force, REAL *virial, REAL *atomic_energy, REAL *atomic_virial
#define DP_ATOMS(REAL) const REAL *coord, const int *atype, const REAL *cell
#define DP_LIST int nghost, const DP_Nlist *list, int ago
#define DP_PARAMETERS(REAL) const REAL *fparam, const REAL *aparam

#define DP_DECLARE_ENERGIES(NAME, F, REAL)                                                                               \
  DP_EXPORT void NAME##Compute##F(NAME* model, int n_atoms, DP_ATOMS(REAL), DP_RESULTS(REAL));                           \
  DP_EXPORT void NAME##ComputeNList##F(NAME* model, int n_atoms, DP_ATOMS(REAL), DP_LIST, DP_RESULTS(REAL));             \
  DP_EXPORT void NAME##Compute##F##2(NAME * model, int n_frames, int n_atoms, DP_ATOMS(REAL), DP_PARAMETERS(REAL),       \
                                     DP_RESULTS(REAL));                                                                  \
  DP_EXPORT void NAME##ComputeNList##F##2(NAME * model, int n_frames, int n_atoms, DP_ATOMS(REAL), DP_LIST,              \
                                          DP_PARAMETERS(REAL), DP_RESULTS(REAL));

DP_DECLARE_ENERGIES(DP_DeepPot, , double)
DP_DECLARE_ENERGIES(DP_DeepPot, f, float)

/* Frames of different types: atype [n_frames][n_atoms]. */
DP_EXPORT void DP_DeepPotComputeMixedType(DP_DeepPot* model, int n_frames, int n_atoms, DP_ATOMS(double),
                                          DP_PARAMETERS(double), DP_RESULTS(double));
DP_EXPORT void DP_DeepPotComputeMixedTypef(DP_DeepPot* model, int n_frames, int n_atoms, DP_ATOMS(float),
                                           DP_PARAMETERS(float), DP_RESULTS(float));

/* ------------------------------------------------------------------------------------------------------ ensembles */

/* Every result has the models as its first dimension; one frame. */
DP_EXPORT DP_DeepPotModelDevi* DP_NewDeepPotModelDevi(const char** paths, int n_models);
DP_EXPORT DP_DeepPotModelDevi* DP_NewDeepPotModelDeviWithParam(const char** paths, int n_models, int gpu_rank,
                                                               const char** contents, int n_contents, const int* sizes);
DP_EXPORT void DP_DeleteDeepPotModelDevi(DP_DeepPotModelDevi* model);
DP_DECLARE_ENERGIES(DP_DeepPotModelDevi, , double)
DP_DECLARE_ENERGIES(DP_DeepPotModelDevi, f, float)

/* ---------------------------------------------------------------------------------------------------------- spins */

/* spin [n_atoms][3] Bohr magnetons; force_mag [n_atoms][3] is minus the derivative of the energy to it; one frame. */
DP_EXPORT DP_DeepSpin* DP_NewDeepSpin(const char* path);
DP_EXPORT DP_DeepSpin* DP_NewDeepSpinWithParam2(const char* path, int gpu_rank, const char* content, int size);
DP_EXPORT void DP_DeleteDeepSpin(DP_DeepSpin* model);

#define DP_SPIN_ATOMS(REAL) const REAL *coord, const REAL *spin, const int *atype, const REAL *cell
#define DP_SPIN_RESULTS(REAL) \
  double *energy, REAL *force, REAL *force_mag, REAL *virial, REAL *atomic_energy, REAL *atomic_virial
#define DP_DECLARE_SPIN_ENERGIES(F, REAL)                                                                                \
  DP_EXPORT void DP_DeepSpinCompute##F##2(DP_DeepSpin * model, int n_frames, int n_atoms, DP_SPIN_ATOMS(REAL),           \
                                          DP_PARAMETERS(REAL), DP_SPIN_RESULTS(REAL));                                   \
  DP_EXPORT void DP_DeepSpinComputeNList##F##2(DP_DeepSpin * model, int n_frames, int n_atoms, DP_SPIN_ATOMS(REAL),      \
                                               DP_LIST, DP_PARAMETERS(REAL), DP_SPIN_RESULTS(REAL));
DP_DECLARE_SPIN_ENERGIES(, double)
DP_DECLARE_SPIN_ENERGIES(f, float)

/* -------------------------------------------------------------------------------------- dipoles, polarisabilities */

/* *tensor and *atomic_tensor [n_local][output_dim], zeros where a type is not selected, are allocated here and freed by the
 * caller with free() (not by delete[]); *size is the number of their values. global_tensor [output_dim]; force
 * [output_dim][n_atoms][3], virial [output_dim][9] and atomic_virial [output_dim][n_atoms][9]: minus derivatives of each
 * component, as for energies. */
typedef struct DP_DeepTensor DP_DeepTensor;
DP_EXPORT DP_DeepTensor* DP_NewDeepTensor(const char* path);
DP_EXPORT DP_DeepTensor* DP_NewDeepTensorWithParam(const char* path, int gpu_rank, const char* name_scope);
DP_EXPORT void DP_DeleteDeepTensor(DP_DeepTensor* model);
DP_EXPORT double DP_DeepTensorGetCutoff(DP_DeepTensor* model);
DP_EXPORT int DP_DeepTensorGetNumbTypes(DP_DeepTensor* model);
DP_EXPORT int DP_DeepTensorGetOutputDim(DP_DeepTensor* model);
DP_EXPORT int* DP_DeepTensorGetSelTypes(DP_DeepTensor* model); /* belongs to the model */
DP_EXPORT int DP_DeepTensorGetNumbSelTypes(DP_DeepTensor* model);
DP_EXPORT const char* DP_DeepTensorGetTypeMap(DP_DeepTensor* model);
DP_EXPORT const char* DP_DeepTensorCheckOK(DP_DeepTensor* model);

#define DP_TENSOR_RESULTS(REAL) \
  REAL *global_tensor, REAL *force, REAL *virial, REAL **atomic_tensor, REAL *atomic_virial, int *size_at
#define DP_DECLARE_TENSORS(F, REAL)                                                                                      \
  DP_EXPORT void DP_DeepTensorComputeTensor##F(DP_DeepTensor* model, int n_atoms, DP_ATOMS(REAL), REAL** tensor,         \
                                               int* size);                                                               \
  DP_EXPORT void DP_DeepTensorComputeTensorNList##F(DP_DeepTensor* model, int n_atoms, DP_ATOMS(REAL), int nghost,       \
                                                    const DP_Nlist* list, REAL** tensor, int* size);                     \
  DP_EXPORT void DP_DeepTensorCompute##F(DP_DeepTensor* model, int n_atoms, DP_ATOMS(REAL), DP_TENSOR_RESULTS(REAL));    \
  DP_EXPORT void DP_DeepTensorComputeNList##F(DP_DeepTensor* model, int n_atoms, DP_ATOMS(REAL), int nghost,             \
                                              const DP_Nlist* list, DP_TENSOR_RESULTS(REAL));
DP_DECLARE_TENSORS(, double)
DP_DECLARE_TENSORS(f, float)

#ifdef __cplusplus
}
#endif
#endif
