#include "shared_model.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifdef __linux__
#include <sched.h>
#endif

namespace deepmd {
namespace {

struct FileContent {
  std::vector<char> bytes;
  std::string problem;
};

/// What to do about a file that is not there; inputs of TensorFlow times say graph.pb where there is a graph.pth.
std::string remedy(const std::string& path) {
  const size_t stem = path.size() > 3 && path.compare(path.size() - 3, 3, ".pb") == 0 ? path.size() - 3 : 0;
  const std::string twin = path.substr(0, stem) + ".pth";
  if (stem > 0 && access(twin.c_str(), R_OK) == 0) return "'" + twin + "' is there, write that name";
  return "give its path as seen from the folder where LAMMPS was started";
}

FileContent read_file(const std::string& path) {
  FileContent content;
  errno = 0;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    content.problem = "cannot open model file '" + path + "': " + std::strerror(errno);
    content.problem += "; " + remedy(path);
    return content;
  }
  char block[1 << 16];
  size_t n = 0;
  while ((n = std::fread(block, 1, sizeof(block), file)) > 0) {
    content.bytes.insert(content.bytes.end(), block, block + n);
  }
  if (std::ferror(file)) content.problem = "cannot read model file '" + path + "': " + std::strerror(errno);
  std::fclose(file);
  return content;
}

void broadcast_bytes(char* bytes, int64_t size, int root, MPI_Comm world) {
  for (int64_t done = 0; done < size;) {
    const int count = static_cast<int>(std::min<int64_t>(size - done, INT_MAX / 2));
    MPI_Bcast(bytes + done, count, MPI_CHAR, root, world);
    done += count;
  }
}

}  // namespace

std::string broadcast_text(std::string text, int root, MPI_Comm world) {
  int64_t size = static_cast<int64_t>(text.size());
  MPI_Bcast(&size, 1, MPI_INT64_T, root, world);
  text.resize(static_cast<size_t>(size));
  if (size > 0) broadcast_bytes(&text[0], size, root, world);
  return text;
}

namespace {

std::vector<char> read_on_first_rank(const std::string& path, MPI_Comm world) {
  int rank = 0;
  MPI_Comm_rank(world, &rank);
  FileContent content;
  if (rank == 0) content = read_file(path);
  const std::string problem = broadcast_text(content.problem, 0, world);
  if (!problem.empty()) throw SharedModelError(problem);
  int64_t size = static_cast<int64_t>(content.bytes.size());
  MPI_Bcast(&size, 1, MPI_INT64_T, 0, world);
  content.bytes.resize(static_cast<size_t>(size));
  broadcast_bytes(content.bytes.data(), size, 0, world);
  return std::move(content.bytes);
}

/// The sentence of the first rank that failed, on all ranks; "" if none did.
std::string first_failure(const std::string& mine, MPI_Comm world) {
  int rank = 0;
  MPI_Comm_rank(world, &rank);
  const int failed = mine.empty() ? INT_MAX : rank;
  int first = INT_MAX;
  MPI_Allreduce(&failed, &first, 1, MPI_INT, MPI_MIN, world);
  return first == INT_MAX ? std::string() : broadcast_text(mine, first, world);
}

#ifdef __linux__
/// Cores that this rank may use by itself. A launcher that binds ranks gives each its own; else all share the same.
int own_cores(MPI_Comm node) {
  int n_ranks = 1;
  MPI_Comm_size(node, &n_ranks);
  cpu_set_t mine, common;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) return 1;
  static_assert(sizeof(cpu_set_t) % sizeof(unsigned long) == 0, "cpu_set_t is an array of words");
  MPI_Allreduce(&mine, &common, sizeof(cpu_set_t) / sizeof(unsigned long), MPI_UNSIGNED_LONG, MPI_BAND, node);
  const int cores = CPU_COUNT(&mine);
  const bool shared = CPU_EQUAL(&mine, &common);
  return std::max(1, shared ? cores / n_ranks : cores);
}
#else
int own_cores(MPI_Comm) { return 1; }
#endif

}  // namespace

ModelHandle open_shared_model(const OpenRequest& request, MPI_Comm world) {
  const std::vector<char> content = read_on_first_rank(request.file, world);
  deepmd_open_options options;
  deepmd_open_options_init(&options);
  options.run_selftest = request.selftest ? 1 : 0;
  options.n_threads = request.node.n_threads;
  options.gpu_rank = request.node.rank_on_node;
  options.gpu_ranks = request.node.n_ranks;
  options.path = request.path.c_str();
  options.precision = request.precision.c_str();
  options.part = request.part.c_str();
  options.content = content.empty() ? "" : content.data();  // an empty file is a content too, and is refused
  options.content_size = content.size();
  deepmd_model* model = nullptr;
  const deepmd_status status = deepmd_model_open(request.file.c_str(), &options, &model);
  ModelHandle handle(model);
  std::string problem;
  if (status != DEEPMD_OK) problem = std::string(deepmd_last_error()) + " [" + deepmd_status_name(status) + "]";
  problem = first_failure(problem, world);
  if (!problem.empty()) throw SharedModelError(problem);
  return handle;
}

EnsembleHandle make_ensemble(const std::vector<ModelHandle>& models) {
  std::vector<deepmd_model*> members;
  for (const ModelHandle& model : models) members.push_back(model.get());
  deepmd_ensemble* ensemble = nullptr;
  const deepmd_status status = deepmd_ensemble_new(static_cast<int>(members.size()), members.data(), &ensemble);
  if (status != DEEPMD_OK) throw SharedModelError(deepmd_last_error());
  return EnsembleHandle(ensemble);
}

SharedModelInfo describe_ensemble(const deepmd_ensemble* ensemble) {
  deepmd_info raw;
  std::memset(&raw, 0, sizeof(raw));
  raw.size = sizeof(raw);
  if (deepmd_ensemble_info(ensemble, &raw) != DEEPMD_OK) throw SharedModelError(deepmd_last_error());
  SharedModelInfo info;
  info.rcut = raw.rcut;
  info.type_map.assign(raw.type_map, raw.type_map + raw.n_types);
  info.dim_fparam = raw.dim_fparam;
  info.dim_aparam = raw.dim_aparam;
  info.has_default_fparam = raw.has_default_fparam != 0;
  info.kind = raw.kind;
  info.path_description = raw.path_description;
  info.min_pair_distance = raw.min_pair_distance;
  info.passes_messages = raw.passes_messages != 0;
  info.receptive_field = raw.receptive_field;
  info.aparam_of_ghosts = raw.aparam_of_ghosts != 0;
  info.modifier = raw.modifier;
  info.ewald_beta = raw.ewald_beta;
  return info;
}

bool models_find_neighbors(const std::vector<ModelHandle>& models) {
  for (const ModelHandle& model : models) {
    deepmd_info raw;
    std::memset(&raw, 0, sizeof(raw));
    raw.size = sizeof(raw);
    if (deepmd_model_info(model.get(), &raw) != DEEPMD_OK || std::strcmp(raw.path_in_use, "cuda") != 0) return false;
  }
  return !models.empty();
}

NodeShare share_of_node(MPI_Comm world, int i_world, int n_worlds) {
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  NodeShare share;
  MPI_Comm_rank(node, &share.rank_on_node);
  MPI_Comm_size(node, &share.n_ranks);
  share.rank_on_node += i_world * share.n_ranks;
  share.n_ranks *= n_worlds;
  share.n_threads = std::max(1, own_cores(node) / n_worlds);
  MPI_Comm_free(&node);
  for (const char* name : {"DP_INTRA_OP_PARALLELISM_THREADS", "OMP_NUM_THREADS"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || std::atoi(value) <= 0) continue;
    share.n_threads = std::atoi(value);
    break;
  }
  return share;
}

}  // namespace deepmd
