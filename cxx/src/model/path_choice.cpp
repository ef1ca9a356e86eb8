#include "model/path_choice.hpp"

#include <algorithm>
#include <cstdlib>

#include "core/error.hpp"
#include "model/close_pairs.hpp"

namespace deepmd {
namespace {

// Stored frames are stranger than those on which a compression was measured: so many times its tolerance is allowed.
constexpr double kCompressionMargin = 10.0;
// In mixed precision, relative to the largest entry as everywhere in the self-test: float32 networks err by about 1e-5.
constexpr double kMixedTolerance = 1e-4;

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

OpenedPath open_fused(const ModelFile& file, EnergyTree tree, bool is_mixed, int n_threads) {
  const std::optional<CompressionRecord> record = read_compression(file);
  PairBasis basis = basis_of(file, tree, record ? &*record : nullptr);
  OpenedPath opened;
  opened.description = basis.description + (is_mixed ? ", mixed" : ", float64");
  opened.selftest_tolerance = file.metadata().selftest_tolerance;
  if (record) opened.selftest_tolerance = std::max(opened.selftest_tolerance, kCompressionMargin * record->tolerance);
  if (is_mixed) opened.selftest_tolerance = std::max(opened.selftest_tolerance, kMixedTolerance);
  const FusedOptions options{is_mixed ? Precision::mixed : Precision::float64, n_threads};
  if (record && record->spectral) {
    auto spectral = make_fused_potential(tree, std::move(basis), options);
    opened.potential = make_exact_when_close(std::move(spectral), std::move(tree), record->shortest, options);
  } else {
    opened.potential = make_fused_potential(std::move(tree), std::move(basis), options);
  }
  return opened;
}

OpenedPath open_script(const ModelFile& file, const DeviceChoice& device) {
  return {open_script_potential(file, device), "", file.metadata().selftest_tolerance, ""};
}

// Nothing, with the reason, if the model does not allow the fused path.
std::optional<OpenedPath> try_fused(const ModelFile& file, bool is_mixed, int n_threads, std::string* why_not) {
  if (file.metadata().kind != "energy") {
    *why_not = "predicts '" + file.metadata().kind + "', and the fused path computes energies";
    return std::nullopt;
  }
  std::optional<EnergyTree> tree = read_energy_tree(file, why_not);
  if (!tree) return std::nullopt;
  try {
    return open_fused(file, std::move(*tree), is_mixed, n_threads);
  } catch (const Error& e) {
    if (e.status() != DEEPMD_ERROR_UNSUPPORTED) throw;
    *why_not = e.what();
    return std::nullopt;
  }
}

}  // namespace

std::string OpenedPath::describe() const {
  const auto* fused = dynamic_cast<const FusedPotential*>(potential.get());
  if (!fused) return text(potential->name(), ": ", potential->description(), why_not.empty() ? "" : "; not fused: the model ", why_not);
  return text(potential->name(), ": ", description, ", ", fused->instruction_set(), ", ", fused->n_threads(),
              fused->n_threads() == 1 ? " thread; " : " threads; ", fused->bytes_of_model() / 1000000.0,
              " MB of tables and weights, ", fused->bytes_per_thread() / 1000000.0, " MB per thread, ",
              fused->bytes_per_atom(), " bytes per atom");
}

OpenedPath open_path(const ModelFile& file, const PathChoice& choice) {
  const std::string path = choose_word(choice.path, "DEEPMD_PATH", {"auto", "fused", "script"});
  const bool is_mixed = choose_word(choice.precision, "DEEPMD_PRECISION", {"float64", "mixed"}) == "mixed";
  if (path == "script" && is_mixed) {
    throw Error(DEEPMD_ERROR_ARGUMENT, "the precision 'mixed' was asked for together with the path 'script', which "
                                       "computes as the model was trained; leave out one of them");
  }
  const bool is_automatic = path == "auto";
  if (path == "script" || (is_automatic && !is_mixed && choice.device.gpu_rank >= 0 && has_gpu())) {
    return open_script(file, choice.device);
  }
  std::string why_not;
  if (auto fused = try_fused(file, is_mixed, choice.device.n_threads, &why_not)) return std::move(*fused);
  if (is_automatic && !is_mixed) {
    OpenedPath opened = open_script(file, choice.device);
    opened.why_not = why_not;
    return opened;
  }
  throw Error(DEEPMD_ERROR_UNSUPPORTED, text(file.path(), " cannot run by the fused path", is_mixed ? " (precision mixed)" : "",
                                             ": the model ", why_not, "; use the path script or auto"));
}

}  // namespace deepmd
