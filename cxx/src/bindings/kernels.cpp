// Python module _kernels: the sums over neighbours that training needs, on NumPy arrays. No torch, no logic.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "kernels/node_basis.hpp"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

void expect(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

// Pairs of a batch, keeping the NumPy arrays alive.
struct Batch {
  Array<std::int64_t> first;
  Array<std::int32_t> neighbor;
  Array<double> vectors;
  Array<std::int32_t> types;
  Array<std::int32_t> frame;
  int n_frames;

  Batch(Array<std::int64_t> first_, Array<std::int32_t> neighbor_, Array<double> vectors_, Array<std::int32_t> types_,
        Array<std::int32_t> frame_, int n_frames_)
      : first(first_), neighbor(neighbor_), vectors(vectors_), types(types_), frame(frame_), n_frames(n_frames_) {
    const auto n_atoms = types.size();
    expect(first.size() == n_atoms + 1, "first: expected one entry more than there are atoms");
    expect(frame.size() == n_atoms, "frame: expected one entry per atom");
    const auto n_pairs = first.at(n_atoms);
    expect(neighbor.size() == n_pairs && vectors.size() == 3 * n_pairs, "neighbor, vectors: expected first[-1] pairs");
  }
  deepmd::PairBatch view() const {
    deepmd::PairBatch batch;
    batch.n_atoms = static_cast<int>(types.size());
    batch.first = first.data();
    batch.neighbor = neighbor.data();
    batch.vectors = vectors.data();
    batch.types = types.data();
    batch.frame = frame.data();
    batch.n_frames = n_frames;
    return batch;
  }
};

deepmd::NodeBasis make_basis(const py::dict& d) {
  deepmd::NodeBasis basis;
  basis.cutoff = {d["rcut"].cast<double>(), d["rcut_smth"].cast<double>(), d["protection"].cast<double>()};
  basis.n_types = d["n_types"].cast<int>();
  basis.n_nodes = d["n_nodes"].cast<int>();
  expect(basis.n_nodes >= 16 && basis.n_nodes <= 512 && basis.n_nodes % 8 == 0,
         "n_nodes: expected a multiple of 8 between 16 and 512");
  for (auto [name, target, size] :
       {std::tuple("davg", &basis.davg, basis.n_types), std::tuple("inv_std_r", &basis.inv_std_r, basis.n_types),
        std::tuple("inv_std_a", &basis.inv_std_a, basis.n_types), std::tuple("sel", &basis.sel, basis.n_types),
        std::tuple("lo", &basis.lo, basis.n_types * basis.n_types),
        std::tuple("hi", &basis.hi, basis.n_types * basis.n_types),
        std::tuple("keep", &basis.keep, basis.n_types * basis.n_types)}) {
    *target = d[name].cast<std::vector<double>>();
    expect(static_cast<int>(target->size()) == size, std::string(name) + ": wrong number of values");
  }
  return basis;
}

py::array_t<double> basis_array(const deepmd::NodeBasis& basis, const Batch& batch) {
  return py::array_t<double>({static_cast<py::ssize_t>(batch.types.size()), static_cast<py::ssize_t>(4),
                              static_cast<py::ssize_t>(basis.n_types), static_cast<py::ssize_t>(basis.n_nodes)});
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "Sums over neighbours in a Chebyshev basis (training).";
  py::class_<deepmd::NodeBasis>(m, "NodeBasis").def(py::init(&make_basis), py::arg("settings"));
  py::class_<Batch>(m, "Batch")
      .def(py::init<Array<std::int64_t>, Array<std::int32_t>, Array<double>, Array<std::int32_t>, Array<std::int32_t>,
                    int>(),
           py::arg("first"), py::arg("neighbor"), py::arg("vectors"), py::arg("types"), py::arg("frame"),
           py::arg("n_frames"));
  m.def("node_sum", [](const deepmd::NodeBasis& basis, const Batch& batch) {
    auto b = basis_array(basis, batch);
    double* out = b.mutable_data();
    std::int64_t outside;
    {
      py::gil_scoped_release release;
      outside = deepmd::node_sum(basis, batch.view(), out);
    }
    return py::make_tuple(b, outside);
  });
  m.def("node_forces", [](const deepmd::NodeBasis& basis, const Batch& batch, Array<double> h) {
    py::array_t<double> forces({static_cast<py::ssize_t>(batch.types.size()), static_cast<py::ssize_t>(3)});
    py::array_t<double> virial({static_cast<py::ssize_t>(batch.n_frames), static_cast<py::ssize_t>(3),
                                static_cast<py::ssize_t>(3)});
    expect(h.size() == batch.types.size() * basis.n_types * 4 * basis.n_nodes, "h: wrong number of values");
    double *f = forces.mutable_data(), *w = virial.mutable_data();
    {
      py::gil_scoped_release release;
      deepmd::node_forces(basis, batch.view(), h.data(), f, w);
    }
    return std::make_pair(forces, virial);
  });
  m.def("node_tangent",
        [](const deepmd::NodeBasis& basis, const Batch& batch, Array<double> d_forces, Array<double> d_virial) {
          auto d_h = basis_array(basis, batch);
          expect(d_forces.size() == 3 * batch.types.size(), "d_forces: expected three values per atom");
          expect(d_virial.size() == 9 * static_cast<py::ssize_t>(batch.n_frames), "d_virial: expected nine per frame");
          double* out = d_h.mutable_data();
          {
            py::gil_scoped_release release;
            deepmd::node_tangent(basis, batch.view(), d_forces.data(), d_virial.data(), out);
          }
          return d_h;
        });
}
