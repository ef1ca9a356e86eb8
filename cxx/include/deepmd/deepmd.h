/* The public C interface of the Deep Potential engine.
 *
 * Conventions, everywhere: energies in eV, lengths in Angstrom, arrays are double or int, row-major.
 * `cell` holds the three cell vectors as rows. virial[a][b] = sum_k force_k[a] * position_k[b] = -dE/d(strain_ab).
 * Shapes stand in brackets. n_all = n_local + n_ghost.
 *
 * Every function returns a deepmd_status; deepmd_last_error() gives the sentence that belongs to the last failure of
 * the calling thread. Structs start with `size`, which the caller sets to sizeof the struct; fields are only ever
 * appended, so a program compiled against an older header goes on working.
 */
#ifndef DEEPMD_DEEPMD_H
#define DEEPMD_DEEPMD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define DEEPMD_API
#else
#define DEEPMD_API __attribute__((visibility("default")))
#endif

#define DEEPMD_API_VERSION 1

typedef enum deepmd_status {
  DEEPMD_OK = 0,
  DEEPMD_ERROR_ARGUMENT = 1,  /* a value that the caller passed: null pointer, wrong count, type out of range */
  DEEPMD_ERROR_FILE = 2,      /* the model file cannot be read */
  DEEPMD_ERROR_DAMAGED = 3,   /* the content hash does not match, or the file is cut short */
  DEEPMD_ERROR_FORMAT = 4,    /* not a frozen model: a checkpoint, another program's file, text */
  DEEPMD_ERROR_VERSION = 5,   /* a format version that this library does not read */
  DEEPMD_ERROR_SELFTEST = 6,  /* the frames stored in the file are not reproduced */
  DEEPMD_ERROR_GEOMETRY = 7,  /* atoms on top of each other, singular or left-handed cell, non-finite positions */
  DEEPMD_ERROR_NONFINITE = 8, /* the model returned NaN or infinity */
  DEEPMD_ERROR_UNSUPPORTED = 9,
  DEEPMD_ERROR_MEMORY = 10,
  DEEPMD_ERROR_INTERNAL = 11
} deepmd_status;

/* The sentence of the last failure in this thread; "" if none. Valid until the next call in this thread. */
DEEPMD_API const char* deepmd_last_error(void);
/* Short stable name of a status, such as "DP_ERROR_DAMAGED". */
DEEPMD_API const char* deepmd_status_name(deepmd_status status);
/* Version of the library, such as "0.1.0". */
DEEPMD_API const char* deepmd_version(void);

/* ---------------------------------------------------------------------------------------------- model */

typedef struct deepmd_model deepmd_model; /* opaque; may be used by one thread at a time */

typedef struct deepmd_open_options {
  size_t size;
  int run_selftest;         /* non-zero (the default): re-evaluate the frames in the file and refuse a mismatch */
  int n_threads;            /* 0: DP_INTRA_OP_PARALLELISM_THREADS of the environment, else as the path in use has it */
  const void* content;      /* bytes of the file if the caller has read it already (an MPI broadcast), else NULL */
  size_t content_size;
  int gpu_rank;             /* which GPU (modulo their number) if there are any, 0 by default; negative: the CPU */
  const char* path;         /* "auto", "fused" (kernels of this library, on the CPU), "cuda" (the same on a GPU), "script"
                               (TorchScript, which any model can run on); NULL: DEEPMD_PATH of the environment, else
                               "auto", which is "cuda" or "fused" where the model allows it */
  const char* precision;    /* "float64", or "mixed" (float32 tables and networks of the library's kernels, float64
                               geometry and sums), or "tf32" (the same with single products of tensor cores in the fitting
                               net, errors about 1e-3: for observers, on the path cuda); NULL: DEEPMD_PRECISION of the environment, else "float64" */
  const char* part;         /* of a model with a modifier, whose energies somebody else has to add: "short_range", the
                               model without it; "modifier", the dipole model that it needs (the file's own model where
                               there is no modifier); NULL: such a model is refused, so that no energy is half of one */
  int gpu_ranks;            /* processes of this node that share its GPUs, and so their memory; 0: this one alone */
} deepmd_open_options;

/* Fills in the defaults (size included). */
DEEPMD_API void deepmd_open_options_init(deepmd_open_options* options);
/* Opens a frozen model. `options` may be NULL. `path` names the file in messages also when content is given. */
DEEPMD_API deepmd_status deepmd_model_open(const char* path, const deepmd_open_options* options, deepmd_model** model);
DEEPMD_API void deepmd_model_free(deepmd_model* model);

typedef struct deepmd_info {
  size_t size;
  double rcut;                   /* cutoff radius, Angstrom */
  int n_types;
  const char* const* type_map;   /* [n_types] element names; owned by the model */
  int dim_fparam;                /* frame parameters */
  int dim_aparam;                /* atomic parameters */
  int has_default_fparam;
  const char* kind;              /* "energy", "spin" (energies of positions and spins), "pairwise_dprc" (energies of quantum
                                    atoms and fragments, aparam tells which), "dipole", "polar", "dos", "property" */
  const char* path_in_use;       /* "fused", "cuda" or "script" */
  const char* metadata_json;     /* the metadata of the file as JSON text */
  double min_pair_distance;      /* smallest pair distance of the training data, 0 if unknown */
  const char* path_description;  /* one line: path, kind of embedding and tolerance, precision, instruction set, threads,
                                    memory per atom; valid until the next call for this model */
  int passes_messages;           /* atoms tell each other what they know: see deepmd_list */
  double receptive_field;        /* how far the atoms are that an atom's output depends on, Angstrom: rcut, or more for
                                    models that pass messages */
  const char* output_name;       /* of the other kinds: the name of the output, "" for energies */
  int output_width;              /* numbers for each atom, 0 for energies */
  int output_is_mean;            /* the output of the frame is the mean over its atoms, else their sum */
  int output_has_derivatives;
  const int* sel_types;          /* [n_sel_types] types whose atoms carry the output; the others have zeros */
  int n_sel_types;
  const char* modifier;          /* what has to be added to the energies, such as "dipole_charge"; "" for nothing */
  double ewald_beta;             /* width of its smeared charges, 1/Angstrom; 0 where there are none */
  int aparam_of_ghosts;          /* ghosts need atomic parameters too (ghost_aparam), unless the list names their owners:
                                    models of kind "pairwise_dprc" */
} deepmd_info;

/* Fills `info`; set info->size before the call. The pointers stay valid as long as the model lives. */
DEEPMD_API deepmd_status deepmd_model_info(const deepmd_model* model, deepmd_info* info);
/* *type = index of the element `name` in the model's type_map; an unknown name is DEEPMD_ERROR_ARGUMENT with a sentence
 * that lists the known ones. */
DEEPMD_API deepmd_status deepmd_model_type_of(const deepmd_model* model, const char* name, int* type);

/* ------------------------------------------------------------------------------------- neighbour lists */

/* A full ragged list: the neighbours of centre i are index[first[i]] .. index[first[i+1]-1]. Every ordered pair
 * appears, an atom may neighbour its own periodic image and one image pair may appear once per image. Entries beyond
 * the cutoff are allowed (skin) and are skipped at evaluation.
 * shift == NULL: index runs over [0, n_all) and ghosts carry the periodicity (an MD engine's list).
 * shift != NULL: r_ij = positions[index] + shift . cell - positions[i].
 * A model that passes messages needs to know the surroundings of ghosts too. Either each ghost is the image of a local
 * atom, which `owners` names; or the ghosts reach out to receptive_field from every local atom, and have rows. */
typedef struct deepmd_list {
  size_t size;
  int n_centers;          /* n_local, or n_all with rows for the ghosts behind those of the local atoms */
  const int64_t* first;   /* [n_centers + 1] */
  const int* index;       /* [first[n_centers]] */
  const int* shift;       /* [first[n_centers]][3] or NULL */
  const int* owners;      /* [n_all] the local atom that each atom is, or is an image of; or NULL */
  uint64_t stamp;         /* from deepmd_new_stamp, a new one whenever the arrays above have changed: then a GPU keeps its
                             copy between calls; 0: it is sent in each call */
  double radius;          /* if first is NULL, the library finds the pairs: all atoms within this radius (Angstrom, the
                             cutoff or more) of a local one, ghosts being the only images (no cell). A GPU does so when
                             the stamp is new, and keeps its list as long as the stamp; the CPU does so in each call */
} deepmd_list;

/* A number that no earlier call in this process has returned; never 0. */
DEEPMD_API uint64_t deepmd_new_stamp(void);
/* The GPUs that models can run on, with the driver's version, or why there are none; on one line. */
DEEPMD_API const char* deepmd_describe_gpus(void);

typedef struct deepmd_neighbors deepmd_neighbors; /* opaque: a list that is rebuilt when atoms moved by half the skin */

DEEPMD_API deepmd_status deepmd_neighbors_new(double rcut, double skin, deepmd_neighbors** neighbors);
DEEPMD_API void deepmd_neighbors_free(deepmd_neighbors* neighbors);
/* Brings the list up to date in linear time. positions [n_atoms][3]; cell [3][3] or NULL (open boundaries);
 * pbc [3] flags or NULL (periodic in all directions if a cell is given). Cells smaller than the cutoff, skewed cells
 * and positions outside the cell are fine. *rebuilt (may be NULL) tells whether the list is new.
 * The arrays in `list` belong to `neighbors` and live until its next update. */
DEEPMD_API deepmd_status deepmd_neighbors_update(deepmd_neighbors* neighbors, int n_atoms, const double* positions,
                                                 const double* cell, const int* pbc, deepmd_list* list, int* rebuilt);

/* ------------------------------------------------------------------------------------------ evaluation */

typedef struct deepmd_input {
  size_t size;
  int n_local;              /* atoms whose energies are summed; may be 0 */
  int n_ghost;              /* images or copies owned by others; positions and types follow the local ones */
  const double* positions;  /* [n_all][3] */
  const int* types;         /* [n_all] indices into the model's type_map; negative is refused */
  const double* cell;       /* [3][3] or NULL; needed when list has shifts or when list is NULL and periodic */
  const int* pbc;           /* [3] or NULL (all periodic if cell is given) */
  const deepmd_list* list;  /* NULL: a list is built for this call (n_ghost must be 0) */
  const double* fparam;     /* [dim_fparam] or NULL */
  const double* aparam;     /* [n_local][dim_aparam] or NULL */
  const double* spins;      /* [n_all][3] Bohr magnetons, for models of kind "spin"; else NULL */
  const double* ghost_aparam; /* [n_ghost][dim_aparam], for models with aparam_of_ghosts; else NULL */
} deepmd_input;

typedef struct deepmd_output { /* every pointer may be NULL: not wanted, not computed */
  size_t size;
  double* energy;       /* [1] sum over local atoms */
  double* forces;       /* [n_all][3]; overwritten; ghosts receive their share */
  double* virial;       /* [3][3] */
  double* atom_energy;  /* [n_local] */
  double* atom_virial;  /* [n_all][3][3]: of the differentiated atom, w_k[a][b] = sum_j (r_j - r_k)[b] dE_j/dr_k[a] */
  int64_t* n_outside;   /* [1] pairs, or couples of neighbours, outside of the tables' range: the networks themselves answered */
  double* spin_forces;  /* [n_all][3] -d(energy)/d(spin), eV per Bohr magneton, of models of kind "spin"; overwritten */
} deepmd_output;

DEEPMD_API void deepmd_input_init(deepmd_input* input);
DEEPMD_API void deepmd_output_init(deepmd_output* output);
/* Atoms closer than 0.05 Angstrom are refused (DEEPMD_ERROR_GEOMETRY names both and their distance), as are
 * non-finite positions; a non-finite result is never returned as success. */
DEEPMD_API deepmd_status deepmd_evaluate(deepmd_model* model, const deepmd_input* input, deepmd_output* output);

/* Outputs of models of other kinds than energy, in the units of their training data; the frame's output is the sum, or the
 * mean, over the local atoms. Derivatives are those of the sums over local atoms: of each component, forces[c] =
 * -d(sum_i output_ic)/dr; or, with weights, of one number: forces[0] = -d(sum_ic weights_ic output_ic)/dr.
 * n_parts is output_width, or 1 with weights. */
typedef struct deepmd_atom_output { /* every pointer may be NULL: not wanted, not computed */
  size_t size;
  double* output;         /* [output_width] */
  double* atom_output;    /* [n_local][output_width] */
  double* forces;         /* [n_parts][n_all][3] */
  double* virial;         /* [n_parts][3][3] */
  double* atom_virial;    /* [n_parts][n_all][3][3] */
  const double* weights;  /* [n_local][output_width] */
} deepmd_atom_output;

DEEPMD_API void deepmd_atom_output_init(deepmd_atom_output* output);
/* DEEPMD_ERROR_UNSUPPORTED for models of energies, and for derivatives that a model does not give. */
DEEPMD_API deepmd_status deepmd_evaluate_output(deepmd_model* model, const deepmd_input* input, deepmd_atom_output* output);

/* Re-evaluates the frames stored in the file through this library; *worst gets the largest force difference (eV/A), or
 * that of the outputs and their derivatives. */
DEEPMD_API deepmd_status deepmd_selftest(deepmd_model* model, double* worst);

/* ------------------------------------------------------------------------------------------- ensembles */

/* Several models for the same atoms: one checked request and one neighbour list serve all of them. Types, defaults and
 * parameters are those of model 0. The models must know the same elements (another order of type_map is mapped) and take
 * the same numbers of parameters; cutoffs may differ. */
typedef struct deepmd_ensemble deepmd_ensemble; /* opaque; uses its models, so one thread at a time for all of them */

/* From open models, which must outlive the ensemble. DEEPMD_ERROR_ARGUMENT says in words what does not fit together. */
DEEPMD_API deepmd_status deepmd_ensemble_new(int n_models, deepmd_model* const* models, deepmd_ensemble** ensemble);
/* Opens the files paths [n_models], all with the same options (no content), and frees the models with the ensemble. */
DEEPMD_API deepmd_status deepmd_ensemble_open(int n_models, const char* const* paths, const deepmd_open_options* options,
                                              deepmd_ensemble** ensemble);
DEEPMD_API void deepmd_ensemble_free(deepmd_ensemble* ensemble);
/* The facts of model 0, with the longest rcut and receptive_field of all models: those that a list from outside must
 * reach; passes_messages is set if any model does. */
DEEPMD_API deepmd_status deepmd_ensemble_info(const deepmd_ensemble* ensemble, deepmd_info* info);
/* Evaluates models 0 to n_outputs - 1, at most all; outputs [n_outputs], each with its own wishes, model k into entry k.
 * So one output is an ordinary step with model 0, and the others need only run where a deviation is wanted. */
DEEPMD_API deepmd_status deepmd_ensemble_evaluate(deepmd_ensemble* ensemble, const deepmd_input* input, int n_outputs,
                                                  deepmd_output* outputs);

/* ------------------------------------------------------------------------------------------- deviation */

/* How far models disagree, with <> the mean over the models (population statistics):
 *   force of atom i         e_i  = sqrt(< |F_i - <F_i>|^2 >)
 *   virial component ab     e_ab = sqrt(< (W_ab - <W_ab>)^2 >) / N
 *   energy                  e    = sqrt(< (E - <E>)^2 >) / N
 *   relative forms          e_i / (|<F_i>| + relative),   e_ab / (|<W_ab>| / N + relative_v)
 * If the true values are given, they stand in the place of <>. Equal models deviate by exactly zero. */
typedef struct deepmd_deviation_input { /* null pointers: unknown; what needs them comes out as NaN */
  size_t size;
  int n_models;
  int n_atoms;                  /* atoms whose forces are compared; may be 0 */
  const double* const* forces;  /* [n_models] pointers to [n_atoms][3] */
  const double* virials;        /* [n_models][3][3] */
  const double* energies;       /* [n_models] */
  const double* true_forces;    /* [n_atoms][3], or NULL: distance from the mean of the models */
  const double* true_virial;    /* [3][3] or NULL */
  const double* true_energy;    /* [1] or NULL */
  double relative;              /* level, eV/Angstrom; negative (the default): absolute deviations */
  double relative_v;            /* level, eV per atom; negative (the default): absolute deviations */
  double n_counted;             /* N, if the forces are only a part of the atoms; 0 (the default): n_atoms */
} deepmd_deviation_input;

typedef struct deepmd_spread {
  double max, min, avg;
} deepmd_spread;

typedef struct deepmd_deviation {
  size_t size;
  deepmd_spread force;   /* eV/Angstrom; avg is the mean over the atoms */
  deepmd_spread virial;  /* eV per atom; avg is the root mean square over the nine components */
  double energy;         /* eV per atom */
  double* atoms;         /* [n_atoms] e_i, set before the call, or NULL */
} deepmd_deviation;

DEEPMD_API void deepmd_deviation_input_init(deepmd_deviation_input* input);
DEEPMD_API void deepmd_deviation_init(deepmd_deviation* deviation);
DEEPMD_API deepmd_status deepmd_deviation_compute(const deepmd_deviation_input* input, deepmd_deviation* deviation);

/* Evaluates all models of an ensemble and says how far they disagree about the local atoms; `output` is for the answers of
 * model 0, levels as above. Ghosts need owners in the list, which get their shares of the forces first; so this is for one
 * rank. deviation->atoms may be NULL; *largest_force (may be NULL) is the largest absolute deviation of a force. Models that
 * run on a GPU are compared there, and only what is asked for comes down. */
DEEPMD_API deepmd_status deepmd_ensemble_compare(deepmd_ensemble* ensemble, const deepmd_input* input, double relative,
                                                 double relative_v, deepmd_output* output, deepmd_deviation* deviation,
                                                 double* largest_force);

/* The same formulas for any quantity: n_groups groups of `width` numbers (3 for forces, 1 for virials). */
typedef struct deepmd_model_values {
  size_t size;
  int n_models;
  int width;
  size_t n_groups;
  const double* const* values;  /* [n_models] pointers to [n_groups][width] */
} deepmd_model_values;

/* mean [n_groups][width] over the models. */
DEEPMD_API deepmd_status deepmd_deviation_mean(const deepmd_model_values* values, double* mean);
/* deviation [n_groups] from center [n_groups][width], or from the models' mean if it is NULL. */
DEEPMD_API deepmd_status deepmd_deviation_groups(const deepmd_model_values* values, const double* center,
                                                 double* deviation);
/* Divides deviation [n_groups] by (|center| + level). With a center, the values themselves may be NULL. */
DEEPMD_API deepmd_status deepmd_deviation_relative(const deepmd_model_values* values, const double* center, double level,
                                                   double* deviation);

#ifdef __cplusplus
}
#endif
#endif
