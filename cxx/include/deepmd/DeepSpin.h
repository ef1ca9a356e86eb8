// Potentials of positions and spins from C++. Header-only, C++11.
//
//   deepmd::DeepSpin dp("graph.pth");
//   double energy; std::vector<double> force, force_mag, virial;
//   dp.compute(energy, force, force_mag, virial, coord, spin, atype, box);   // coord and spin [n_atoms * 3]
//
// Spins in Bohr magnetons; force_mag = -d(energy)/d(spin). Vectors hold float or double. One frame a call; an empty box
// means open boundaries. Atoms of negative type are left out.
#ifndef DEEPMD_DEEPSPIN_H
#define DEEPMD_DEEPSPIN_H

#include <memory>
#include <string>
#include <vector>

#include "deepmd/InputNlist.h"

namespace deepmd {

class DeepSpin {
 public:
  DeepSpin() : info_() {}
  DeepSpin(const std::string& model, int gpu_rank = 0, const std::string& file_content = "") : info_() {
    init(model, gpu_rank, file_content);
  }

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
    detail::require(std::string(info_.kind) == "spin",
                    model + " predicts '" + info_.kind + "', expected a model of spins; open it with the class of its kind");
    model_ = std::move(held);
  }

  // Energy, forces and magnetic forces [n_atoms * 3], virial [9].
  template <class V>
  void compute(double& ener, std::vector<V>& force, std::vector<V>& force_mag, std::vector<V>& virial,
               const std::vector<V>& coord, const std::vector<V>& spin, const std::vector<int>& atype,
               const std::vector<V>& box, const std::vector<V>& fparam = std::vector<V>(),
               const std::vector<V>& aparam = std::vector<V>()) {
    give(run(Call(coord, spin, atype, box, fparam, aparam)), ener, force, force_mag, virial);
  }

  // The same and atom_energy [n_atoms], atom_virial [n_atoms * 9].
  template <class V>
  void compute(double& ener, std::vector<V>& force, std::vector<V>& force_mag, std::vector<V>& virial,
               std::vector<V>& atom_energy, std::vector<V>& atom_virial, const std::vector<V>& coord,
               const std::vector<V>& spin, const std::vector<int>& atype, const std::vector<V>& box,
               const std::vector<V>& fparam = std::vector<V>(), const std::vector<V>& aparam = std::vector<V>()) {
    const Answer all = run(Call(coord, spin, atype, box, fparam, aparam));
    give(all, ener, force, force_mag, virial);
    atom_energy.assign(all.atom_energy.begin(), all.atom_energy.end());
    atom_virial.assign(all.atom_virial.begin(), all.atom_virial.end());
  }

  // With the caller's list: the last `nghost` atoms are ghosts, which receive their share; the box is not used.
  template <class V>
  void compute(double& ener, std::vector<V>& force, std::vector<V>& force_mag, std::vector<V>& virial,
               const std::vector<V>& coord, const std::vector<V>& spin, const std::vector<int>& atype,
               const std::vector<V>& box, const int nghost, const InputNlist& list, const int& /* ago */,
               const std::vector<V>& fparam = std::vector<V>(), const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, spin, atype, box, fparam, aparam);
    call.nghost = nghost;
    call.list = &list;
    give(run(call), ener, force, force_mag, virial);
  }

  double cutoff() const { return info().rcut; }
  int numb_types() const { return info().n_types; }
  int dim_fparam() const { return info().dim_fparam; }
  int dim_aparam() const { return info().dim_aparam; }
  bool is_aparam_nall() const { return false; }
  // Element names, separated by blanks.
  void get_type_map(std::string& type_map) const {
    type_map.clear();
    for (int t = 0; t < info().n_types; ++t) type_map += (t ? " " : "") + std::string(info().type_map[t]);
  }

 private:
  struct Free {
    void operator()(deepmd_model* model) const { deepmd_model_free(model); }
  };
  typedef std::vector<double> Doubles;

  // Arguments of one compute, in double precision.
  struct Call {
    template <class V>
    Call(const std::vector<V>& coord_, const std::vector<V>& spin_, const std::vector<int>& atype_,
         const std::vector<V>& box_, const std::vector<V>& fparam_, const std::vector<V>& aparam_)
        : coord(coord_.begin(), coord_.end()), spin(spin_.begin(), spin_.end()), box(box_.begin(), box_.end()),
          fparam(fparam_.begin(), fparam_.end()), aparam(aparam_.begin(), aparam_.end()), atype(atype_) {}
    Doubles coord, spin, box, fparam, aparam;
    const std::vector<int>& atype;
    int nghost = 0;
    const InputNlist* list = nullptr;
  };

  struct Answer {
    double energy;
    Doubles force, force_mag, virial, atom_energy, atom_virial;
  };

  const deepmd_info& info() const {
    detail::require(model_ != nullptr, "no model is open; call init first");
    return info_;
  }

  template <class V>
  static void give(const Answer& all, double& ener, std::vector<V>& force, std::vector<V>& force_mag,
                   std::vector<V>& virial) {
    ener = all.energy;
    force.assign(all.force.begin(), all.force.end());
    force_mag.assign(all.force_mag.begin(), all.force_mag.end());
    virial.assign(all.virial.begin(), all.virial.end());
  }

  static void expect(const char* name, std::size_t got, std::size_t expected) {
    detail::require(got == expected, std::string(name) + " has " + std::to_string(got) + " numbers, expected " +
                                         std::to_string(expected) + "; pass one frame");
  }

  // Rows of `width` numbers between all atoms and those that the model sees.
  static Doubles kept_rows(const Doubles& all, const std::vector<int>& atoms, std::size_t n, std::size_t width) {
    Doubles rows;
    for (std::size_t k = 0; k < n; ++k) {
      const Doubles::const_iterator row = all.begin() + static_cast<std::ptrdiff_t>(width) * atoms[k];
      rows.insert(rows.end(), row, row + static_cast<std::ptrdiff_t>(width));
    }
    return rows;
  }
  static Doubles all_rows(const Doubles& rows, const std::vector<int>& atoms, std::size_t n_all, std::size_t width) {
    Doubles all(n_all * width);
    for (std::size_t k = 0; k < atoms.size(); ++k) {
      for (std::size_t a = 0; a < width; ++a) all[width * static_cast<std::size_t>(atoms[k]) + a] = rows[width * k + a];
    }
    return all;
  }

  Answer run(const Call& call) const {
    const std::size_t n_all = call.atype.size(), dim = static_cast<std::size_t>(info().dim_aparam);
    detail::require(call.nghost >= 0 && static_cast<std::size_t>(call.nghost) <= n_all,
                    "nghost is not between 0 and the number of atoms");
    const std::size_t n_local = n_all - static_cast<std::size_t>(call.nghost);
    expect("coord", call.coord.size(), 3 * n_all);
    expect("spin", call.spin.size(), 3 * n_all);
    if (!call.box.empty()) expect("box", call.box.size(), 9);
    if (!call.fparam.empty()) expect("fparam", call.fparam.size(), static_cast<std::size_t>(info_.dim_fparam));
    if (!call.aparam.empty()) expect("aparam", call.aparam.size(), n_local * dim);
    const detail::KeptAtoms kept(call.atype.data(), static_cast<int>(n_all), call.nghost);
    const std::size_t n = kept.atoms.size(), n_own = static_cast<std::size_t>(kept.n_local);
    const Doubles positions = kept_rows(call.coord, kept.atoms, n, 3), spins = kept_rows(call.spin, kept.atoms, n, 3);
    const Doubles aparam = call.aparam.empty() ? Doubles() : kept_rows(call.aparam, kept.atoms, n_own, dim);
    deepmd_input input;
    deepmd_input_init(&input);
    input.n_local = kept.n_local;
    input.n_ghost = static_cast<int>(n - n_own);
    input.positions = positions.data();
    input.types = kept.kept_types.data();
    input.spins = spins.data();
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
    Answer found = {0.0, Doubles(3 * n), Doubles(3 * n), Doubles(9), Doubles(n), Doubles(9 * n)};
    deepmd_output output;
    deepmd_output_init(&output);
    output.energy = &found.energy;
    output.forces = found.force.data();
    output.spin_forces = found.force_mag.data();
    output.virial = found.virial.data();
    output.atom_energy = found.atom_energy.data();
    output.atom_virial = found.atom_virial.data();
    detail::check(deepmd_evaluate(model_.get(), &input, &output));
    found.force = all_rows(found.force, kept.atoms, n_all, 3);
    found.force_mag = all_rows(found.force_mag, kept.atoms, n_all, 3);
    found.atom_energy = all_rows(found.atom_energy, kept.atoms, n_all, 1);
    found.atom_virial = all_rows(found.atom_virial, kept.atoms, n_all, 9);
    return found;
  }

  std::unique_ptr<deepmd_model, Free> model_;
  deepmd_info info_;
};

}  // namespace deepmd

#endif
