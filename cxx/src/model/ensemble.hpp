#pragma once

#include <string>
#include <vector>

#include "model/deviation.hpp"
#include "model/model.hpp"

namespace deepmd {

struct DeviationWish {
  double relative = -1, relative_v = -1;  // as in FrameOpinions
  double* atoms = nullptr;                // [n_local] the deviation of each force, or null
};

struct EnsembleDeviation {
  FrameDeviation frame;
  double largest_force = 0;  // of the absolute deviations
};

// Several models for the same atoms: one checked request and one neighbour list for all. Types and defaults are those of
// the first model; a model that lists the same elements in another order has its types mapped, and the list reaches as
// far as the longest cutoff (each model skips what lies beyond its own). Models on the fused path that see the same pairs
// as the first one share one pass: their neighbours are filtered and sorted once. So do models on the same GPU: the frame is
// sent once, and the models run side by side.
class Ensemble {
 public:
  // The models live elsewhere. Throws DEEPMD_ERROR_ARGUMENT with the difference in words if they do not fit together.
  explicit Ensemble(std::vector<Model*> models);

  int n_models() const { return static_cast<int>(members_.size()); }
  double rcut() const { return rcut_; }  // the longest, Angstrom
  double receptive_field() const;        // the longest, Angstrom
  bool passes_messages() const;          // whether any model does

  // Evaluates the first results.size() models.
  void evaluate(const Request& request, const std::vector<Result>& results);
  // Evaluates all models; `first` is for the first one's answers. Ghosts need owners, which get their shares of the forces
  // before these are compared.
  EnsembleDeviation compare(const Request& request, const Result& first, const DeviationWish& wish);

 private:
  struct Member {
    Model* model;
    bool is_joined;            // takes part in the pass of the first model, on the CPU or on a GPU
    std::vector<int> type_of;  // [n_types] the model's type of each type of the first model; empty: the same
  };

  Model& first() const { return *members_[0].model; }
  bool compare_on_device(const Frame& given, const std::vector<Result>& results, const DeviationWish& wish, EnsembleDeviation* found);
  void compare_on_host(Frame& frame, std::vector<Result> results, FrameOpinions opinions, const DeviationWish& wish,
                       EnsembleDeviation* found);
  void evaluate_completed(Frame& frame, const std::vector<Result>& results);
  void find_rows(Frame& frame, std::size_t n);
  void check_radius(const Frame& frame) const;  // of a list without rows
  void evaluate_joined(const Frame& given, const std::vector<Result>& results);
  void evaluate_alone(const Member& member, Frame frame, const Result& result);

  std::vector<Member> members_;
  double rcut_;
  Neighbors neighbors_;
  NeighborList found_;
  std::vector<FusedPotential*> joined_;
  std::vector<DevicePotential*> joined_on_device_;
  std::vector<Result> joined_results_;
  std::vector<double> forces_;  // [n_models][n_all][3] to be compared on the host
  std::vector<int> types_;  // [n_all] in the order of a model that lists its elements differently
};

}  // namespace deepmd
