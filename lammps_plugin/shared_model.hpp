// Opens a model on all ranks of a communicator: the first rank reads the file, the others receive its bytes.
#ifndef DEEPMD_LAMMPS_SHARED_MODEL_HPP
#define DEEPMD_LAMMPS_SHARED_MODEL_HPP

#include <mpi.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepmd/deepmd.h"

namespace deepmd {

/// The same sentence on every rank.
class SharedModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ModelDeleter {
  void operator()(deepmd_model* model) const { deepmd_model_free(model); }
};
using ModelHandle = std::unique_ptr<deepmd_model, ModelDeleter>;

struct EnsembleDeleter {
  void operator()(deepmd_ensemble* ensemble) const { deepmd_ensemble_free(ensemble); }
};
using EnsembleHandle = std::unique_ptr<deepmd_ensemble, EnsembleDeleter>;

/// This rank's place on its node.
struct NodeShare {
  int n_threads = 1;     // the environment's wish, else an equal share of the node's cores
  int rank_on_node = 0;  // decides which GPU
  int n_ranks = 1;       // on the node, which share its GPUs
};

struct OpenRequest {
  std::string file;
  bool selftest = true;
  std::string path;       // as in deepmd_open_options; "": the default
  std::string precision;  // the same
  std::string part;       // the same
  NodeShare node;
};

/// Collective over `world`: all ranks get the model, or all throw SharedModelError.
ModelHandle open_shared_model(const OpenRequest& request, MPI_Comm world);

/// All models on one list. Throws SharedModelError with what does not fit together.
EnsembleHandle make_ensemble(const std::vector<ModelHandle>& models);

/// Facts of the first model of an ensemble, copied out of deepmd_info; rcut is the longest of all.
struct SharedModelInfo {
  double rcut = 0.0;
  std::vector<std::string> type_map;
  int dim_fparam = 0;
  int dim_aparam = 0;
  bool has_default_fparam = false;
  std::string kind;
  std::string path_description;
  double min_pair_distance = 0.0;
  bool passes_messages = false;
  double receptive_field = 0.0;  // Angstrom
  bool aparam_of_ghosts = false;
  std::string modifier;          // what others add to the energies, "" for nothing
  double ewald_beta = 0.0;       // 1/Angstrom, of the modifier
};
SharedModelInfo describe_ensemble(const deepmd_ensemble* ensemble);

/// Whether all models find the neighbours of atoms by themselves as fast as LAMMPS does: on a GPU.
bool models_find_neighbors(const std::vector<ModelHandle>& models);

/// The text that rank `root` passed, on every rank.
std::string broadcast_text(std::string text, int root, MPI_Comm world);

/// Collective over `world`, the group number i_world of n_worlds such groups that may share the node (LAMMPS partitions).
NodeShare share_of_node(MPI_Comm world, int i_world, int n_worlds);

}  // namespace deepmd

#endif
