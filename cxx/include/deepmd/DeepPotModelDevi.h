// Several models on one configuration, and the deviation between them. C++11, header-only.
#ifndef DEEPMD_DEEPPOTMODELDEVI_H
#define DEEPMD_DEEPPOTMODELDEVI_H

#include <cmath>
#include <string>
#include <vector>

#include "deepmd/DeepPot.h"

namespace deepmd {

class DeepPotModelDevi {
 public:
  DeepPotModelDevi() {}
  DeepPotModelDevi(const std::vector<std::string>& models, int gpu_rank = 0,
                   const std::vector<std::string>& file_contents = std::vector<std::string>()) {
    init(models, gpu_rank, file_contents);
  }

  // Opens the models; they must agree in cutoff, types and parameters.
  void init(const std::vector<std::string>& models, int gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>()) {
    detail::require(!models.empty(), "the list of models is empty, expected at least one");
    detail::require(file_contents.empty() || file_contents.size() == models.size(),
                    "file_contents has another length than models");
    models_.clear();
    for (std::size_t k = 0; k < models.size(); ++k) {
      models_.emplace_back(models[k], gpu_rank, file_contents.empty() ? std::string() : file_contents[k]);
      detail::require(describe(models_[k]) == describe(models_[0]),
                      models[k] + " has another type_map, cutoff or number of parameters than " + models[0]);
    }
  }

  // Results of each model; `more` are the arguments of DeepPot::compute from coord on.
  template <class V, class... More>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<V>>& all_force,
               std::vector<std::vector<V>>& all_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const More&... more) {
    resize(all_ener, all_force, all_virial);
    for (std::size_t k = 0; k < models_.size(); ++k) {
      models_[k].compute(all_ener[k], all_force[k], all_virial[k], coord, atype, box, more...);
    }
  }

  template <class V, class... More>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<V>>& all_force,
               std::vector<std::vector<V>>& all_virial, std::vector<std::vector<V>>& all_atom_energy,
               std::vector<std::vector<V>>& all_atom_virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box, const More&... more) {
    resize(all_ener, all_force, all_virial);
    resize(all_ener, all_atom_energy, all_atom_virial);
    for (std::size_t k = 0; k < models_.size(); ++k) {
      models_[k].compute(all_ener[k], all_force[k], all_virial[k], all_atom_energy[k], all_atom_virial[k], coord, atype,
                         box, more...);
    }
  }

  template <class V>
  void compute_avg(V& avg, const std::vector<V>& all) const {
    avg = 0;
    for (const V value : all) avg += value / static_cast<V>(all.size());
  }

  template <class V>
  void compute_avg(std::vector<V>& avg, const std::vector<std::vector<V>>& all) const {
    avg.assign(all.at(0).size(), 0);
    for (const std::vector<V>& values : all) {
      detail::require(values.size() == avg.size(), "the models' results have different lengths");
      for (std::size_t i = 0; i < avg.size(); ++i) avg[i] += values[i];
    }
    for (V& value : avg) value /= static_cast<V>(all.size());
  }

  // std[i] = sqrt(mean over models of |all_k[i] - avg[i]|^2) for groups i of `stride` numbers.
  template <class V>
  void compute_std(std::vector<V>& std, const std::vector<V>& avg, const std::vector<std::vector<V>>& all,
                   const int& stride) const {
    const std::size_t width = static_cast<std::size_t>(stride);
    std.assign(avg.size() / width, 0);
    for (const std::vector<V>& values : all) {
      for (std::size_t k = 0; k < std.size() * width; ++k) {
        const V difference = values.at(k) - avg[k];
        std[k / width] += difference * difference;
      }
    }
    for (V& value : std) value = std::sqrt(value / static_cast<V>(all.size()));
  }

  template <class V>
  void compute_std_f(std::vector<V>& std, const std::vector<V>& avg, const std::vector<std::vector<V>>& all) const {
    compute_std(std, avg, all, 3);
  }

  // std[i] / (|avg[i]| + eps)
  template <class V>
  void compute_relative_std(std::vector<V>& std, const std::vector<V>& avg, const V eps, const int& stride) const {
    const std::size_t width = static_cast<std::size_t>(stride);
    for (std::size_t i = 0; i < std.size(); ++i) {
      V norm2 = 0;
      for (std::size_t a = 0; a < width; ++a) norm2 += avg.at(i * width + a) * avg.at(i * width + a);
      std[i] /= std::sqrt(norm2) + eps;
    }
  }

  template <class V>
  void compute_relative_std_f(std::vector<V>& std, const std::vector<V>& avg, const V eps) const {
    compute_relative_std(std, avg, eps, 3);
  }

  int numb_models() const { return static_cast<int>(models_.size()); }
  double cutoff() const { return first().cutoff(); }
  int numb_types() const { return first().numb_types(); }
  int numb_types_spin() const { return first().numb_types_spin(); }
  int dim_fparam() const { return first().dim_fparam(); }
  int dim_aparam() const { return first().dim_aparam(); }
  bool is_aparam_nall() const { return first().is_aparam_nall(); }
  bool has_default_fparam() const { return first().has_default_fparam(); }
  void get_type_map(std::string& type_map) const { first().get_type_map(type_map); }
  void print_summary(const std::string& prefix) const { first().print_summary(prefix); }

 private:
  const DeepPot& first() const {
    detail::require(!models_.empty(), "no model is open; call init first");
    return models_[0];
  }

  static std::string describe(const DeepPot& model) {
    std::string names;
    model.get_type_map(names);
    return names + "|" + std::to_string(model.cutoff()) + "|" + std::to_string(model.dim_fparam()) + "|" +
           std::to_string(model.dim_aparam());
  }

  template <class V>
  void resize(std::vector<double>& a, std::vector<std::vector<V>>& b, std::vector<std::vector<V>>& c) const {
    first();
    a.resize(models_.size());
    b.resize(models_.size());
    c.resize(models_.size());
  }

  std::vector<DeepPot> models_;
};

}  // namespace deepmd

#endif
