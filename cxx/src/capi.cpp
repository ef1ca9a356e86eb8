// The C interface: the only place where exceptions become status codes.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "core/error.hpp"
#include "core/type_map.hpp"
#include "deepmd/deepmd.h"
#include "model/deviation.hpp"
#include "model/device_library.hpp"
#include "model/ensemble.hpp"

using deepmd::Error;
using deepmd::text;

struct deepmd_model {
  deepmd::Model model;
  std::vector<const char*> type_names;
  mutable std::string path_description;
};

struct deepmd_ensemble {
  std::vector<std::unique_ptr<deepmd_model>> owned;  // empty if the models belong to the caller
  std::vector<deepmd_model*> models;
  deepmd::Ensemble ensemble;
};

struct deepmd_neighbors {
  deepmd::Neighbors neighbors;
};

namespace {

thread_local std::string last_error;

deepmd_status fail(deepmd_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

template <class Work>
deepmd_status guarded(Work&& work) noexcept {
  try {
    last_error.clear();
    work();
    return DEEPMD_OK;
  } catch (const Error& e) {
    return fail(e.status(), e.what());
  } catch (const std::bad_alloc&) {
    return fail(DEEPMD_ERROR_MEMORY, "out of memory; use a smaller system or a shorter skin");
  } catch (const std::length_error&) {
    return fail(DEEPMD_ERROR_MEMORY, "out of memory: an array would be too long; use a smaller system");
  } catch (const std::exception& e) {
    return fail(DEEPMD_ERROR_INTERNAL, e.what());
  } catch (...) {
    return fail(DEEPMD_ERROR_INTERNAL, "an unknown failure inside the library");
  }
}

void require(const void* pointer, const char* name) {
  if (!pointer) throw Error(DEEPMD_ERROR_ARGUMENT, text(name, " is a null pointer, expected one to an object"));
}

// The caller's struct, which may be from an older or newer header, on top of the defaults of this one.
template <class Struct>
Struct read_struct(const Struct* given, Struct defaults, const char* name) {
  require(given, name);
  if (given->size <= sizeof(given->size)) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("the field size of ", name, " is ", given->size, ", expected ",
                                            sizeof(Struct), "; call its init function first"));
  }
  std::memcpy(&defaults, given, std::min(given->size, sizeof(Struct)));
  return defaults;
}

template <class Struct>
Struct with_size() {
  Struct fresh{};
  fresh.size = sizeof(Struct);
  return fresh;
}

deepmd::Request to_request(const deepmd_input& input) {
  deepmd::Request request;
  deepmd::Frame& frame = request.frame;
  frame.n_local = input.n_local;
  frame.n_ghost = input.n_ghost;
  frame.positions = input.positions;
  frame.types = input.types;
  frame.cell = input.cell;
  frame.fparam = input.fparam;
  frame.aparam = input.aparam;
  frame.spins = input.spins;
  frame.ghost_aparam = input.ghost_aparam;
  request.pbc = input.pbc;
  if (input.list) {
    const auto list = read_struct(input.list, with_size<deepmd_list>(), "list");
    frame.list = deepmd::ListView(list.n_centers, list.first, list.index, list.shift);
    frame.list.owners = list.owners;
    frame.list.stamp = list.stamp;
    frame.list.radius = list.first ? 0 : list.radius;
    request.has_list = true;
  }
  return request;
}

}  // namespace

const char* deepmd_last_error(void) { return last_error.c_str(); }

const char* deepmd_status_name(deepmd_status status) {
  static const char* const names[] = {
      "DP_OK",             "DP_ERROR_ARGUMENT", "DP_ERROR_FILE",     "DP_ERROR_DAMAGED",
      "DP_ERROR_FORMAT",   "DP_ERROR_VERSION",  "DP_ERROR_SELFTEST", "DP_ERROR_GEOMETRY",
      "DP_ERROR_NONFINITE", "DP_ERROR_UNSUPPORTED", "DP_ERROR_MEMORY", "DP_ERROR_INTERNAL"};
  const auto k = static_cast<std::size_t>(status);
  return k < sizeof(names) / sizeof(names[0]) ? names[k] : "DP_ERROR_UNKNOWN";
}

const char* deepmd_version(void) { return DEEPMD_VERSION; }

uint64_t deepmd_new_stamp(void) {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

const char* deepmd_describe_gpus(void) {
  static const std::string once = deepmd::describe_devices();
  return once.c_str();
}

void deepmd_open_options_init(deepmd_open_options* options) {
  if (!options) return;
  *options = with_size<deepmd_open_options>();
  options->run_selftest = 1;
}

deepmd_status deepmd_model_open(const char* path, const deepmd_open_options* options, deepmd_model** model) {
  return guarded([&] {
    require(path, "path");
    require(model, "model");
    *model = nullptr;
    deepmd_open_options chosen;
    deepmd_open_options_init(&chosen);
    if (options) chosen = read_struct(options, chosen, "options");
    deepmd::ModelFile file =
        chosen.content ? deepmd::ModelFile(path, {static_cast<const char*>(chosen.content), chosen.content_size})
                       : deepmd::ModelFile::read(path);
    const deepmd::PathChoice choice{chosen.path ? chosen.path : "", chosen.precision ? chosen.precision : "",
                                    {chosen.gpu_rank, std::max(1, chosen.gpu_ranks), chosen.n_threads}};
    std::unique_ptr<deepmd_model> opened(
        new deepmd_model{deepmd::Model(deepmd::part_of(std::move(file), chosen.part), choice), {}, {}});
    for (const std::string& name : opened->model.metadata().type_map) opened->type_names.push_back(name.c_str());
    if (chosen.run_selftest) opened->model.selftest();
    *model = opened.release();
  });
}

void deepmd_model_free(deepmd_model* model) { delete model; }

deepmd_status deepmd_model_info(const deepmd_model* model, deepmd_info* info) {
  return guarded([&] {
    require(model, "model");
    read_struct(info, with_size<deepmd_info>(), "info");
    const deepmd::Metadata& metadata = model->model.metadata();
    deepmd_info all{};
    all.size = std::min(info->size, sizeof(all));
    all.rcut = metadata.rcut;
    all.n_types = static_cast<int>(metadata.type_map.size());
    all.type_map = model->type_names.data();
    all.dim_fparam = metadata.dim_fparam;
    all.dim_aparam = metadata.dim_aparam;
    all.has_default_fparam = !metadata.default_fparam.empty();
    all.kind = metadata.kind.c_str();
    all.path_in_use = model->model.path_in_use();
    all.metadata_json = metadata.json.c_str();
    all.min_pair_distance = metadata.min_pair_distance;
    model->path_description = model->model.describe_path();
    all.path_description = model->path_description.c_str();
    all.passes_messages = metadata.passes_messages;
    all.receptive_field = metadata.receptive_field;
    all.output_name = metadata.output.name.c_str();
    all.output_width = metadata.output.width;
    all.output_is_mean = metadata.output.is_mean;
    all.output_has_derivatives = metadata.output.has_derivatives;
    all.sel_types = metadata.output.sel_types.data();
    all.n_sel_types = static_cast<int>(metadata.output.sel_types.size());
    all.modifier = metadata.modifier.c_str();
    all.ewald_beta = metadata.ewald_beta;
    all.aparam_of_ghosts = metadata.has_fragments();
    std::memcpy(info, &all, all.size);
  });
}

deepmd_status deepmd_model_type_of(const deepmd_model* model, const char* name, int* type) {
  return guarded([&] {
    require(model, "model");
    require(name, "name");
    require(type, "type");
    *type = deepmd::type_of(model->model.metadata().type_map, name);
  });
}

deepmd_status deepmd_neighbors_new(double rcut, double skin, deepmd_neighbors** neighbors) {
  return guarded([&] {
    require(neighbors, "neighbors");
    *neighbors = nullptr;
    *neighbors = new deepmd_neighbors{deepmd::Neighbors(rcut, skin)};
  });
}

void deepmd_neighbors_free(deepmd_neighbors* neighbors) { delete neighbors; }

deepmd_status deepmd_neighbors_update(deepmd_neighbors* neighbors, int n_atoms, const double* positions,
                                      const double* cell, const int* pbc, deepmd_list* list, int* rebuilt) {
  return guarded([&] {
    require(neighbors, "neighbors");
    require(list, "list");
    if (n_atoms < 0) throw Error(DEEPMD_ERROR_ARGUMENT, text("n_atoms is ", n_atoms, ", expected 0 or more"));
    if (n_atoms > 0) require(positions, "positions");
    const bool is_new = neighbors->neighbors.update(n_atoms, positions, cell, pbc);
    const deepmd::ListView view(neighbors->neighbors.list());
    list->size = offsetof(deepmd_list, owners);  // a caller's struct may end before the fields that are not written
    list->n_centers = view.n_centers;
    list->first = view.first;
    list->index = view.index;
    list->shift = view.shift;
    if (rebuilt) *rebuilt = is_new;
  });
}

void deepmd_input_init(deepmd_input* input) {
  if (input) *input = with_size<deepmd_input>();
}

void deepmd_output_init(deepmd_output* output) {
  if (output) *output = with_size<deepmd_output>();
}

deepmd_status deepmd_evaluate(deepmd_model* model, const deepmd_input* input, deepmd_output* output) {
  return guarded([&] {
    require(model, "model");
    const auto given = read_struct(input, with_size<deepmd_input>(), "input");
    const auto wanted = read_struct(output, with_size<deepmd_output>(), "output");
    const std::int64_t n_before = model->model.n_outside();
    model->model.evaluate(to_request(given), {wanted.energy, wanted.forces, wanted.virial, wanted.atom_energy,
                                              wanted.atom_virial, wanted.spin_forces});
    if (wanted.n_outside) *wanted.n_outside = model->model.n_outside() - n_before;
  });
}

void deepmd_atom_output_init(deepmd_atom_output* output) {
  if (output) *output = with_size<deepmd_atom_output>();
}

deepmd_status deepmd_evaluate_output(deepmd_model* model, const deepmd_input* input, deepmd_atom_output* output) {
  return guarded([&] {
    require(model, "model");
    const auto given = read_struct(input, with_size<deepmd_input>(), "input");
    const auto wanted = read_struct(output, with_size<deepmd_atom_output>(), "output");
    model->model.evaluate_output(to_request(given), {wanted.output, wanted.atom_output, wanted.weights, wanted.forces,
                                                     wanted.virial, wanted.atom_virial});
  });
}

deepmd_status deepmd_selftest(deepmd_model* model, double* worst) {
  return guarded([&] {
    require(model, "model");
    const double difference = model->model.selftest();
    if (worst) *worst = difference;
  });
}

namespace {

// The facts of a model into the caller's struct, which may be older or newer than this one.
void give_info(const deepmd_model& model, const deepmd::Ensemble& ensemble, deepmd_info* info) {
  deepmd_info all{};
  all.size = sizeof(all);
  if (deepmd_model_info(&model, &all) != DEEPMD_OK) throw Error(DEEPMD_ERROR_INTERNAL, last_error);
  all.rcut = ensemble.rcut();
  all.receptive_field = ensemble.receptive_field();
  all.passes_messages = ensemble.passes_messages();
  all.size = std::min(read_struct(info, with_size<deepmd_info>(), "info").size, sizeof(all));
  std::memcpy(info, &all, all.size);
}

deepmd_ensemble* make_ensemble(std::vector<std::unique_ptr<deepmd_model>> owned, std::vector<deepmd_model*> models) {
  std::vector<deepmd::Model*> members;
  for (deepmd_model* model : models) {
    require(model, "a model of the ensemble");
    members.push_back(&model->model);
  }
  return new deepmd_ensemble{std::move(owned), std::move(models), deepmd::Ensemble(std::move(members))};
}

// Calls take(k, output); the caller's structs stand as far apart as their size says.
template <class Take>
void for_each_output(int n_outputs, const deepmd_output* outputs, Take&& take) {
  if (n_outputs < 0) throw Error(DEEPMD_ERROR_ARGUMENT, text("n_outputs is ", n_outputs, ", expected 0 or more"));
  const auto* next = reinterpret_cast<const char*>(outputs);
  for (std::size_t k = 0; k < static_cast<std::size_t>(n_outputs); ++k) {
    const auto* each = reinterpret_cast<const deepmd_output*>(next);
    const auto wanted = read_struct(each, with_size<deepmd_output>(), "outputs");
    take(k, wanted);
    next += wanted.size;
  }
}

std::vector<deepmd::Result> read_outputs(int n_outputs, const deepmd_output* outputs) {
  std::vector<deepmd::Result> results;
  for_each_output(n_outputs, outputs, [&](std::size_t, const deepmd_output& wanted) {
    results.push_back({wanted.energy, wanted.forces, wanted.virial, wanted.atom_energy, wanted.atom_virial,
                       wanted.spin_forces});
  });
  return results;
}

// given: what the caller's struct holds.
void give_deviation(const deepmd::FrameDeviation& found, deepmd_deviation given, deepmd_deviation* to) {
  given.force = {found.force.max, found.force.min, found.force.avg};
  given.virial = {found.virial.max, found.virial.min, found.virial.avg};
  given.energy = found.energy;
  std::memcpy(to, &given, std::min(given.size, sizeof(given)));
}

void check_counts(int n_models, long long n_rows, const char* name) {
  if (n_models < 1) throw Error(DEEPMD_ERROR_ARGUMENT, text("n_models is ", n_models, ", expected at least one"));
  if (n_rows < 0) throw Error(DEEPMD_ERROR_ARGUMENT, text(name, " is ", n_rows, ", expected 0 or more"));
}

void check_rows(int n_models, const double* const* rows, const char* name) {
  for (int k = 0; rows && k < n_models; ++k) require(rows[k], name);
}

deepmd::ModelValues read_values(const deepmd_model_values* given, bool may_be_null) {
  const auto values = read_struct(given, with_size<deepmd_model_values>(), "values");
  check_counts(values.n_models, values.width, "width");
  if (!may_be_null) require(values.values, "values");
  check_rows(values.n_models, values.values, "an entry of values");
  return {values.n_models, values.n_groups, static_cast<std::size_t>(values.width), values.values};
}

}  // namespace

deepmd_status deepmd_ensemble_new(int n_models, deepmd_model* const* models, deepmd_ensemble** ensemble) {
  return guarded([&] {
    require(ensemble, "ensemble");
    *ensemble = nullptr;
    check_counts(n_models, 0, "n_models");
    require(models, "models");
    *ensemble = make_ensemble({}, std::vector<deepmd_model*>(models, models + n_models));
  });
}

deepmd_status deepmd_ensemble_open(int n_models, const char* const* paths, const deepmd_open_options* options,
                                   deepmd_ensemble** ensemble) {
  return guarded([&] {
    require(ensemble, "ensemble");
    *ensemble = nullptr;
    check_counts(n_models, 0, "n_models");
    require(paths, "paths");
    std::vector<std::unique_ptr<deepmd_model>> owned;
    std::vector<deepmd_model*> models;
    for (int k = 0; k < n_models; ++k) {
      deepmd_model* opened = nullptr;
      const deepmd_status status = deepmd_model_open(paths[k], options, &opened);
      if (status != DEEPMD_OK) throw Error(status, std::string(last_error));
      owned.emplace_back(opened);
      models.push_back(opened);
    }
    *ensemble = make_ensemble(std::move(owned), std::move(models));
  });
}

void deepmd_ensemble_free(deepmd_ensemble* ensemble) { delete ensemble; }

deepmd_status deepmd_ensemble_info(const deepmd_ensemble* ensemble, deepmd_info* info) {
  return guarded([&] {
    require(ensemble, "ensemble");
    give_info(*ensemble->models[0], ensemble->ensemble, info);
  });
}

deepmd_status deepmd_ensemble_evaluate(deepmd_ensemble* ensemble, const deepmd_input* input, int n_outputs,
                                       deepmd_output* outputs) {
  return guarded([&] {
    require(ensemble, "ensemble");
    const auto given = read_struct(input, with_size<deepmd_input>(), "input");
    const std::vector<deepmd::Result> results = read_outputs(n_outputs, outputs);
    std::vector<std::int64_t> n_before;
    for (const deepmd_model* model : ensemble->models) n_before.push_back(model->model.n_outside());
    ensemble->ensemble.evaluate(to_request(given), results);
    for_each_output(n_outputs, outputs, [&](std::size_t k, const deepmd_output& output) {
      if (output.n_outside) *output.n_outside = ensemble->models[k]->model.n_outside() - n_before[k];
    });
  });
}

deepmd_status deepmd_ensemble_compare(deepmd_ensemble* ensemble, const deepmd_input* input, double relative, double relative_v,
                                      deepmd_output* output, deepmd_deviation* deviation, double* largest_force) {
  return guarded([&] {
    require(ensemble, "ensemble");
    const auto given = read_struct(input, with_size<deepmd_input>(), "input");
    auto result = read_struct(deviation, with_size<deepmd_deviation>(), "deviation");
    const std::vector<deepmd::Result> first = read_outputs(1, output);
    const deepmd::Model& model = ensemble->models[0]->model;
    const std::int64_t n_before = model.n_outside();
    const deepmd::EnsembleDeviation found = ensemble->ensemble.compare(to_request(given), first[0], {relative, relative_v, result.atoms});
    for_each_output(1, output, [&](std::size_t, const deepmd_output& wanted) {
      if (wanted.n_outside) *wanted.n_outside = model.n_outside() - n_before;
    });
    give_deviation(found.frame, result, deviation);
    if (largest_force) *largest_force = found.largest_force;
  });
}

void deepmd_deviation_input_init(deepmd_deviation_input* input) {
  if (!input) return;
  *input = with_size<deepmd_deviation_input>();
  input->relative = input->relative_v = -1;
}

void deepmd_deviation_init(deepmd_deviation* deviation) {
  if (deviation) *deviation = with_size<deepmd_deviation>();
}

deepmd_status deepmd_deviation_compute(const deepmd_deviation_input* input, deepmd_deviation* deviation) {
  return guarded([&] {
    deepmd_deviation_input defaults;
    deepmd_deviation_input_init(&defaults);
    const auto given = read_struct(input, defaults, "input");
    auto result = read_struct(deviation, with_size<deepmd_deviation>(), "deviation");
    check_counts(given.n_models, given.n_atoms, "n_atoms");
    if (given.n_atoms > 0) check_rows(given.n_models, given.forces, "an entry of forces");
    const deepmd::FrameOpinions opinions{given.n_models,    static_cast<std::size_t>(given.n_atoms),
                                         given.forces,      given.virials,
                                         given.energies,    given.true_forces,
                                         given.true_virial, given.true_energy,
                                         given.relative,    given.relative_v,
                                         given.n_counted};
    std::vector<double> atoms(result.atoms ? 0 : opinions.n_atoms);
    const deepmd::FrameDeviation found = frame_deviation(opinions, result.atoms ? result.atoms : atoms.data());
    give_deviation(found, result, deviation);
  });
}

deepmd_status deepmd_deviation_mean(const deepmd_model_values* values, double* mean) {
  return guarded([&] {
    require(mean, "mean");
    model_mean(read_values(values, false), mean);
  });
}

deepmd_status deepmd_deviation_groups(const deepmd_model_values* values, const double* center, double* deviation) {
  return guarded([&] {
    require(deviation, "deviation");
    group_deviation(read_values(values, false), center, deviation);
  });
}

deepmd_status deepmd_deviation_relative(const deepmd_model_values* values, const double* center, double level,
                                        double* deviation) {
  return guarded([&] {
    require(deviation, "deviation");
    if (!(level >= 0)) throw Error(DEEPMD_ERROR_ARGUMENT, text("level is ", level, ", expected 0 or more"));
    make_relative(read_values(values, center != nullptr), center, level, deviation);
  });
}
