// What the functions of c_api.h share: arrays to vectors and back, and exceptions to the sentence that ..CheckOK returns.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "deepmd/DeepPot.h"
#include "deepmd/c_api.h"

struct DP_Nlist {
  deepmd::InputNlist list;
};

namespace deepmd_c {

// A model and the sentence of its last failure, "" if there was none.
template <class Model>
struct Held {
  Model model;
  std::string failure;
};

// Belongs to the caller, who gives it to DP_DeleteChar.
inline const char* text_for_caller(const std::string& text) {
  char* copy = new char[text.size() + 1];
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// Runs `work`; what it throws becomes the failure of `held`.
template <class Handle, class Work>
void guarded(Handle* held, const Work& work) {
  held->failure.clear();
  try {
    work();
  } catch (const std::exception& error) {
    held->failure = error.what();
  }
}

// A fact of a model, or `otherwise` if none is open. An earlier failure stays known.
template <class Handle, class Value, class Ask>
Value fact(Handle* held, Value otherwise, const Ask& ask) {
  try {
    return ask(held->model);
  } catch (const std::exception& error) {
    held->failure = error.what();
    return otherwise;
  }
}

template <class Handle>
const char* type_map_of(Handle* held) {
  return text_for_caller(fact(held, std::string(), [](const auto& model) {
    std::string names;
    model.get_type_map(names);
    return names;
  }));
}

inline std::string content_of(const char* bytes, int size) {
  return bytes && size > 0 ? std::string(bytes, static_cast<std::size_t>(size)) : std::string();
}

// [size], or nothing for a null pointer.
template <class Value>
std::vector<Value> vector_of(const Value* values, long size) {
  return values ? std::vector<Value>(values, values + size) : std::vector<Value>();
}

template <class From, class To>
void give(const std::vector<From>& from, To* to) {
  if (to) std::copy(from.begin(), from.end(), to);
}

// One behind the other.
template <class Value>
void give_rows(const std::vector<std::vector<Value>>& rows, Value* to) {
  for (std::size_t k = 0; to && k < rows.size(); ++k) to = std::copy(rows[k].begin(), rows[k].end(), to);
}

inline const deepmd::InputNlist& list_of(const DP_Nlist* list) {
  deepmd::detail::require(list != nullptr, "the neighbour list is a null pointer");
  return list->list;
}

// Atoms and parameters of a call, as the C++ interface takes them.
template <class Real>
struct Atoms {
  std::vector<Real> coord, cell, fparam, aparam;
  std::vector<int> types;
};

// Sizes of the arrays behind the pointers of a call; n_types counts the entries of atype.
struct Sizes {
  long n_frames, n_atoms, n_ghost, n_types;
};

template <class Model, class Real>
Atoms<Real> atoms_of(const Model& model, const Sizes& n, const Real* coord, const int* types, const Real* cell,
                     const Real* fparam, const Real* aparam) {
  deepmd::detail::require(n.n_frames > 0 && n.n_atoms >= 0 && n.n_ghost >= 0 && n.n_ghost <= n.n_atoms,
                          "the numbers of frames, atoms and ghosts do not belong together");
  Atoms<Real> atoms;
  atoms.coord = vector_of(coord, n.n_frames * n.n_atoms * 3);
  atoms.types = vector_of(types, n.n_types);
  atoms.cell = vector_of(cell, n.n_frames * 9);
  atoms.fparam = vector_of(fparam, n.n_frames * model.dim_fparam());
  const long n_given = model.is_aparam_nall() ? n.n_atoms : n.n_atoms - n.n_ghost;
  atoms.aparam = vector_of(aparam, n.n_frames * n_given * model.dim_aparam());
  return atoms;
}

}  // namespace deepmd_c

// The functions of DP_DECLARE_FACTS for a struct NAME derived from Held.
#define DP_DEFINE_FACTS(NAME)                                                                                             \
  double NAME##GetCutoff(NAME* held) { return deepmd_c::fact(held, 0.0, [](const auto& m) { return m.cutoff(); }); }      \
  int NAME##GetNumbTypes(NAME* held) { return deepmd_c::fact(held, 0, [](const auto& m) { return m.numb_types(); }); }    \
  int NAME##GetDimFParam(NAME* held) { return deepmd_c::fact(held, 0, [](const auto& m) { return m.dim_fparam(); }); }    \
  int NAME##GetDimAParam(NAME* held) { return deepmd_c::fact(held, 0, [](const auto& m) { return m.dim_aparam(); }); }    \
  bool NAME##IsAParamNAll(NAME* held) { return deepmd_c::fact(held, false, [](const auto& m) { return m.is_aparam_nall(); }); } \
  const char* NAME##CheckOK(NAME* held) { return deepmd_c::text_for_caller(held->failure); }
