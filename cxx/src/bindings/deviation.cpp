// The deviation routine of deepmd.h on NumPy arrays; no formula of its own.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <vector>

#include "deepmd/deepmd.h"

namespace py = pybind11;

namespace {

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

// The numbers of an array that may be absent; shapes were checked by the Python function that calls.
const double* data_of(const py::object& given, py::ssize_t size, const char* name, std::vector<Doubles>& kept) {
  if (given.is_none()) return nullptr;
  const auto array = py::cast<Doubles>(given);
  if (array.size() != size) {
    throw py::value_error(std::string(name) + " has " + std::to_string(array.size()) + " numbers, expected " +
                          std::to_string(size));
  }
  kept.push_back(array);
  return array.data();
}

double level_of(const py::object& level) { return level.is_none() ? -1.0 : py::cast<double>(level); }

// -> (max, min, avg of the virial, max, min, avg of the forces, energy) and the deviation of each atom.
py::tuple deviation(const Doubles& forces, const py::object& virials, const py::object& energies,
                    const py::object& true_forces, const py::object& true_virial, const py::object& true_energy,
                    const py::object& relative, const py::object& relative_v) {
  if (forces.ndim() != 3 || forces.shape(2) != 3) throw py::value_error("forces is not [n_models, n_atoms, 3]");
  const py::ssize_t n_models = forces.shape(0), n_atoms = forces.shape(1);
  std::vector<Doubles> kept;
  std::vector<const double*> of_model;
  for (py::ssize_t k = 0; k < n_models; ++k) of_model.push_back(forces.data() + 3 * n_atoms * k);
  deepmd_deviation_input input;
  deepmd_deviation_input_init(&input);
  input.n_models = static_cast<int>(n_models);
  input.n_atoms = static_cast<int>(n_atoms);
  input.forces = of_model.data();
  input.virials = data_of(virials, 9 * n_models, "virials", kept);
  input.energies = data_of(energies, n_models, "energies", kept);
  input.true_forces = data_of(true_forces, 3 * n_atoms, "true_forces", kept);
  input.true_virial = data_of(true_virial, 9, "true_virial", kept);
  input.true_energy = data_of(true_energy, 1, "true_energy", kept);
  input.relative = level_of(relative);
  input.relative_v = level_of(relative_v);
  py::array_t<double> columns(7), atoms(n_atoms);
  deepmd_deviation result;
  deepmd_deviation_init(&result);
  result.atoms = atoms.mutable_data();
  if (deepmd_deviation_compute(&input, &result) != DEEPMD_OK) throw py::value_error(deepmd_last_error());
  const double values[7] = {result.virial.max, result.virial.min, result.virial.avg, result.force.max,
                            result.force.min,  result.force.avg,  result.energy};
  std::copy(values, values + 7, columns.mutable_data());
  return py::make_tuple(columns, atoms);
}

}  // namespace

void bind_deviation(py::module_& m) {
  m.def("deviation", &deviation, py::arg("forces"), py::arg("virials") = py::none(), py::arg("energies") = py::none(),
        py::arg("true_forces") = py::none(), py::arg("true_virial") = py::none(), py::arg("true_energy") = py::none(),
        py::arg("relative") = py::none(), py::arg("relative_v") = py::none(),
        "forces [n_models, n_atoms, 3], virials [n_models, 3, 3], energies [n_models] and the true values in their place "
        "of the mean -> [max_v, min_v, avg_v, max_f, min_f, avg_f, e], [n_atoms].");
}
