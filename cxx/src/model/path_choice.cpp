#include "model/path_choice.hpp"

#include <algorithm>
#include <cstdlib>

#include "core/error.hpp"
#include "model/close_pairs.hpp"
#include "model/device_library.hpp"
#include "model/device_potential.hpp"

namespace deepmd {
namespace {

// Stored frames are stranger than those on which a compression was measured: so many times its tolerance is allowed.
constexpr double kCompressionMargin = 10.0;
// In mixed precision, relative to the largest entry as everywhere in the self-test: float32 networks err by about 1e-5.
constexpr double kMixedTolerance = 1e-4;
// The same where factors have 11 bits only.
constexpr double kShortTolerance = 2e-2;

// What was asked for, in one place.
struct Way {
  bool on_gpu = false, is_mixed = false, is_tf32 = false;
};

// One of the `known` words: the given one, else that of the environment, else the first.
std::string choose_word(std::string given, const char* variable, std::initializer_list<const char*> known) {
  std::string where = "an option";
  if (given.empty()) {
    const char* wish = std::getenv(variable);
    given = wish ? wish : "";
    where = text("the environment variable ", variable);
  }
  if (given.empty()) return *known.begin();
  std::string words;
  for (const char* word : known) {
    if (given == word) return given;
    words += (words.empty() ? "" : ", ") + std::string(word);
  }
  throw Error(DEEPMD_ERROR_ARGUMENT, text(where, " is '", given, "', expected one of ", words));
}

PairBasis basis_of(const ModelFile& file, const EnergyTree& tree, const CompressionRecord* record) {
  try {
    return build_pair_basis(tree, record);
  } catch (const Error& e) {
    if (e.status() == DEEPMD_ERROR_UNSUPPORTED) throw;  // a reason, not a fault of the file
    throw Error(e.status(), file.path() + " " + e.what());
  }
}

std::unique_ptr<FusedPotential> make_on_cpu(const EnergyTree& tree, PairBasis basis,
                                            const std::optional<CompressionRecord>& record, const FusedOptions& options) {
  auto potential = make_fused_potential(tree, std::move(basis), options);
  if (!record || !record->spectral) return potential;
  return make_exact_when_close(std::move(potential), tree, record->shortest, options);
}

OpenedPath open_fused(const ModelFile& file, EnergyTree tree, const Way& way, const DeviceChoice& device) {
  const std::optional<CompressionRecord> record = read_compression(file);
  PairBasis basis = basis_of(file, tree, record ? &*record : nullptr);
  OpenedPath opened;
  opened.description = basis.description + (way.is_mixed ? ", mixed" : ", float64");
  opened.selftest_tolerance = file.metadata().selftest_tolerance;
  if (record) opened.selftest_tolerance = std::max(opened.selftest_tolerance, kCompressionMargin * record->tolerance);
  if (way.is_mixed) opened.selftest_tolerance = std::max(opened.selftest_tolerance, kMixedTolerance);
  const FusedOptions options{way.is_mixed ? Precision::mixed : Precision::float64, device.n_threads};
  if (!way.on_gpu) {
    opened.potential = make_on_cpu(tree, std::move(basis), record, options);
    return opened;
  }
  DeviceOptions on_device{options.precision, wanted_products(way.is_tf32), device.gpu_rank, device.gpu_ranks, {}};
  if (way.is_mixed && on_device.products == device::ProductKind::tf32) {
    opened.selftest_tolerance = std::max(opened.selftest_tolerance, kShortTolerance);
  }
  on_device.make_fallback = [tree, record, options] {
    return make_on_cpu(tree, build_pair_basis(tree, record ? &*record : nullptr), record, options);
  };
  opened.potential = make_device_potential(std::move(tree), std::move(basis), std::move(on_device));
  return opened;
}

OpenedPath open_script(const ModelFile& file, const DeviceChoice& device) {
  return {open_script_potential(file, device), "", file.metadata().selftest_tolerance, ""};
}

// Nothing, with the reason, if the model does not allow the engine's own kernels, or no GPU its use of one.
std::optional<OpenedPath> try_fused(const ModelFile& file, const Way& way, const DeviceChoice& device, std::string* why_not) {
  if (file.metadata().kind != "energy") {
    *why_not = "predicts '" + file.metadata().kind + "', and the engine's own kernels compute energies";
    return std::nullopt;
  }
  std::optional<EnergyTree> tree = read_energy_tree(file, why_not);
  if (!tree) return std::nullopt;
  try {
    return open_fused(file, std::move(*tree), way, device);
  } catch (const Error& e) {
    const bool is_of_gpu = way.on_gpu && (e.status() == DEEPMD_ERROR_MEMORY || e.status() == DEEPMD_ERROR_INTERNAL);
    if (e.status() != DEEPMD_ERROR_UNSUPPORTED && !is_of_gpu) throw;
    *why_not = e.what();
    return std::nullopt;
  }
}

}  // namespace

std::string OpenedPath::describe() const {
  const auto* fused = dynamic_cast<const FusedPotential*>(potential.get());
  if (!fused) {
    return text(potential->name(), ": ", description, description.empty() ? "" : ", ", potential->description(), note);
  }
  return text(potential->name(), ": ", description, ", ", fused->instruction_set(), ", ", fused->n_threads(),
              fused->n_threads() == 1 ? " thread; " : " threads; ", fused->bytes_of_model() / 1000000.0,
              " MB of tables and weights, ", fused->bytes_per_thread() / 1000000.0, " MB per thread, ",
              fused->bytes_per_atom(), " bytes per atom", note);
}

OpenedPath open_path(const ModelFile& file, const PathChoice& choice) {
  const std::string path = choose_word(choice.path, "DEEPMD_PATH", {"auto", "fused", "cuda", "script"});
  const std::string precision = choose_word(choice.precision, "DEEPMD_PRECISION", {"float64", "mixed", "tf32"});
  const bool is_mixed = precision != "float64", is_tf32 = precision == "tf32";
  if (is_tf32 && path != "cuda") {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("the precision 'tf32' was asked for together with the path '", path, "', expected 'cuda', whose "
                                            "tensor cores it is for; use mixed, or the path cuda"));
  }
  if (path == "script" && is_mixed) {
    throw Error(DEEPMD_ERROR_ARGUMENT, "the precision 'mixed' was asked for together with the path 'script', which "
                                       "computes as the model was trained; leave out one of them");
  }
  if (path == "script") return open_script(file, choice.device);
  const bool is_automatic = path == "auto", wants_gpu = choice.device.gpu_rank >= 0;
  std::string why_not, note;
  if (path == "cuda") {
    if (auto on_gpu = try_fused(file, {true, is_mixed, is_tf32}, choice.device, &why_not)) return std::move(*on_gpu);
  } else if (is_automatic && wants_gpu && has_device()) {  // these kernels have not run on a GPU: docs/gpu.md
    note = "; a GPU answers, which the path cuda would use";
  }
  if (is_automatic && !is_mixed && wants_gpu && has_gpu()) {
    OpenedPath opened = open_script(file, choice.device);
    opened.note = note;
    return opened;
  }
  if (path != "cuda") {
    if (auto fused = try_fused(file, {false, is_mixed, false}, choice.device, &why_not)) {
      fused->note = note;
      return std::move(*fused);
    }
    if (is_automatic && !is_mixed) {
      OpenedPath opened = open_script(file, choice.device);
      opened.note = "; not fused: the model " + why_not;
      return opened;
    }
  }
  throw Error(DEEPMD_ERROR_UNSUPPORTED, text(file.path(), " cannot run by the ", path == "cuda" ? "cuda" : "fused", " path",
                                             is_mixed ? text(" (precision ", precision, ")") : std::string(), ": the model ", why_not,
                                             "; use the path ", path == "cuda" ? "fused, script or auto" : "script or auto"));
}

}  // namespace deepmd
