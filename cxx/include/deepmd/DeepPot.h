// Deep Potential from C++: a header-only skin on the C interface. C++11; link libdeepmd.
//
//   deepmd::DeepPot dp("graph.pth");
//   double energy; std::vector<double> force, virial;
//   dp.compute(energy, force, virial, coord, atype, box);   // coord [n_atoms * 3], atype [n_atoms], box [9]
//
// Vectors hold float or double. Energies in eV, lengths in Angstrom; virial [9] is row-major. Several frames stand one
// after the other in coord and box; the energy is then a std::vector<double>. An empty box means open boundaries.
#ifndef DEEPMD_DEEPPOT_H
#define DEEPMD_DEEPPOT_H

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "deepmd/InputNlist.h"

namespace deepmd {

typedef double ENERGYTYPE;

// Contents of a file, for programs in which one process reads a model and sends it to the others.
inline void read_file_to_string(const std::string& path, std::string& content) {
  std::ifstream file(path.c_str(), std::ios::binary);
  detail::require(file.is_open(), "the file " + path + " cannot be read; check the path");
  content.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

class DeepPot {
 public:
  DeepPot() {}
  DeepPot(const std::string& model, int gpu_rank = 0, const std::string& file_content = "") {
    init(model, gpu_rank, file_content);
  }
  DeepPot(DeepPot&&) = default;
  DeepPot& operator=(DeepPot&&) = default;

  // Opens a model. gpu_rank: which GPU if there are any; file_content: the bytes of the file if they are read already.
  void init(const std::string& model, int gpu_rank = 0, const std::string& file_content = "") {
    if (model_) {
      std::cerr << "deepmd: init of " << model << ": a model is open already, the call is ignored\n";
      return;
    }
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
    const std::string kind = info_.kind;
    detail::require(kind == "energy" || kind == "pairwise_dprc",
                    model + " predicts '" + kind + "', expected a model of energies; open it with DeepSpin, DeepTensor, DeepDOS "
                    "or DeepProperty");
    model_ = std::move(held);
  }

  // Energy, forces [n_frames * n_atoms * 3] and virial [n_frames * 9].
  template <class Energy, class V>
  void compute(Energy& ener, std::vector<V>& force, std::vector<V>& virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box,
               const std::vector<V>& fparam = std::vector<V>(), const std::vector<V>& aparam = std::vector<V>()) {
    const Answers all = run(Call(coord, atype, box, fparam, aparam));
    all.give(ener, force, virial);
  }

  // The same and atom_energy [n_frames * n_atoms], atom_virial [n_frames * n_atoms * 9].
  template <class Energy, class V>
  void compute(Energy& ener, std::vector<V>& force, std::vector<V>& virial, std::vector<V>& atom_energy,
               std::vector<V>& atom_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const std::vector<V>& fparam = std::vector<V>(),
               const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, atype, box, fparam, aparam);
    call.atomic = true;
    run(call).give(ener, force, virial, atom_energy, atom_virial);
  }

  // With the caller's list: the last `nghost` atoms are ghosts, which receive their share of the forces; the box is not
  // used. ago > 0 tells that the list is that of the last call. Atoms of negative type are left out.
  template <class Energy, class V>
  void compute(Energy& ener, std::vector<V>& force, std::vector<V>& virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<V>& fparam = std::vector<V>(),
               const std::vector<V>& aparam = std::vector<V>()) {
    run(Call(coord, atype, box, nghost, lmp_list, ago, fparam, aparam)).give(ener, force, virial);
  }

  template <class Energy, class V>
  void compute(Energy& ener, std::vector<V>& force, std::vector<V>& virial, std::vector<V>& atom_energy,
               std::vector<V>& atom_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const int nghost, const InputNlist& lmp_list, const int& ago,
               const std::vector<V>& fparam = std::vector<V>(), const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, atype, box, nghost, lmp_list, ago, fparam, aparam);
    call.atomic = true;
    run(call).give(ener, force, virial, atom_energy, atom_virial);
  }

  // Frames of equal size and different types: atype [n_frames * n_atoms].
  template <class Energy, class V>
  void compute_mixed_type(Energy& ener, std::vector<V>& force, std::vector<V>& virial, const int& nframes,
                          const std::vector<V>& coord, const std::vector<int>& atype, const std::vector<V>& box,
                          const std::vector<V>& fparam = std::vector<V>(),
                          const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, atype, box, fparam, aparam);
    call.n_mixed_frames = nframes;
    run(call).give(ener, force, virial);
  }

  template <class Energy, class V>
  void compute_mixed_type(Energy& ener, std::vector<V>& force, std::vector<V>& virial, std::vector<V>& atom_energy,
                          std::vector<V>& atom_virial, const int& nframes, const std::vector<V>& coord,
                          const std::vector<int>& atype, const std::vector<V>& box,
                          const std::vector<V>& fparam = std::vector<V>(),
                          const std::vector<V>& aparam = std::vector<V>()) {
    Call call(coord, atype, box, fparam, aparam);
    call.n_mixed_frames = nframes;
    call.atomic = true;
    run(call).give(ener, force, virial, atom_energy, atom_virial);
  }

  double cutoff() const { return info().rcut; }
  int numb_types() const { return info().n_types; }
  int numb_types_spin() const { return 0; }
  int dim_fparam() const { return info().dim_fparam; }
  int dim_aparam() const { return info().dim_aparam; }
  int dim_chg_spin() const { return 0; }
  // Whether aparam stands for ghosts too, [nall * dim_aparam].
  bool is_aparam_nall() const { return info().aparam_of_ghosts != 0; }
  bool has_default_fparam() const { return info().has_default_fparam != 0; }

  // Element names, separated by blanks.
  void get_type_map(std::string& type_map) const {
    type_map.clear();
    for (int t = 0; t < info().n_types; ++t) type_map += (t ? " " : "") + std::string(info().type_map[t]);
  }

  void print_summary(const std::string& prefix) const {
    std::cout << prefix << "deepmd-engine " << deepmd_version() << " (libdeepmd, interface " << DEEPMD_API_VERSION
              << ")\n";
  }

 private:
  friend class DeepPotModelDevi;

  // Arguments of one compute, in double precision.
  struct Call {
    template <class V>
    Call(const std::vector<V>& coord_, const std::vector<int>& atype_, const std::vector<V>& box_,
         const std::vector<V>& fparam_ = std::vector<V>(), const std::vector<V>& aparam_ = std::vector<V>())
        : coord(coord_.begin(), coord_.end()), box(box_.begin(), box_.end()), fparam(fparam_.begin(), fparam_.end()),
          aparam(aparam_.begin(), aparam_.end()), atype(atype_) {}
    template <class V>
    Call(const std::vector<V>& coord_, const std::vector<int>& atype_, const std::vector<V>& box_, int nghost_,
         const InputNlist& list_, int ago_, const std::vector<V>& fparam_ = std::vector<V>(),
         const std::vector<V>& aparam_ = std::vector<V>())
        : Call(coord_, atype_, box_, fparam_, aparam_) {
      nghost = nghost_, list = &list_, ago = ago_;
    }

    std::vector<double> coord, box, fparam, aparam;
    const std::vector<int>& atype;
    int n_mixed_frames = 0;  // 0: all frames have the same types
    int nghost = 0;
    const InputNlist* list = nullptr;
    int ago = 0;
    bool atomic = false;
  };

  // Results of all frames, in double precision.
  struct Answers {
    std::vector<double> energy, force, virial, atom_energy, atom_virial;

    void give_energy(double& ener) const {
      detail::require(energy.size() == 1, "several frames were passed, their energies need a std::vector<double>");
      ener = energy[0];
    }
    void give_energy(std::vector<double>& ener) const { ener = energy; }
    template <class Energy, class V>
    void give(Energy& ener, std::vector<V>& force_, std::vector<V>& virial_) const {
      give_energy(ener);
      force_.assign(force.begin(), force.end());
      virial_.assign(virial.begin(), virial.end());
    }
    template <class Energy, class V>
    void give(Energy& ener, std::vector<V>& force_, std::vector<V>& virial_, std::vector<V>& atom_energy_,
              std::vector<V>& atom_virial_) const {
      give(ener, force_, virial_);
      atom_energy_.assign(atom_energy.begin(), atom_energy.end());
      atom_virial_.assign(atom_virial.begin(), atom_virial.end());
    }
  };

  const deepmd_info& info() const {
    detail::require(model_ != nullptr, "no model is open; call init first");
    return info_;
  }

  // Part `frame` of a parameter that is given once or once per frame; null if it is not given.
  static const double* part(const std::vector<double>& values, std::size_t size, std::size_t frame,
                            std::size_t n_frames, const char* name) {
    if (values.empty()) return nullptr;
    detail::require(values.size() == size || values.size() == n_frames * size,
                    std::string(name) + " has " + std::to_string(values.size()) + " numbers, expected " +
                        std::to_string(size) + " or as many for each of the " + std::to_string(n_frames) + " frames");
    return values.data() + (values.size() == size ? 0 : frame * size);
  }

  Answers run(const Call& call) { return run(call, nullptr, 1)[0]; }

  // The answers of several models, of which this is the first; without an ensemble its own.
  std::vector<Answers> run(const Call& call, deepmd_ensemble* ensemble, std::size_t n_models) {
    info();
    std::size_t n_all = call.atype.size(), n_frames = 1;
    if (call.n_mixed_frames > 0) {
      n_frames = static_cast<std::size_t>(call.n_mixed_frames);
      n_all /= n_frames;
    } else if (n_all > 0) {
      n_frames = call.coord.size() / (3 * n_all);
    }
    detail::require(call.coord.size() == 3 * n_all * n_frames && n_frames > 0,
                    "coord has " + std::to_string(call.coord.size()) + " numbers, expected 3 for each of the " +
                        std::to_string(call.atype.size()) + " entries of atype, or a multiple of that");
    detail::require(call.nghost >= 0 && static_cast<std::size_t>(call.nghost) <= n_all,
                    "nghost is not between 0 and the number of atoms");
    Answers one;
    one.energy.resize(n_frames);
    one.force.resize(n_frames * n_all * 3);
    one.virial.resize(n_frames * 9);
    one.atom_energy.resize(call.atomic ? n_frames * n_all : 0);
    one.atom_virial.resize(call.atomic ? n_frames * n_all * 9 : 0);
    Target target = {ensemble, n_frames, n_all, std::vector<Answers>(n_models, one)};
    for (std::size_t frame = 0; frame < n_frames; ++frame) run_frame(call, frame, target);
    return std::move(target.answers);
  }

  // Who answers, and where the answers go.
  struct Target {
    deepmd_ensemble* ensemble;
    std::size_t n_frames, n_all;
    std::vector<Answers> answers;  // [n_models]
  };

  void run_frame(const Call& call, std::size_t frame, Target& target) {
    const std::size_t n_frames = target.n_frames, n_all = target.n_all;
    const int* types = call.atype.data() + (call.n_mixed_frames > 0 ? frame * n_all : 0);
    const detail::KeptAtoms kept(types, static_cast<int>(n_all), call.nghost);
    const std::size_t n_kept = kept.atoms.size(), n_local = n_all - static_cast<std::size_t>(call.nghost);
    const auto dim_aparam = static_cast<std::size_t>(info_.dim_aparam);
    const std::size_t n_given = is_aparam_nall() ? n_all : n_local;
    const double* given_aparam = part(call.aparam, n_given * dim_aparam, frame, n_frames, "aparam");
    std::vector<double> positions, aparam;
    for (std::size_t k = 0; k < n_kept; ++k) {
      const auto i = static_cast<std::size_t>(kept.atoms[k]);
      const double* r = call.coord.data() + 3 * (frame * n_all + i);
      positions.insert(positions.end(), r, r + 3);
      if (given_aparam && i < n_given) {
        aparam.insert(aparam.end(), given_aparam + i * dim_aparam, given_aparam + (i + 1) * dim_aparam);
      }
    }
    deepmd_input input;
    deepmd_input_init(&input);
    input.n_local = kept.n_local;
    input.n_ghost = static_cast<int>(n_kept) - kept.n_local;
    input.positions = positions.data();
    input.types = kept.kept_types.data();
    input.fparam = part(call.fparam, static_cast<std::size_t>(info_.dim_fparam), frame, n_frames, "fparam");
    input.aparam = aparam.empty() ? nullptr : aparam.data();
    const std::size_t n_own = static_cast<std::size_t>(kept.n_local) * dim_aparam;
    if (aparam.size() > n_own) input.ghost_aparam = aparam.data() + n_own;
    deepmd_list view;
    if (call.list) {
      if (call.ago == 0 || list_.first.size() != static_cast<std::size_t>(kept.n_local) + 1) {
        list_.assign(*call.list, kept);
      }
      view = list_.view();
      input.list = &view;
    } else {
      input.cell = part(call.box, 9, frame, n_frames, "box");
    }
    evaluate(input, kept, frame, target);
  }

  // What one model says about the atoms that were kept.
  struct Kept {
    std::vector<double> forces, atom_energy, atom_virial;
  };

  void evaluate(const deepmd_input& input, const detail::KeptAtoms& kept, std::size_t frame, Target& target) {
    const std::size_t n_kept = kept.atoms.size(), n_models = target.answers.size();
    const bool atomic = !target.answers[0].atom_virial.empty();
    const Kept empty = {std::vector<double>(3 * n_kept), std::vector<double>(n_kept),
                        std::vector<double>(atomic ? 9 * n_kept : 0)};
    std::vector<Kept> found(n_models, empty);
    std::vector<deepmd_output> outputs(n_models);
    for (std::size_t k = 0; k < n_models; ++k) {
      deepmd_output_init(&outputs[k]);
      outputs[k].energy = &target.answers[k].energy[frame];
      outputs[k].forces = found[k].forces.data();
      outputs[k].virial = &target.answers[k].virial[9 * frame];
      outputs[k].atom_energy = atomic ? found[k].atom_energy.data() : nullptr;
      outputs[k].atom_virial = atomic ? found[k].atom_virial.data() : nullptr;
    }
    detail::check(target.ensemble ? deepmd_ensemble_evaluate(target.ensemble, &input, static_cast<int>(n_models),
                                                             outputs.data())
                                  : deepmd_evaluate(model_.get(), &input, outputs.data()));
    for (std::size_t k = 0; k < n_models; ++k) give_back(found[k], kept, frame * target.n_all, target.answers[k]);
  }

  // To the places of the kept atoms among all, from place `start` on.
  static void give_back(const Kept& found, const detail::KeptAtoms& kept, std::size_t start, Answers& all) {
    const bool atomic = !all.atom_virial.empty();
    for (std::size_t k = 0; k < kept.atoms.size(); ++k) {
      const std::size_t to = start + static_cast<std::size_t>(kept.atoms[k]);
      for (std::size_t a = 0; a < 3; ++a) all.force[3 * to + a] = found.forces[3 * k + a];
      if (atomic) all.atom_energy[to] = found.atom_energy[k];
      for (std::size_t a = 0; atomic && a < 9; ++a) all.atom_virial[9 * to + a] = found.atom_virial[9 * k + a];
    }
  }

  struct Free {
    void operator()(deepmd_model* model) const { deepmd_model_free(model); }
  };
  std::unique_ptr<deepmd_model, Free> model_;
  deepmd_info info_ = deepmd_info();
  detail::RaggedList list_;
};

}  // namespace deepmd

#include "deepmd/DeepPotModelDevi.h"

#endif
