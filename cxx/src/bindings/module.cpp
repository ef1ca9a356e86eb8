// The verbs of deepmd.h on NumPy arrays; no logic of their own.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "deepmd/deepmd.h"

namespace py = pybind11;

namespace {

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Ints = py::array_t<int, py::array::c_style | py::array::forcecast>;
using Longs = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

[[noreturn]] void raise(const char* type, deepmd_status status, const std::string& message) {
  const py::object exception =
      py::module_::import("deepmd.errors").attr(type)(message, deepmd_status_name(status));
  PyErr_SetObject(py::type::of(exception).ptr(), exception.ptr());
  throw py::error_already_set();
}

void check(deepmd_status status) {
  if (status == DEEPMD_OK) return;
  const bool is_file = status == DEEPMD_ERROR_FILE || status == DEEPMD_ERROR_DAMAGED || status == DEEPMD_ERROR_FORMAT ||
                       status == DEEPMD_ERROR_VERSION || status == DEEPMD_ERROR_SELFTEST;
  raise(is_file ? "ModelError" : "EngineError", status, deepmd_last_error());
}

// The error sentence belongs to this thread, so it survives the moment in which the lock is taken back.
template <class Work>
void without_lock(Work&& work) {
  deepmd_status status;
  {
    const py::gil_scoped_release release;
    status = work();
  }
  check(status);
}

// Refuses an array of another shape; -1 stands for any extent.
template <class Array>
void expect_shape(const Array& array, const std::vector<py::ssize_t>& shape, const char* name) {
  bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
  for (std::size_t a = 0; fits && a < shape.size(); ++a) {
    fits = shape[a] < 0 || array.shape(static_cast<py::ssize_t>(a)) == shape[a];
  }
  if (fits) return;
  std::string got, expected;
  for (py::ssize_t a = 0; a < array.ndim(); ++a) got += (a ? ", " : "") + std::to_string(array.shape(a));
  for (std::size_t a = 0; a < shape.size(); ++a) {
    expected += (a ? ", " : "") + (shape[a] < 0 ? std::string("n") : std::to_string(shape[a]));
  }
  raise("EngineError", DEEPMD_ERROR_ARGUMENT,
        std::string(name) + " has shape [" + got + "], expected [" + expected + "]; reshape it");
}

[[noreturn]] void refuse_argument(const std::string& sentence) {
  raise("EngineError", DEEPMD_ERROR_ARGUMENT, sentence);
}

// Converts what NumPy can read as an array of numbers; whole numbers are not made from others.
template <class Array>
Array to_array(const py::object& given, const std::vector<py::ssize_t>& shape, const char* name) {
  const auto any = py::array::ensure(given);
  if (!any) PyErr_Clear();
  const char kind = any ? any.dtype().kind() : 'O';
  const bool is_whole = kind == 'i' || kind == 'u' || kind == 'b';
  const bool wants_whole = std::is_integral<typename Array::value_type>::value;
  if (!any || (!is_whole && any.size() > 0 && (wants_whole || kind != 'f'))) {
    refuse_argument(std::string(name) + " is not an array of " + (wants_whole ? "whole " : "") + "numbers; pass one");
  }
  const auto array = py::cast<Array>(any);
  expect_shape(array, shape, name);
  return array;
}

// The same for an array that may be absent; an empty one counts as absent.
template <class Array>
struct Optional {
  Optional(const py::object& given, const std::vector<py::ssize_t>& shape, const char* name) {
    if (given.is_none()) return;
    array = to_array<Array>(given, shape, name);
    if (array.size() > 0) data = array.data();
  }
  Array array;
  const typename Array::value_type* data = nullptr;
};

class Neighbors {
 public:
  Neighbors(double rcut, double skin) {
    deepmd_neighbors* created = nullptr;
    check(deepmd_neighbors_new(rcut, skin, &created));
    handle_.reset(created);
  }

  bool update(const py::object& given, const py::object& cell, const py::object& pbc) {
    const auto positions = to_array<Doubles>(given, {-1, 3}, "positions");
    const Optional<Doubles> rows(cell, {3, 3}, "cell");
    const Optional<Ints> flags(pbc, {3}, "pbc");
    const int n_atoms = static_cast<int>(positions.shape(0));
    const double* data = positions.data();
    int rebuilt = 0;
    without_lock([&] {
      return deepmd_neighbors_update(handle_.get(), n_atoms, data, rows.data, flags.data, &list_, &rebuilt);
    });
    if (rebuilt) list_.stamp = deepmd_new_stamp();
    list_.size = sizeof(list_);  // owners stay null
    return rebuilt != 0;
  }

  py::tuple update_and_copy(const py::object& positions, const py::object& cell, const py::object& pbc) {
    const bool rebuilt = update(positions, cell, pbc);
    const auto n_pairs = static_cast<py::ssize_t>(list_.first[list_.n_centers]);
    return py::make_tuple(py::array_t<std::int64_t>(list_.n_centers + 1, list_.first),
                          py::array_t<int>(n_pairs, list_.index),
                          py::array_t<int>(std::vector<py::ssize_t>{n_pairs, 3}, list_.shift), rebuilt);
  }

  const deepmd_list& list() const { return list_; }

 private:
  struct Free {
    void operator()(deepmd_neighbors* neighbors) const { deepmd_neighbors_free(neighbors); }
  };
  std::unique_ptr<deepmd_neighbors, Free> handle_;
  deepmd_list list_{};
};

// What Model.evaluate takes, in the order of its Python signature.
struct Arguments {
  py::object positions, types, cell, pbc, fparam, aparam;
  bool atomic;
  Neighbors* neighbors;
  int n_local;
  py::object list;
};

// A list handed in as (first, index), (first, index, shift) or (first, index, shift, owners); the last two may be None.
struct ListArguments {
  explicit ListArguments(const py::object& given) : ListArguments(as_tuple(given)) {}
  explicit ListArguments(const py::tuple& parts)
      : first(parts[0], {-1}, "the list's first"),
        index(parts[1], {-1}, "the list's index"),
        shift(parts.size() > 2 ? py::object(parts[2]) : py::none(), {-1, 3}, "the list's shift"),
        owners(parts.size() > 3 ? py::object(parts[3]) : py::none(), {-1}, "the list's owners") {
    const py::ssize_t n_pairs = first.array.size() > 0 ? first.array.data()[first.array.size() - 1] : -1;
    if (index.array.size() != n_pairs || (shift.data != nullptr && shift.array.shape(0) != n_pairs)) {
      refuse_argument("the list's index and shift have other lengths than the last entry of first tells");
    }
    const int n_centers = static_cast<int>(first.array.size()) - 1;
    list = {sizeof(deepmd_list), n_centers, first.data, index.data, shift.data, owners.data, 0, 0.0};
  }
  static py::tuple as_tuple(const py::object& given) {
    if (py::isinstance<py::tuple>(given) && py::len(given) >= 2 && py::len(given) <= 4) return given;
    refuse_argument("list is neither a tuple (first, index[, shift[, owners]]) nor a radius; pass one");
  }
  Optional<Longs> first;
  Optional<Ints> index, shift, owners;
  deepmd_list list;
};

// Checks the arrays and calls run(deepmd_input) while they live.
template <class Run>
py::dict with_input(const deepmd_info& info, const Arguments& given, Run&& run) {
  const auto positions = to_array<Doubles>(given.positions, {-1, 3}, "positions");
  const py::ssize_t n_all = positions.shape(0);
  const auto types = to_array<Ints>(given.types, {n_all}, "types");
  if (given.n_local > n_all) refuse_argument("n_local is larger than the number of positions; pass all atoms");
  const py::ssize_t n_local = given.n_local < 0 ? n_all : given.n_local;
  const Optional<Doubles> cell(given.cell, {3, 3}, "cell");
  const Optional<Ints> pbc(given.pbc, {3}, "pbc");
  const Optional<Doubles> fparam(given.fparam, {info.dim_fparam}, "fparam");
  const py::ssize_t n_aparam = info.aparam_of_ghosts ? n_all : n_local;
  const Optional<Doubles> aparam(given.aparam, {n_aparam, info.dim_aparam}, "aparam");

  deepmd_input input;
  deepmd_input_init(&input);
  input.n_local = static_cast<int>(n_local);
  input.n_ghost = static_cast<int>(n_all - n_local);
  input.positions = positions.data();
  input.types = types.data();
  input.cell = cell.data;
  input.pbc = pbc.data;
  input.fparam = fparam.data;
  input.aparam = aparam.data;
  if (aparam.data && n_aparam > n_local) input.ghost_aparam = aparam.data + n_local * info.dim_aparam;
  if (py::isinstance<py::float_>(given.list)) {  // a radius: the core finds the neighbours of local atoms
    const deepmd_list no_rows = {sizeof(deepmd_list), static_cast<int>(n_local), nullptr, nullptr, nullptr, nullptr, 0,
                                 py::cast<double>(given.list)};
    input.list = &no_rows;
    return run(input);
  }
  if (!given.list.is_none()) {
    const ListArguments list(given.list);
    if (list.owners.data && list.owners.array.size() != n_all) {
      refuse_argument("the list's owners are not as many as the positions; pass one for each atom");
    }
    input.list = &list.list;
    return run(input);
  }
  if (given.neighbors) {
    given.neighbors->update(given.positions, given.cell, given.pbc);
    input.list = &given.neighbors->list();
  }
  return run(input);
}

// How a model is opened; None: as the environment says, else the default.
struct Opening {
  std::string file;
  bool run_selftest;
  int n_threads, gpu_rank;
  py::object path, precision, part;
};

class Model {
 public:
  explicit Model(const Opening& how) {
    deepmd_open_options options;
    deepmd_open_options_init(&options);
    options.run_selftest = how.run_selftest;
    options.n_threads = how.n_threads;
    options.gpu_rank = how.gpu_rank;
    const std::string path = how.path.is_none() ? "" : py::cast<std::string>(how.path);
    const std::string precision = how.precision.is_none() ? "" : py::cast<std::string>(how.precision);
    options.path = path.c_str();
    options.precision = precision.c_str();
    const std::string part = how.part.is_none() ? "" : py::cast<std::string>(how.part);
    options.part = part.c_str();
    deepmd_model* opened = nullptr;
    without_lock([&] { return deepmd_model_open(how.file.c_str(), &options, &opened); });
    handle_.reset(opened);
    read_info();
  }

  const deepmd_info& info() const { return info_; }

  // The info with what changes while a model is used.
  const deepmd_info& read_info() {
    const std::lock_guard<std::mutex> one_at_a_time(mutex_);
    info_.size = sizeof(info_);
    check(deepmd_model_info(handle_.get(), &info_));
    return info_;
  }

  std::vector<std::string> type_map() const { return {info_.type_map, info_.type_map + info_.n_types}; }

  std::int64_t n_outside() const { return n_outside_; }

  double selftest() {
    double worst = 0;
    without_lock([&] {
      const std::lock_guard<std::mutex> one_at_a_time(mutex_);
      return deepmd_selftest(handle_.get(), &worst);
    });
    return worst;
  }

  deepmd_model* handle() const { return handle_.get(); }
  std::mutex& mutex() { return mutex_; }

  py::dict evaluate(const Arguments& given) {
    return with_input(info_, given, [&](const deepmd_input& input) { return run(input, given.atomic); });
  }

  py::dict evaluate_output(const Arguments& given, bool derivatives, const py::object& weights) {
    return with_input(info_, given, [&](const deepmd_input& input) {
      const Optional<Doubles> factors(weights, {input.n_local, info_.output_width}, "weights");
      return run_output(input, derivatives, given.atomic, factors.data);
    });
  }

  py::dict output_facts() const {
    py::dict facts;
    facts["name"] = std::string(info_.output_name);
    facts["width"] = info_.output_width;
    facts["reduce"] = info_.output_is_mean ? "mean" : "sum";
    facts["derivatives"] = info_.output_has_derivatives != 0;
    facts["sel_type"] = std::vector<int>(info_.sel_types, info_.sel_types + info_.n_sel_types);
    return facts;
  }

 private:
  py::dict run_output(const deepmd_input& input, bool derivatives, bool atomic, const double* weights) {
    using Shape = std::vector<py::ssize_t>;
    const py::ssize_t n_all = input.n_local + static_cast<py::ssize_t>(input.n_ghost), width = info_.output_width;
    const py::ssize_t n_parts = !derivatives ? 0 : weights ? 1 : width;
    py::array_t<double> total(width), of_atoms(Shape{input.n_local, width});
    py::array_t<double> forces(Shape{n_parts, n_all, 3}), virial(Shape{n_parts, 3, 3});
    py::array_t<double> atom_virial(Shape{atomic ? n_parts : 0, n_all, 3, 3});
    deepmd_atom_output output;
    deepmd_atom_output_init(&output);
    output.output = total.mutable_data();
    output.atom_output = of_atoms.mutable_data();
    output.weights = weights;
    if (derivatives) {
      output.forces = forces.mutable_data();
      output.virial = virial.mutable_data();
      output.atom_virial = atomic ? atom_virial.mutable_data() : nullptr;
    }
    without_lock([&] {
      const std::lock_guard<std::mutex> one_at_a_time(mutex_);
      return deepmd_evaluate_output(handle_.get(), &input, &output);
    });
    py::dict result;
    result["output"] = total;
    result["atom_output"] = of_atoms;
    if (!derivatives) return result;
    result["forces"] = forces;
    result["virial"] = virial;
    if (atomic) result["atom_virial"] = atom_virial;
    return result;
  }

  py::dict run(const deepmd_input& input, bool atomic) {
    const py::ssize_t n_local = input.n_local, n_all = n_local + input.n_ghost;
    double energy = 0;
    py::array_t<double> forces(std::vector<py::ssize_t>{n_all, 3}), virial(std::vector<py::ssize_t>{3, 3});
    py::array_t<double> atom_energy(atomic ? n_local : 0);
    py::array_t<double> atom_virial(std::vector<py::ssize_t>{atomic ? n_all : 0, 3, 3});
    deepmd_output output;
    deepmd_output_init(&output);
    output.energy = &energy;
    output.forces = forces.mutable_data();
    output.virial = virial.mutable_data();
    output.atom_energy = atomic ? atom_energy.mutable_data() : nullptr;
    output.atom_virial = atomic ? atom_virial.mutable_data() : nullptr;
    std::int64_t n_outside = 0;
    output.n_outside = &n_outside;
    without_lock([&] {
      const std::lock_guard<std::mutex> one_at_a_time(mutex_);
      return deepmd_evaluate(handle_.get(), &input, &output);
    });
    n_outside_ += n_outside;

    py::dict result;
    result["energy"] = energy;
    result["forces"] = forces;
    result["virial"] = virial;
    if (atomic) {
      result["atom_energy"] = atom_energy;
      result["atom_virial"] = atom_virial;
    }
    return result;
  }

  struct Free {
    void operator()(deepmd_model* model) const { deepmd_model_free(model); }
  };
  std::unique_ptr<deepmd_model, Free> handle_;
  std::mutex mutex_;  // Python's own lock is released while the model works
  deepmd_info info_{};
  std::int64_t n_outside_ = 0;
};

// Results of several models: energies [n_models], forces [n_models, n_all, 3], virials [n_models, 3, 3].
class Ensemble {
 public:
  explicit Ensemble(const py::iterable& models) : kept_(models) {
    std::vector<deepmd_model*> handles;
    for (const py::handle& model : kept_) {
      models_.push_back(&py::cast<Model&>(model));
      handles.push_back(models_.back()->handle());
    }
    deepmd_ensemble* created = nullptr;
    check(deepmd_ensemble_new(static_cast<int>(handles.size()), handles.data(), &created));
    handle_.reset(created);
    info_.size = sizeof(info_);
    check(deepmd_ensemble_info(created, &info_));
  }

  const deepmd_info& info() const { return info_; }

  py::dict evaluate(const Arguments& given) {
    return with_input(info_, given, [&](const deepmd_input& input) { return run(input); });
  }

 private:
  py::dict run(const deepmd_input& input) {
    const auto n_models = static_cast<py::ssize_t>(models_.size());
    const py::ssize_t n_all = input.n_local + static_cast<py::ssize_t>(input.n_ghost);
    py::array_t<double> energies(n_models), forces(std::vector<py::ssize_t>{n_models, n_all, 3});
    py::array_t<double> virials(std::vector<py::ssize_t>{n_models, 3, 3});
    std::vector<deepmd_output> outputs(models_.size());
    for (py::ssize_t k = 0; k < n_models; ++k) {
      deepmd_output& output = outputs[static_cast<std::size_t>(k)];
      deepmd_output_init(&output);
      output.energy = energies.mutable_data() + k;
      output.forces = forces.mutable_data() + 3 * n_all * k;
      output.virial = virials.mutable_data() + 9 * k;
    }
    without_lock([&] {
      std::vector<std::unique_lock<std::mutex>> locks;
      for (std::mutex* mutex : mutexes()) locks.emplace_back(*mutex);
      return deepmd_ensemble_evaluate(handle_.get(), &input, static_cast<int>(n_models), outputs.data());
    });
    py::dict result;
    result["energies"] = energies;
    result["forces"] = forces;
    result["virials"] = virials;
    return result;
  }

  // Of its models and its own, each once and always in the same order, so that two ensembles cannot wait for each other.
  std::vector<std::mutex*> mutexes() {
    std::vector<std::mutex*> all = {&mutex_};
    for (Model* model : models_) all.push_back(&model->mutex());
    std::sort(all.begin(), all.end(), std::less<std::mutex*>());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  struct Free {
    void operator()(deepmd_ensemble* ensemble) const { deepmd_ensemble_free(ensemble); }
  };
  py::list kept_;  // the models live as long as this
  std::vector<Model*> models_;
  std::unique_ptr<deepmd_ensemble, Free> handle_;
  std::mutex mutex_;
  deepmd_info info_{};
};

// What models have that pass messages, or predict something else than energies.
void bind_outputs(py::class_<Model>& model) {
  model
      .def_property_readonly("passes_messages", [](const Model& model) { return model.info().passes_messages != 0; })
      .def_property_readonly("receptive_field", [](const Model& model) { return model.info().receptive_field; },
                             "How far the atoms are that an atom's output depends on, Angstrom.")
      .def_property_readonly("output", &Model::output_facts,
                             "Of other kinds than energy: name, width, reduce, derivatives, sel_type.")
      .def(
          "evaluate_output",
          [](Model& model, const py::object& positions, const py::object& types, const py::object& cell,
             const py::object& pbc, const py::object& fparam, const py::object& aparam, bool atomic, bool derivatives,
             const py::object& weights, Neighbors* neighbors, int n_local, const py::object& list) {
            return model.evaluate_output({positions, types, cell, pbc, fparam, aparam, atomic, neighbors, n_local, list},
                                         derivatives, weights);
          },
          py::arg("positions"), py::arg("types"), py::arg("cell") = py::none(), py::arg("pbc") = py::none(),
          py::arg("fparam") = py::none(), py::arg("aparam") = py::none(), py::arg("atomic") = true,
          py::arg("derivatives") = false, py::arg("weights") = py::none(), py::arg("neighbors") = nullptr,
          py::arg("n_local") = -1, py::arg("list") = py::none(),
          "Models of other kinds: output [width], atom_output [n_local, width]; with derivatives forces [width, n_all, 3], "
          "virial [width, 3, 3] and, if atomic, atom_virial [width, n_all, 3, 3]; with weights [n_local, width] those of "
          "the one sum of weights times outputs.");
}

}  // namespace

void bind_deviation(py::module_& m);  // deviation.cpp

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled core: open models, neighbour lists, evaluation. Lengths in Angstrom, energies in eV.";
  m.def("version", &deepmd_version, "Version of the library.");
  m.def("describe_gpus", &deepmd_describe_gpus, "The GPUs that models can run on, or why there are none.");

  py::class_<Neighbors>(m, "Neighbors", "A full neighbour list that is rebuilt when atoms have used up the skin.")
      .def(py::init<double, double>(), py::arg("rcut"), py::arg("skin") = 0.0)
      .def("update", &Neighbors::update_and_copy, py::arg("positions"), py::arg("cell") = py::none(),
           py::arg("pbc") = py::none(),
           "Returns copies of first [n + 1], index [n_pairs], shift [n_pairs, 3], and whether the list is new.");

  py::class_<Model> model(m, "Model", "A frozen model.");
  bind_outputs(model);
  model
      .def(py::init([](const std::string& file, bool run_selftest, int n_threads, int gpu_rank, const py::object& path,
                       const py::object& precision, const py::object& part) {
             return std::make_unique<Model>(Opening{file, run_selftest, n_threads, gpu_rank, path, precision, part});
           }),
           py::arg("file"), py::arg("run_selftest") = true, py::arg("n_threads") = 0, py::arg("gpu_rank") = 0,
           py::arg("path") = py::none(), py::arg("precision") = py::none(), py::arg("part") = py::none())
      .def_property_readonly("rcut", [](const Model& model) { return model.info().rcut; })
      .def_property_readonly("n_types", [](const Model& model) { return model.info().n_types; })
      .def_property_readonly("type_map", &Model::type_map)
      .def_property_readonly("dim_fparam", [](const Model& model) { return model.info().dim_fparam; })
      .def_property_readonly("dim_aparam", [](const Model& model) { return model.info().dim_aparam; })
      .def_property_readonly("has_default_fparam", [](const Model& m_) { return m_.info().has_default_fparam != 0; })
      .def_property_readonly("kind", [](const Model& model) { return std::string(model.info().kind); })
      .def_property_readonly("path_in_use", [](const Model& model) { return std::string(model.info().path_in_use); })
      .def_property_readonly("path_description",
                             [](Model& model) { return std::string(model.read_info().path_description); },
                             "One line: path, kind of embedding and tolerance, precision, threads, memory per atom.")
      .def_property_readonly("n_outside", &Model::n_outside,
                             "Pairs, or couples of neighbours, so far that were outside of the range of the tables.")
      .def_property_readonly("metadata", [](const Model& model) { return std::string(model.info().metadata_json); })
      .def_property_readonly("min_pair_distance", [](const Model& model) { return model.info().min_pair_distance; })
      .def("selftest", &Model::selftest, "Largest force difference (eV/Angstrom) to the frames in the file.")
      .def(
          "evaluate",
          [](Model& model, const py::object& positions, const py::object& types, const py::object& cell,
             const py::object& pbc, const py::object& fparam, const py::object& aparam, bool atomic, Neighbors* neighbors, int n_local,
             const py::object& list) {
            return model.evaluate(
                {positions, types, cell, pbc, fparam, aparam, atomic, neighbors, n_local, list});
          },
          py::arg("positions"), py::arg("types"), py::arg("cell") = py::none(), py::arg("pbc") = py::none(),
          py::arg("fparam") = py::none(), py::arg("aparam") = py::none(), py::arg("atomic") = false,
          py::arg("neighbors") = nullptr, py::arg("n_local") = -1, py::arg("list") = py::none(),
          "Energy (eV), forces [n_all, 3], virial [3, 3]; if atomic also atom_energy [n_local], atom_virial "
          "[n_all, 3, 3].");

  py::class_<Ensemble>(m, "Ensemble", "Several models for the same atoms: one checked request and one list for all.")
      .def(py::init<const py::iterable&>(), py::arg("models"))
      .def_property_readonly("rcut", [](const Ensemble& ensemble) { return ensemble.info().rcut; })
      .def(
          "evaluate",
          [](Ensemble& ensemble, const py::object& positions, const py::object& types, const py::object& cell,
             const py::object& pbc, const py::object& fparam, const py::object& aparam, Neighbors* neighbors) {
            return ensemble.evaluate(
                {positions, types, cell, pbc, fparam, aparam, false, neighbors, -1, py::none()});
          },
          py::arg("positions"), py::arg("types"), py::arg("cell") = py::none(), py::arg("pbc") = py::none(),
          py::arg("fparam") = py::none(), py::arg("aparam") = py::none(), py::arg("neighbors") = nullptr,
          "energies [n_models] (eV), forces [n_models, n_atoms, 3], virials [n_models, 3, 3].");
  bind_deviation(m);
}
