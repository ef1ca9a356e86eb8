// Verbs of kernels/curves, messages, normalise and attention on NumPy arrays. No torch, no logic.
#include "bindings/training.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/curves.hpp"
#include "kernels/messages.hpp"
#include "kernels/normalise.hpp"
#include "kernels/parts.hpp"

namespace py = pybind11;

namespace {

template <class Real>
using Rows = py::array_t<Real, py::array::c_style>;  // of this type and layout already
using Index = py::array_t<std::int64_t, py::array::c_style>;
using Release = py::gil_scoped_release;

void expect(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

template <class Real>
Rows<Real> like(const Rows<Real>& x) {
  return Rows<Real>(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
}

template <class Real>
void expect_like(const Rows<Real>& x, const Rows<Real>& y, const char* name) {
  expect(x.ndim() == y.ndim() && std::equal(x.shape(), x.shape() + x.ndim(), y.shape()),
         std::string(name) + ": expected the shape of the first array");
}

struct Ends {
  Index first, second;
  std::int64_t n_first, n_second;
  bool paired;  // whether there is a second end

  Ends(Index first_, std::int64_t n_first_, Index second_, std::int64_t n_second_)
      : first(first_), second(second_), n_first(n_first_), n_second(n_second_), paired(second_.size() > 0) {
    expect(inside(first, n_first) && inside(second, n_second), "ends: an index is out of range");
    expect(second.size() == first.size() || (!paired && n_second == first.size()), "ends: expected as many of both");
  }
  static bool inside(const Index& index, std::int64_t n) {
    const std::int64_t* own = index.data();
    return std::all_of(own, own + index.size(), [n](std::int64_t k) { return k >= 0 && k < n; });
  }
  deepmd::Messages view(std::int64_t width) const {
    deepmd::Messages m;
    m.n = first.size();
    m.width = width;
    m.n_first = n_first;
    m.n_second = n_second;
    m.first = first.data();
    m.second = paired ? second.data() : nullptr;
    return m;
  }
};

deepmd::Curve curve_of(const std::string& name, double threshold) {
  using deepmd::Activation;
  static const std::map<std::string, Activation> kinds = {{"tanh", Activation::tanh}, {"sigmoid", Activation::sigmoid},
      {"silu", Activation::silu}, {"gelu", Activation::gelu}, {"silut", Activation::silut}};
  const auto found = kinds.find(name);
  expect(found != kinds.end(), "curve: got " + name + ", expected tanh, sigmoid, silu, gelu or silut");
  return {found->second, threshold};
}

template <class Real>
void define_curves(py::class_<deepmd::Curve>& curve) {
  curve.def("values", [](const deepmd::Curve& c, const Rows<Real>& x) {
    auto y = like(x);
    Real* out = y.mutable_data();
    {
      Release release;
      deepmd::curve_values(c, x.size(), x.data(), out);
    }
    return y;
  }, py::arg("x").noconvert());
  curve.def("slopes", [](const deepmd::Curve& c, const Rows<Real>& state, const Rows<Real>& d) {
    expect_like(state, d, "d");
    auto d_x = like(d);
    Real* out = d_x.mutable_data();
    {
      Release release;
      deepmd::curve_slopes(c, d.size(), state.data(), d.data(), out);
    }
    return d_x;
  }, py::arg("state").noconvert(), py::arg("d").noconvert());
  curve.def("bends", [](const deepmd::Curve& c, const Rows<Real>& state, const Rows<Real>& d, const Rows<Real>& u) {
    expect_like(state, d, "d");
    expect_like(state, u, "u");
    auto d_d = like(d), d_x = like(d);
    Real *one = d_d.mutable_data(), *two = d_x.mutable_data();
    {
      Release release;
      deepmd::curve_bends(c, d.size(), state.data(), d.data(), u.data(), one, two);
    }
    return py::make_tuple(d_d, d_x);
  }, py::arg("state").noconvert(), py::arg("d").noconvert(), py::arg("u").noconvert());
}

template <class Real>
void expect_messages(const Ends& ends, const Rows<Real>& x, const Rows<Real>& p, const Rows<Real>& q) {
  expect(x.ndim() == 2 && p.ndim() == 2 && q.ndim() == 2 && ends.paired, "messages: expected rows with two ends");
  expect(x.shape(0) == ends.first.size() && p.shape(0) == ends.n_first && q.shape(0) == ends.n_second,
         "messages: wrong number of rows");
  expect(p.shape(1) == x.shape(1) && q.shape(1) == x.shape(1), "messages: expected rows of one width");
}

template <class Real>
Rows<Real> table(py::ssize_t n, py::ssize_t width) {
  return Rows<Real>({n, width});
}

template <class Real>
void define_messages(py::class_<deepmd::Curve>& curve) {
  curve.def("messages", [](const deepmd::Curve& c, const Ends& ends, const Rows<Real>& own, const Rows<Real>& p,
                           const Rows<Real>& q) {
    expect_messages(ends, own, p, q);
    const bool is_state = c.kind == deepmd::Activation::tanh;
    auto y = like(own), x = is_state ? y : like(own);
    Real *values = y.mutable_data(), *arguments = is_state ? nullptr : x.mutable_data();
    {
      Release release;
      deepmd::message_values(c, ends.view(own.shape(1)), own.data(), p.data(), q.data(), arguments, values);
    }
    return py::make_tuple(y, x);
  }, py::arg("ends"), py::arg("own").noconvert(), py::arg("p").noconvert(), py::arg("q").noconvert());
  curve.def("message_slopes", [](const deepmd::Curve& c, const Ends& ends, const Rows<Real>& state,
                                 const Rows<Real>& d) {
    expect_like(state, d, "d");
    auto d_x = like(d), d_p = table<Real>(ends.n_first, d.shape(1)), d_q = table<Real>(ends.n_second, d.shape(1));
    Real *x = d_x.mutable_data(), *p = d_p.mutable_data(), *q = d_q.mutable_data();
    {
      Release release;
      deepmd::message_slopes(c, ends.view(d.shape(1)), state.data(), d.data(), x, p, q);
    }
    return py::make_tuple(d_x, d_p, d_q);
  }, py::arg("ends"), py::arg("state").noconvert(), py::arg("d").noconvert());
  curve.def("message_bends", [](const deepmd::Curve& c, const Ends& ends, const Rows<Real>& state, const Rows<Real>& d,
                                const Rows<Real>& tx, const Rows<Real>& tp, const Rows<Real>& tq) {
    expect_like(state, d, "d");
    expect_messages(ends, tx, tp, tq);
    auto d_d = like(d), d_x = like(d);
    auto d_p = table<Real>(ends.n_first, d.shape(1)), d_q = table<Real>(ends.n_second, d.shape(1));
    Real *one = d_d.mutable_data(), *x = d_x.mutable_data(), *p = d_p.mutable_data(), *q = d_q.mutable_data();
    {
      Release release;
      deepmd::message_bends<Real>(c, ends.view(d.shape(1)), state.data(), d.data(), {tx.data(), tp.data(), tq.data()},
                                  one, x, p, q);
    }
    return py::make_tuple(d_d, d_x, d_p, d_q);
  }, py::arg("ends"), py::arg("state").noconvert(), py::arg("d").noconvert(), py::arg("tx").noconvert(),
     py::arg("tp").noconvert(), py::arg("tq").noconvert());
}

int rows_of(const Ends& ends, py::ssize_t rows, py::ssize_t n) {
  expect(n == ends.first.size() && rows >= 1 && rows <= 4, "form: expected up to four rows for each index");
  return static_cast<int>(rows);
}

template <class Real>
void define_form(py::class_<Ends>& ends_class) {
  ends_class.def("sums", [](const Ends& ends, const Rows<Real>& h, const Rows<Real>& g) {
    expect(h.ndim() == 2 && g.ndim() == 2 && g.shape(0) == ends.n_second, "form: wrong shapes");
    const int n_rows = rows_of(ends, h.shape(1), h.shape(0));
    Rows<Real> d({static_cast<py::ssize_t>(ends.n_first), h.shape(1), g.shape(1)});
    Real* out = d.mutable_data();
    {
      Release release;
      deepmd::form_by_sums(ends.view(g.shape(1)), n_rows, h.data(), g.data(), out);
    }
    return d;
  }, py::arg("h").noconvert(), py::arg("g").noconvert());
  ends_class.def("by_rows", [](const Ends& ends, const Rows<Real>& d, const Rows<Real>& g) {
    expect(d.ndim() == 3 && g.ndim() == 2 && d.shape(0) == ends.n_first && g.shape(0) == ends.n_second &&
           d.shape(2) == g.shape(1), "form: wrong shapes");
    const int n_rows = rows_of(ends, d.shape(1), ends.first.size());
    auto h = table<Real>(ends.first.size(), n_rows);
    Real* out = h.mutable_data();
    {
      Release release;
      deepmd::form_by_rows(ends.view(g.shape(1)), n_rows, d.data(), g.data(), out);
    }
    return h;
  }, py::arg("d").noconvert(), py::arg("g").noconvert());
  ends_class.def("by_values", [](const Ends& ends, const Rows<Real>& d, const Rows<Real>& h) {
    expect(d.ndim() == 3 && h.ndim() == 2 && d.shape(0) == ends.n_first && d.shape(1) == h.shape(1),
           "form: wrong shapes");
    const int n_rows = rows_of(ends, h.shape(1), h.shape(0));
    auto g = table<Real>(ends.n_second, d.shape(2));
    Real* out = g.mutable_data();
    {
      Release release;
      deepmd::form_by_values(ends.view(d.shape(2)), n_rows, d.data(), h.data(), out);
    }
    return g;
  }, py::arg("d").noconvert(), py::arg("h").noconvert());
}

// u [n_first][width], a [n][width], b [n_second][width]: any two of them.
template <class Real>
void define_product(py::class_<Ends>& ends_class) {
  const auto expect_rows = [](const Rows<Real>& x, std::int64_t n, const Rows<Real>& y, std::int64_t m) {
    expect(x.ndim() == 2 && y.ndim() == 2 && x.shape(0) == n && y.shape(0) == m && x.shape(1) == y.shape(1),
           "products: wrong shapes");
  };
  ends_class.def("product_by_first", [expect_rows](const Ends& e, const Rows<Real>& a, const Rows<Real>& b) {
    expect_rows(a, e.first.size(), b, e.n_second);
    auto u = table<Real>(e.n_first, a.shape(1));
    Real* out = u.mutable_data();
    {
      Release release;
      deepmd::product_by_first(e.view(a.shape(1)), a.data(), b.data(), out);
    }
    return u;
  }, py::arg("a").noconvert(), py::arg("b").noconvert());
  ends_class.def("product_by_row", [expect_rows](const Ends& e, const Rows<Real>& u, const Rows<Real>& b) {
    expect_rows(u, e.n_first, b, e.n_second);
    auto a = table<Real>(e.first.size(), u.shape(1));
    Real* out = a.mutable_data();
    {
      Release release;
      deepmd::product_by_row(e.view(u.shape(1)), u.data(), b.data(), out);
    }
    return a;
  }, py::arg("u").noconvert(), py::arg("b").noconvert());
  ends_class.def("product_by_second", [expect_rows](const Ends& e, const Rows<Real>& u, const Rows<Real>& a) {
    expect_rows(u, e.n_first, a, e.first.size());
    auto b = table<Real>(e.n_second, u.shape(1));
    Real* out = b.mutable_data();
    {
      Release release;
      deepmd::product_by_second(e.view(u.shape(1)), u.data(), a.data(), out);
    }
    return b;
  }, py::arg("u").noconvert(), py::arg("a").noconvert());
}

template <class Real>
deepmd::Normalise rows_like(const Rows<Real>& x, bool centred, double eps) {
  expect(x.ndim() == 2, "normalise: expected a table");
  return {x.shape(0), x.shape(1), centred, eps};
}

template <class Real>
void define_normalise(py::module_& m) {
  m.def("normalise", [](const Rows<Real>& x, bool centred, double eps) {
    const auto rows = rows_like(x, centred, eps);
    auto y = like(x);
    Rows<Real> inverse(x.shape(0));
    Real *values = y.mutable_data(), *factors = inverse.mutable_data();
    {
      Release release;
      deepmd::normalise_values(rows, x.data(), values, factors);
    }
    return py::make_tuple(y, inverse);
  }, py::arg("x").noconvert(), py::arg("centred"), py::arg("eps"));
  m.def("normalise_slopes", [](const Rows<Real>& y, const Rows<Real>& inverse, const Rows<Real>& d, bool centred) {
    expect_like(y, d, "d");
    auto d_x = like(d);
    Real* out = d_x.mutable_data();
    {
      Release release;
      deepmd::normalise_slopes(rows_like(y, centred, 0.0), y.data(), inverse.data(), d.data(), out);
    }
    return d_x;
  }, py::arg("y").noconvert(), py::arg("inverse").noconvert(), py::arg("d").noconvert(), py::arg("centred"));
  m.def("normalise_bends", [](const Rows<Real>& y, const Rows<Real>& inverse, const Rows<Real>& d, const Rows<Real>& u,
                              bool centred) {
    expect_like(y, d, "d");
    expect_like(y, u, "u");
    auto d_d = like(d), d_x = like(d);
    Real *one = d_d.mutable_data(), *two = d_x.mutable_data();
    {
      Release release;
      deepmd::normalise_bends(rows_like(y, centred, 0.0), y.data(), inverse.data(), d.data(), u.data(), one, two);
    }
    return py::make_tuple(d_d, d_x);
  }, py::arg("y").noconvert(), py::arg("inverse").noconvert(), py::arg("d").noconvert(), py::arg("u").noconvert(),
     py::arg("centred"));
}

// The counts with all settings, keeping the array alive.
struct Slots {
  Index counts;
  deepmd::Attention settings;

  Slots(Index counts_, const py::dict& d) : counts(counts_) {
    settings.n_centers = counts.size();
    settings.counts = counts.data();
    settings.n_heads = d["n_heads"].cast<std::int64_t>();
    settings.n_slots = d["n_slots"].cast<std::int64_t>();
    settings.n_total = d["n_total"].cast<double>();
    settings.smooth = d["smooth"].cast<bool>();
    settings.gated = d["gated"].cast<bool>();
    settings.directed = d["directed"].cast<bool>();
    settings.scale = d["scale"].cast<double>();
    expect(Ends::inside(counts, settings.n_slots + 1), "counts: expected no more than there are slots");
  }
  template <class Real>
  deepmd::AttentionInputs<Real> inputs(const Rows<Real>& logits, const Rows<Real>& w, const Rows<Real>& h) const {
    const auto slots = settings.n_centers * settings.n_slots;
    expect(logits.size() == slots * settings.n_slots * settings.n_heads && w.size() == slots && h.size() == 3 * slots,
           "attention: wrong number of values");
    return {logits.data(), w.data(), h.data()};
  }
};

template <class Real>
void define_attention(py::class_<Slots>& slots) {
  slots.def("weights", [](const Slots& s, const Rows<Real>& l, const Rows<Real>& w, const Rows<Real>& h) {
    const auto x = s.inputs(l, w, h);
    auto weights = like(l);
    Real* out = weights.mutable_data();
    {
      Release release;
      deepmd::attention_values(s.settings, x, out);
    }
    return weights;
  }, py::arg("l").noconvert(), py::arg("w").noconvert(), py::arg("h").noconvert());
  slots.def("slopes", [](const Slots& s, const Rows<Real>& l, const Rows<Real>& w, const Rows<Real>& h,
                         const Rows<Real>& d) {
    const auto x = s.inputs(l, w, h);
    expect_like(l, d, "d");
    auto by_l = like(l), by_w = like(w), by_h = like(h);
    const deepmd::AttentionOutputs<Real> out{by_l.mutable_data(), by_w.mutable_data(), by_h.mutable_data()};
    {
      Release release;
      deepmd::attention_slopes(s.settings, x, d.data(), out);
    }
    return py::make_tuple(by_l, by_w, by_h);
  }, py::arg("l").noconvert(), py::arg("w").noconvert(), py::arg("h").noconvert(), py::arg("d").noconvert());
  slots.def("bends", [](const Slots& s, const Rows<Real>& l, const Rows<Real>& w, const Rows<Real>& h,
                        const Rows<Real>& d, const Rows<Real>& tl, const Rows<Real>& tw, const Rows<Real>& th) {
    const auto x = s.inputs(l, w, h), t = s.inputs(tl, tw, th);
    expect_like(l, d, "d");
    auto d_d = like(l), by_l = like(l), by_w = like(w), by_h = like(h);
    Real* own = d_d.mutable_data();
    const deepmd::AttentionOutputs<Real> out{by_l.mutable_data(), by_w.mutable_data(), by_h.mutable_data()};
    {
      Release release;
      deepmd::attention_bends(s.settings, x, d.data(), t, own, out);
    }
    return py::make_tuple(d_d, by_l, by_w, by_h);
  }, py::arg("l").noconvert(), py::arg("w").noconvert(), py::arg("h").noconvert(), py::arg("d").noconvert(),
     py::arg("tl").noconvert(), py::arg("tw").noconvert(), py::arg("th").noconvert());
}

template <class Real>
void define_for(py::module_& m, py::class_<deepmd::Curve>& curve, py::class_<Ends>& ends, py::class_<Slots>& slots) {
  define_curves<Real>(curve);
  define_messages<Real>(curve);
  define_form<Real>(ends);
  define_product<Real>(ends);
  define_normalise<Real>(m);
  define_attention<Real>(slots);
}

}  // namespace

void define_training(py::module_& m) {
  m.def("set_threads", [](int n) {
    Release release;
    deepmd::set_training_threads(n);
  }, py::arg("n"));
  py::class_<deepmd::Curve> curve(m, "Curve");
  curve.def(py::init(&curve_of), py::arg("name"), py::arg("threshold"));
  py::class_<Ends> ends(m, "MessageEnds");
  ends.def(py::init<Index, std::int64_t, Index, std::int64_t>(), py::arg("first"), py::arg("n_first"),
           py::arg("second"), py::arg("n_second"));
  py::class_<Slots> slots(m, "Slots");
  slots.def(py::init<Index, const py::dict&>(), py::arg("counts"), py::arg("settings"));
  define_for<double>(m, curve, ends, slots);
  define_for<float>(m, curve, ends, slots);
}
