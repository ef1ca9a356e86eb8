// Models of other kinds than energy from C++: dipoles, polarisabilities, densities of states, properties. Header-only, C++11.
//
//   deepmd::DeepTensor dipole("dipole.pth");
//   std::vector<double> tensor, force, virial;
//   dipole.compute(tensor, coord, atype, box);                  // of the atoms [n_local * output_dim]
//   dipole.compute(tensor, force, virial, coord, atype, box);   // of the frame [output_dim], and its derivatives
//
// Units are those of the training data, lengths in Angstrom. Atoms have rows whatever their type: zeros where sel_types
// does not name it. Atoms of negative type are left out. One frame a call; an empty box means open boundaries.
#ifndef DEEPMD_DEEPTENSOR_H
#define DEEPMD_DEEPTENSOR_H

#include <memory>
#include <string>
#include <vector>

#include "deepmd/InputNlist.h"

namespace deepmd {

// What all of them share.
class DeepOutput {
 public:
  DeepOutput() : info_() {}
  DeepOutput(DeepOutput&&) = default;
  DeepOutput& operator=(DeepOutput&&) = default;
  virtual ~DeepOutput() {}

  // Opens a model. gpu_rank: which GPU if there are any; file_content: the bytes of the file if they are read already.
  void init(const std::string& model, int gpu_rank = 0, const std::string& file_content = "") {
    deepmd_open_options options;
    deepmd_open_options_init(&options);
    options.gpu_rank = gpu_rank;
    options.content = file_content.empty() ? nullptr : file_content.data();
    options.content_size = file_content.size();
    deepmd_model* opened = nullptr;
    detail::check(deepmd_model_open(model.c_str(), &options, &opened));
    std::unique_ptr<deepmd_model, Free> held(opened);
    info_.size = sizeof(info_);
    detail::check(deepmd_model_info(opened, &info_));
    detail::require(fits(info_.kind), model + " predicts '" + info_.kind + "', expected " + expected_kind() +
                                          "; open it with the class of its kind");
    model_ = std::move(held);
  }

  double cutoff() const { return info().rcut; }
  int numb_types() const { return info().n_types; }
  int dim_fparam() const { return info().dim_fparam; }
  int dim_aparam() const { return info().dim_aparam; }
  bool is_aparam_nall() const { return false; }
  // Numbers for each atom.
  int output_dim() const { return info().output_width; }
  // Types whose atoms carry the output.
  std::vector<int> sel_types() const { return std::vector<int>(info().sel_types, info().sel_types + info().n_sel_types); }
  // Element names, separated by blanks.
  void get_type_map(std::string& type_map) const {
    type_map.clear();
    for (int t = 0; t < info().n_types; ++t) type_map += (t ? " " : "") + std::string(info().type_map[t]);
  }

 protected:
  virtual bool fits(const std::string& kind) const = 0;
  virtual std::string expected_kind() const = 0;

  const deepmd_info& info() const {
    detail::require(model_ != nullptr, "no model is open; call init first");
    return info_;
  }

  // One frame, in double precision.
  struct Call {
    template <class V>
    Call(const std::vector<V>& coord_, const std::vector<int>& atype_, const std::vector<V>& box_)
        : coord(coord_.begin(), coord_.end()), box(box_.begin(), box_.end()), atype(atype_) {}
    std::vector<double> coord, box, fparam, aparam;
    const std::vector<int>& atype;
    int nghost = 0;
    const InputNlist* list = nullptr;
    bool derivatives = false;
  };

  // output [width], atoms [n_local * width], force [width * n_all * 3], virial [width * 9], atom_virial [width * n_all * 9].
  struct Answer {
    std::vector<double> output, atoms, force, virial, atom_virial;
  };

  Answer run(const Call& call) const {
    const std::size_t n_all = call.atype.size(), width = static_cast<std::size_t>(output_dim());
    detail::require(call.coord.size() == 3 * n_all, "coord has " + std::to_string(call.coord.size()) +
                                                        " numbers, expected 3 for each of the " + std::to_string(n_all) +
                                                        " entries of atype; pass one frame");
    detail::require(call.box.empty() || call.box.size() == 9, "box has " + std::to_string(call.box.size()) +
                                                                  " numbers, expected 9, or none for open boundaries");
    detail::require(call.nghost >= 0 && static_cast<std::size_t>(call.nghost) <= n_all,
                    "nghost is not between 0 and the number of atoms");
    const std::size_t n_local = n_all - static_cast<std::size_t>(call.nghost);
    expect_parameters("fparam", call.fparam.size(), static_cast<std::size_t>(info_.dim_fparam));
    expect_parameters("aparam", call.aparam.size(), n_local * static_cast<std::size_t>(info_.dim_aparam));
    const detail::KeptAtoms kept(call.atype.data(), static_cast<int>(n_all), call.nghost);
    const Answer found = evaluate(call, kept);
    Answer all;
    all.output = found.output;
    all.virial = found.virial;
    all.atoms.resize(n_local * width);
    const std::size_t n_parts = call.derivatives ? width : 0, n_kept = kept.atoms.size();
    all.force.resize(n_parts * n_all * 3);
    all.atom_virial.resize(n_parts * n_all * 9);
    for (std::size_t k = 0; k < n_kept; ++k) {
      const std::size_t to = static_cast<std::size_t>(kept.atoms[k]);
      for (std::size_t c = 0; to < n_local && c < width; ++c) all.atoms[to * width + c] = found.atoms[k * width + c];
      for (std::size_t c = 0; c < n_parts; ++c) {
        for (std::size_t a = 0; a < 3; ++a) all.force[3 * (c * n_all + to) + a] = found.force[3 * (c * n_kept + k) + a];
        for (std::size_t a = 0; a < 9; ++a) {
          all.atom_virial[9 * (c * n_all + to) + a] = found.atom_virial[9 * (c * n_kept + k) + a];
        }
      }
    }
    return all;
  }

 private:
  struct Free {
    void operator()(deepmd_model* model) const { deepmd_model_free(model); }
  };

  static void expect_parameters(const std::string& name, std::size_t got, std::size_t expected) {
    detail::require(got == 0 || got == expected, name + " has " + std::to_string(got) + " numbers, expected " +
                                                     std::to_string(expected));
  }

  // The atoms that the model sees, and their answer.
  Answer evaluate(const Call& call, const detail::KeptAtoms& kept) const {
    const std::size_t n_kept = kept.atoms.size(), width = static_cast<std::size_t>(info_.output_width);
    const std::size_t n_parts = call.derivatives ? width : 0, dim = static_cast<std::size_t>(info_.dim_aparam);
    std::vector<double> positions, aparam;
    for (std::size_t k = 0; k < n_kept; ++k) {
      const std::size_t i = static_cast<std::size_t>(kept.atoms[k]);
      positions.insert(positions.end(), call.coord.begin() + 3 * i, call.coord.begin() + 3 * i + 3);
      if (!call.aparam.empty() && k < static_cast<std::size_t>(kept.n_local)) {
        aparam.insert(aparam.end(), call.aparam.begin() + i * dim, call.aparam.begin() + (i + 1) * dim);
      }
    }
    deepmd_input input;
    deepmd_input_init(&input);
    input.n_local = kept.n_local;
    input.n_ghost = static_cast<int>(n_kept) - kept.n_local;
    input.positions = positions.data();
    input.types = kept.kept_types.data();
    input.fparam = call.fparam.empty() ? nullptr : call.fparam.data();
    input.aparam = aparam.empty() ? nullptr : aparam.data();
    detail::RaggedList rows;
    deepmd_list view;
    if (call.list) {
      rows.assign(*call.list, kept);
      view = rows.view();
      input.list = &view;
    } else {
      input.cell = call.box.empty() ? nullptr : call.box.data();
    }
    Answer found;
    found.output.resize(width);
    found.atoms.resize(width * static_cast<std::size_t>(kept.n_local));
    found.force.resize(3 * n_parts * n_kept);
    found.virial.resize(9 * n_parts);
    found.atom_virial.resize(9 * n_parts * n_kept);
    deepmd_atom_output output;
    deepmd_atom_output_init(&output);
    output.output = found.output.data();
    output.atom_output = found.atoms.data();
    if (call.derivatives) {
      output.forces = found.force.data();
      output.virial = found.virial.data();
      output.atom_virial = found.atom_virial.data();
    }
    detail::check(deepmd_evaluate_output(model_.get(), &input, &output));
    return found;
  }

  std::unique_ptr<deepmd_model, Free> model_;
  deepmd_info info_;
};

// Dipoles and polarisabilities.
class DeepTensor : public DeepOutput {
 public:
  DeepTensor() {}
  DeepTensor(const std::string& model, int gpu_rank = 0, const std::string& file_content = "") {
    init(model, gpu_rank, file_content);
  }

  // Tensors of the atoms [n_local * output_dim].
  template <class V>
  void compute(std::vector<V>& tensor, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box) {
    give(tensor, run(Call(coord, atype, box)).atoms);
  }
  // With the caller's list: the last `nghost` atoms are ghosts, and the box is not used.
  template <class V>
  void compute(std::vector<V>& tensor, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const int nghost, const InputNlist& list) {
    give(tensor, run(listed(coord, atype, box, nghost, list)).atoms);
  }

  // The tensor of the frame [output_dim]; force [output_dim * n_all * 3], minus the derivatives of each component; virial
  // [output_dim * 9].
  template <class V>
  void compute(std::vector<V>& global, std::vector<V>& force, std::vector<V>& virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box) {
    std::vector<V> atoms, atom_virial;
    compute(global, force, virial, atoms, atom_virial, coord, atype, box);
  }
  template <class V>
  void compute(std::vector<V>& global, std::vector<V>& force, std::vector<V>& virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box, const int nghost, const InputNlist& list) {
    std::vector<V> atoms, atom_virial;
    compute(global, force, virial, atoms, atom_virial, coord, atype, box, nghost, list);
  }
  // The same and tensors [n_local * output_dim] and virials [output_dim * n_all * 9] of the atoms.
  template <class V>
  void compute(std::vector<V>& global, std::vector<V>& force, std::vector<V>& virial, std::vector<V>& atom_tensor,
               std::vector<V>& atom_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box) {
    give_all(Call(coord, atype, box), global, force, virial, atom_tensor, atom_virial);
  }
  template <class V>
  void compute(std::vector<V>& global, std::vector<V>& force, std::vector<V>& virial, std::vector<V>& atom_tensor,
               std::vector<V>& atom_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const int nghost, const InputNlist& list) {
    give_all(listed(coord, atype, box, nghost, list), global, force, virial, atom_tensor, atom_virial);
  }

 protected:
  bool fits(const std::string& kind) const override { return kind == "dipole" || kind == "polar"; }
  std::string expected_kind() const override { return "dipole or polar"; }

 private:
  template <class V>
  static Call listed(const std::vector<V>& coord, const std::vector<int>& atype, const std::vector<V>& box, int nghost,
                     const InputNlist& list) {
    Call call(coord, atype, box);
    call.nghost = nghost;
    call.list = &list;
    return call;
  }
  template <class V>
  static void give(std::vector<V>& to, const std::vector<double>& from) {
    to.assign(from.begin(), from.end());
  }
  template <class V>
  void give_all(Call call, std::vector<V>& global, std::vector<V>& force, std::vector<V>& virial,
                std::vector<V>& atom_tensor, std::vector<V>& atom_virial) {
    call.derivatives = true;
    const Answer all = run(call);
    give(global, all.output), give(force, all.force), give(virial, all.virial);
    give(atom_tensor, all.atoms), give(atom_virial, all.atom_virial);
  }
};

class DeepDipole : public DeepTensor {
 public:
  DeepDipole() {}
  DeepDipole(const std::string& model, int gpu_rank = 0) { init(model, gpu_rank); }

 protected:
  bool fits(const std::string& kind) const override { return kind == "dipole"; }
  std::string expected_kind() const override { return "dipole"; }
};

class DeepPolar : public DeepTensor {
 public:
  DeepPolar() {}
  DeepPolar(const std::string& model, int gpu_rank = 0) { init(model, gpu_rank); }

 protected:
  bool fits(const std::string& kind) const override { return kind == "polar"; }
  std::string expected_kind() const override { return "polar"; }
};

// Numbers of the frame that do not turn with it, and those of its atoms.
class DeepScalars : public DeepOutput {
 public:
  // global [output_dim], atoms [n_atoms * output_dim]; fparam [dim_fparam], aparam [n_atoms * dim_aparam].
  template <class V>
  void compute(std::vector<V>& global, std::vector<V>& atoms, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const std::vector<V>& fparam = std::vector<V>(),
               const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, atype, box);
    call.fparam.assign(fparam.begin(), fparam.end());
    call.aparam.assign(aparam.begin(), aparam.end());
    const Answer all = run(call);
    global.assign(all.output.begin(), all.output.end());
    atoms.assign(all.atoms.begin(), all.atoms.end());
  }
};

class DeepDOS : public DeepScalars {
 public:
  DeepDOS() {}
  DeepDOS(const std::string& model, int gpu_rank = 0) { init(model, gpu_rank); }

 protected:
  bool fits(const std::string& kind) const override { return kind == "dos"; }
  std::string expected_kind() const override { return "dos"; }
};

class DeepProperty : public DeepScalars {
 public:
  DeepProperty() {}
  DeepProperty(const std::string& model, int gpu_rank = 0) { init(model, gpu_rank); }

 protected:
  bool fits(const std::string& kind) const override { return kind == "property"; }
  std::string expected_kind() const override { return "property"; }
};

}  // namespace deepmd

#endif
