// Several models on one configuration, and the deviation between them: the formulas are those of deepmd.h. C++11.
#ifndef DEEPMD_DEEPPOTMODELDEVI_H
#define DEEPMD_DEEPPOTMODELDEVI_H

#include <memory>
#include <string>
#include <utility>
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

  // Opens the models; they must know the same elements and take the same parameters. Types are those of the first.
  void init(const std::vector<std::string>& models, int gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>()) {
    detail::require(!models.empty(), "the list of models is empty, expected at least one");
    detail::require(file_contents.empty() || file_contents.size() == models.size(),
                    "file_contents has another length than models");
    ensemble_.reset();
    models_.clear();
    std::vector<DeepPot> opened;  // kept only if they fit together
    std::vector<deepmd_model*> handles;
    for (std::size_t k = 0; k < models.size(); ++k) {
      opened.emplace_back(models[k], gpu_rank, file_contents.empty() ? std::string() : file_contents[k]);
      handles.push_back(opened[k].model_.get());
    }
    deepmd_ensemble* created = nullptr;
    detail::check(deepmd_ensemble_new(static_cast<int>(handles.size()), handles.data(), &created));
    ensemble_.reset(created);
    models_ = std::move(opened);
  }

  // Results of each model, from one neighbour list; `more` are the arguments of DeepPot::compute behind box.
  template <class V, class... More>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<V>>& all_force,
               std::vector<std::vector<V>>& all_virial, const std::vector<V>& coord, const std::vector<int>& atype,
               const std::vector<V>& box, const More&... more) {
    resize(all_ener, all_force, all_virial);
    const auto answers = models_[0].run(DeepPot::Call(coord, atype, box, more...), ensemble_.get(), models_.size());
    for (std::size_t k = 0; k < models_.size(); ++k) answers[k].give(all_ener[k], all_force[k], all_virial[k]);
  }

  template <class V, class... More>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<V>>& all_force,
               std::vector<std::vector<V>>& all_virial, std::vector<std::vector<V>>& all_atom_energy,
               std::vector<std::vector<V>>& all_atom_virial, const std::vector<V>& coord,
               const std::vector<int>& atype, const std::vector<V>& box, const More&... more) {
    resize(all_ener, all_force, all_virial);
    resize(all_ener, all_atom_energy, all_atom_virial);
    DeepPot::Call call(coord, atype, box, more...);
    call.atomic = true;
    const auto answers = models_[0].run(call, ensemble_.get(), models_.size());
    for (std::size_t k = 0; k < models_.size(); ++k) {
      answers[k].give(all_ener[k], all_force[k], all_virial[k], all_atom_energy[k], all_atom_virial[k]);
    }
  }

  template <class V>
  void compute_avg(V& avg, const std::vector<V>& all) const {
    std::vector<V> mean;
    std::vector<std::vector<V>> each;
    for (const V value : all) each.push_back(std::vector<V>(1, value));
    compute_avg(mean, each);
    avg = mean[0];
  }

  template <class V>
  void compute_avg(std::vector<V>& avg, const std::vector<std::vector<V>>& all) const {
    const Values values(all, 1);
    std::vector<double> mean(values.raw.n_groups);
    detail::check(deepmd_deviation_mean(&values.raw, mean.data()));
    avg.assign(mean.begin(), mean.end());
  }

  // std[i] = sqrt(mean over models of |all_k[i] - avg[i]|^2) for groups i of `stride` numbers.
  template <class V>
  void compute_std(std::vector<V>& std, const std::vector<V>& avg, const std::vector<std::vector<V>>& all,
                   const int& stride) const {
    const Values values(all, stride);
    const std::vector<double> center(avg.begin(), avg.end());
    detail::require(avg.size() == all[0].size(), "the mean and the models' results have different lengths");
    std::vector<double> deviation(values.raw.n_groups);
    detail::check(deepmd_deviation_groups(&values.raw, center.data(), deviation.data()));
    std.assign(deviation.begin(), deviation.end());
  }

  template <class V>
  void compute_std_f(std::vector<V>& std, const std::vector<V>& avg, const std::vector<std::vector<V>>& all) const {
    compute_std(std, avg, all, 3);
  }

  // std[i] / (|avg[i]| + eps)
  template <class V>
  void compute_relative_std(std::vector<V>& std, const std::vector<V>& avg, const V eps, const int& stride) const {
    const Values values(std::vector<std::vector<V>>(1, avg), stride);
    const std::vector<double> center(avg.begin(), avg.end());
    detail::require(std.size() == values.raw.n_groups, "std and avg have lengths that do not belong together");
    std::vector<double> deviation(std.begin(), std.end());
    detail::check(deepmd_deviation_relative(&values.raw, center.data(), eps, deviation.data()));
    std.assign(deviation.begin(), deviation.end());
  }

  template <class V>
  void compute_relative_std_f(std::vector<V>& std, const std::vector<V>& avg, const V eps) const {
    compute_relative_std(std, avg, eps, 3);
  }

  int numb_models() const { return static_cast<int>(models_.size()); }
  // The longest of all models: as far as a list from outside must reach.
  double cutoff() const {
    double longest = first().cutoff();
    for (const DeepPot& model : models_) longest = model.cutoff() > longest ? model.cutoff() : longest;
    return longest;
  }
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

  // The models' results in double precision, as the C interface takes them.
  struct Values {
    template <class V>
    Values(const std::vector<std::vector<V>>& all, int stride) {
      detail::require(!all.empty() && stride > 0, "there are no results to compare, or the stride is not positive");
      for (const std::vector<V>& values : all) {
        detail::require(values.size() == all[0].size(), "the models' results have different lengths");
        kept.push_back(std::vector<double>(values.begin(), values.end()));
      }
      for (const std::vector<double>& values : kept) rows.push_back(values.data());
      const std::size_t n_groups = all[0].size() / static_cast<std::size_t>(stride);
      raw = {sizeof(raw), static_cast<int>(rows.size()), stride, n_groups, rows.data()};
    }
    Values(const Values&) = delete;
    std::vector<std::vector<double>> kept;
    std::vector<const double*> rows;
    deepmd_model_values raw;
  };

  template <class V>
  void resize(std::vector<double>& a, std::vector<std::vector<V>>& b, std::vector<std::vector<V>>& c) const {
    first();
    a.resize(models_.size());
    b.resize(models_.size());
    c.resize(models_.size());
  }

  struct Free {
    void operator()(deepmd_ensemble* ensemble) const { deepmd_ensemble_free(ensemble); }
  };
  std::vector<DeepPot> models_;
  std::unique_ptr<deepmd_ensemble, Free> ensemble_;
};

}  // namespace deepmd

#endif
