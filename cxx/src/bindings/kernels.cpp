// Python module _kernels: the sums over neighbours that training needs, on NumPy arrays. No torch, no logic.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "bindings/training.hpp"
#include "kernels/angle_basis.hpp"
#include "kernels/node_basis.hpp"
#include "kernels/pair_forces.hpp"
#include "kernels/row_sums.hpp"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

void expect(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

// Centres and pairs, keeping the NumPy arrays alive.
struct Pairs {
  Array<std::int64_t> first;
  Array<std::int32_t> neighbor;
  Array<double> vectors;
  Array<std::int32_t> types;

  Pairs(Array<std::int64_t> first_, Array<std::int32_t> neighbor_, Array<double> vectors_, Array<std::int32_t> types_)
      : first(first_), neighbor(neighbor_), vectors(vectors_), types(types_) {
    expect(first.size() >= 1 && first.size() <= types.size() + 1,
           "first: expected one entry more than there are centres");
    const auto n_pairs = first.at(first.size() - 1);
    expect(neighbor.size() == n_pairs && vectors.size() == 3 * n_pairs, "neighbor, vectors: expected first[-1] pairs");
  }
  deepmd::PairBatch view() const {
    deepmd::PairBatch batch;
    batch.n_centers = static_cast<int>(first.size()) - 1;
    batch.first = first.data();
    batch.neighbor = neighbor.data();
    batch.vectors = vectors.data();
    batch.types = types.data();
    return batch;
  }
  py::ssize_t n_pairs() const { return neighbor.size(); }
};

// The atoms of frames and their pairs, likewise.
struct Ends {
  Array<std::int64_t> first;
  Array<std::int32_t> neighbor;
  Array<double> vectors;
  Array<std::int32_t> frame;
  int n_frames;

  Ends(Array<std::int64_t> first_, Array<std::int32_t> neighbor_, Array<double> vectors_, Array<std::int32_t> frame_,
       int n_frames_)
      : first(first_), neighbor(neighbor_), vectors(vectors_), frame(frame_), n_frames(n_frames_) {
    expect(first.size() == frame.size() + 1, "first: expected one entry more than there are atoms");
    const auto n_pairs = first.at(frame.size());
    expect(neighbor.size() == n_pairs && vectors.size() == 3 * n_pairs, "neighbor, vectors: expected first[-1] pairs");
  }
  deepmd::PairEnds view() const {
    deepmd::PairEnds ends;
    ends.n_atoms = static_cast<int>(frame.size());
    ends.n_frames = n_frames;
    ends.first = first.data();
    ends.neighbor = neighbor.data();
    ends.vectors = vectors.data();
    ends.frame = frame.data();
    return ends;
  }
};

py::array_t<double> table(py::ssize_t n, py::ssize_t width) { return py::array_t<double>({n, width}); }

deepmd::NodeBasis make_basis(const py::dict& d) {
  deepmd::NodeBasis basis;
  basis.cutoff = {d["rcut"].cast<double>(), d["rcut_smth"].cast<double>(), d["protection"].cast<double>()};
  basis.n_types = d["n_types"].cast<int>();
  basis.n_nodes = d["n_nodes"].cast<int>();
  basis.n_rows = d["n_rows"].cast<int>();
  basis.switched = d["switched"].cast<bool>();
  basis.pooled = d["pooled"].cast<bool>();
  expect(basis.n_rows == 1 || basis.n_rows == 4, "n_rows: expected 1 or 4");
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

deepmd::AngleBasis make_angle_basis(const py::dict& d) {
  deepmd::AngleBasis basis;
  basis.cutoff = {d["rcut"].cast<double>(), d["rcut_smth"].cast<double>(), d["protection"].cast<double>()};
  basis.n_types = d["n_types"].cast<int>();
  basis.n_nodes = d["n_nodes"].cast<int>();
  basis.switched = d["switched"].cast<bool>();
  basis.bound = d["bound"].cast<double>();
  basis.inv_std_a = d["inv_std_a"].cast<std::vector<double>>();
  basis.keep = d["keep"].cast<std::vector<double>>();
  expect(basis.n_nodes >= 16, "n_nodes: expected 16 or more");
  expect(basis.bound > 0, "bound: expected a positive number");
  expect(static_cast<int>(basis.inv_std_a.size()) == basis.n_types, "inv_std_a: wrong number of values");
  expect(static_cast<int>(basis.keep.size()) == basis.n_types * basis.n_types, "keep: wrong number of values");
  return basis;
}

template <class Basis>
py::array_t<double> basis_array(const Basis& basis, const Pairs& pairs) {
  return py::array_t<double>({static_cast<py::ssize_t>(pairs.first.size() - 1), static_cast<py::ssize_t>(basis.n_rows),
                              static_cast<py::ssize_t>(basis.n_columns())});
}

// The three sums of a basis.
template <class Basis>
struct Sums {
  std::int64_t (*sum)(const Basis&, const deepmd::PairBatch&, double*);
  void (*gradient)(const Basis&, const deepmd::PairBatch&, const double*, double*);
  void (*tangent)(const Basis&, const deepmd::PairBatch&, const double*, double*);
};

template <class Basis>
void define_sums(py::class_<Basis>& basis_class, Sums<Basis> sums) {
  basis_class.def("sum", [sums](const Basis& basis, const Pairs& pairs) {
    auto b = basis_array(basis, pairs);
    double* out = b.mutable_data();
    std::int64_t outside;
    {
      py::gil_scoped_release release;
      outside = sums.sum(basis, pairs.view(), out);
    }
    return py::make_tuple(b, outside);
  });
  basis_class.def("gradient", [sums](const Basis& basis, const Pairs& pairs, Array<double> h) {
    expect(h.size() == (pairs.first.size() - 1) * basis.n_rows * basis.n_columns(), "h: wrong number of values");
    auto g = table(pairs.n_pairs(), 3);
    double* out = g.mutable_data();
    {
      py::gil_scoped_release release;
      sums.gradient(basis, pairs.view(), h.data(), out);
    }
    return g;
  });
  basis_class.def("tangent", [sums](const Basis& basis, const Pairs& pairs, Array<double> d_g) {
    expect(d_g.size() == 3 * pairs.n_pairs(), "d_g: expected three values per pair");
    auto d_h = basis_array(basis, pairs);
    double* out = d_h.mutable_data();
    {
      py::gil_scoped_release release;
      sums.tangent(basis, pairs.view(), d_g.data(), out);
    }
    return d_h;
  });
}

void define_nodes(py::module_& m) {
  py::class_<Pairs>(m, "Pairs")
      .def(py::init<Array<std::int64_t>, Array<std::int32_t>, Array<double>, Array<std::int32_t>>(), py::arg("first"),
           py::arg("neighbor"), py::arg("vectors"), py::arg("types"));
  py::class_<deepmd::NodeBasis> nodes(m, "NodeBasis");
  nodes.def(py::init(&make_basis), py::arg("settings"));
  define_sums<deepmd::NodeBasis>(nodes, {deepmd::node_sum, deepmd::node_gradient, deepmd::node_tangent});
  py::class_<deepmd::AngleBasis> angles(m, "AngleBasis");
  angles.def(py::init(&make_angle_basis), py::arg("settings"));
  define_sums<deepmd::AngleBasis>(angles, {deepmd::angle_sum, deepmd::angle_gradient, deepmd::angle_tangent});
}

void define_forces(py::module_& m) {
  py::class_<Ends>(m, "Ends")
      .def(py::init<Array<std::int64_t>, Array<std::int32_t>, Array<double>, Array<std::int32_t>, int>(),
           py::arg("first"), py::arg("neighbor"), py::arg("vectors"), py::arg("frame"), py::arg("n_frames"));
  m.def("pair_forces", [](const Ends& ends, Array<double> g) {
    expect(g.size() == ends.vectors.size(), "g: expected three values per pair");
    auto forces = table(ends.frame.size(), 3);
    py::array_t<double> virial({static_cast<py::ssize_t>(ends.n_frames), static_cast<py::ssize_t>(3),
                                static_cast<py::ssize_t>(3)});
    double *f = forces.mutable_data(), *w = virial.mutable_data();
    {
      py::gil_scoped_release release;
      deepmd::pair_forces(ends.view(), g.data(), f, w);
    }
    return std::make_pair(forces, virial);
  });
  m.def("pair_forces_adjoint", [](const Ends& ends, Array<double> d_forces, Array<double> d_virial) {
    expect(d_forces.size() == 3 * ends.frame.size(), "d_forces: expected three values per atom");
    expect(d_virial.size() == 9 * static_cast<py::ssize_t>(ends.n_frames), "d_virial: expected nine per frame");
    auto d_g = table(ends.neighbor.size(), 3);
    double* out = d_g.mutable_data();
    {
      py::gil_scoped_release release;
      deepmd::pair_forces_adjoint(ends.view(), d_forces.data(), d_virial.data(), out);
    }
    return d_g;
  });
}

template <class Real>
void define_row_sums(py::module_& m) {
  m.def("row_sums", [](const py::array_t<Real, py::array::c_style>& values, const Array<std::int64_t>& index,
                       std::int64_t n_rows) {
    expect(values.ndim() == 2 && values.shape(0) == index.size(), "values: expected a row for each index");
    const std::int64_t* own = index.data();
    const bool inside = std::all_of(own, own + index.size(), [n_rows](std::int64_t k) { return k >= 0 && k < n_rows; });
    expect(inside, "index: out of range");
    py::array_t<Real> total({static_cast<py::ssize_t>(n_rows), values.shape(1)});
    Real* out = total.mutable_data();
    {
      py::gil_scoped_release release;
      deepmd::row_sums<Real>(values.data(), own, index.size(), n_rows, values.shape(1), out);
    }
    return total;
  }, py::arg("values").noconvert(), py::arg("index"), py::arg("n_rows"));
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "Sums over neighbours and couples of neighbours on nodes, and forces of pairs (training).";
  define_nodes(m);
  define_forces(m);
  define_row_sums<double>(m);
  define_row_sums<float>(m);
  define_training(m);
}
