#include "model/ensemble.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "model/frame_rows.hpp"
#include "model/pair_blocks.hpp"
#include "model/request_checks.hpp"

namespace deepmd {
namespace {

std::string join(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : " ") + word;
  return all;
}

[[noreturn]] void refuse(const Model& a, const Model& b, const std::string& difference, const std::string& remedy) {
  throw Error(DEEPMD_ERROR_ARGUMENT, text("models ", a.path(), " and ", b.path(), " do not fit together: ", difference,
                                          "; ", remedy));
}

void check_dimension(const Model& a, const Model& b, const char* name, int dim_a, int dim_b) {
  if (dim_a == dim_b) return;
  refuse(a, b, text("they take ", dim_a, " and ", dim_b, " ", name, " parameters"),
         "train the models of an ensemble with the same numb_" + std::string(name));
}

// [n_types] the type of model b for each type of model a; empty if they are the same.
std::vector<int> map_types(const Model& a, const Model& b) {
  const std::vector<std::string>&names = a.metadata().type_map, &others = b.metadata().type_map;
  if (names == others) return {};
  std::vector<int> type_of;
  for (const std::string& name : names) {
    const auto found = std::find(others.begin(), others.end(), name);
    if (found == others.end() || names.size() != others.size()) {
      refuse(a, b, "their elements are " + join(names) + " and " + join(others),
             "train the models of an ensemble with the same type_map");
    }
    type_of.push_back(static_cast<int>(found - others.begin()));
  }
  return type_of;
}

double longest_cutoff(const std::vector<Model*>& models) {
  double longest = 0;
  for (const Model* model : models) longest = std::max(longest, model->metadata().rcut);
  if (models.empty()) throw Error(DEEPMD_ERROR_ARGUMENT, "the ensemble has no models, expected at least one; name them");
  return longest;
}

}  // namespace

Ensemble::Ensemble(std::vector<Model*> models) : rcut_(longest_cutoff(models)), neighbors_(rcut_, 0.0) {
  const Model& a = *models[0];
  if (!a.metadata().has_energy()) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text(a.path(), " predicts '", a.metadata().kind, "', expected a model of energies; "
                                               "name one"));
  }
  for (Model* model : models) {
    const Metadata &ours = a.metadata(), &theirs = model->metadata();
    if (ours.kind != theirs.kind) {
      refuse(a, *model, "they predict '" + ours.kind + "' and '" + theirs.kind + "'", "use models of one kind");
    }
    check_dimension(a, *model, "fparam", ours.dim_fparam, theirs.dim_fparam);
    check_dimension(a, *model, "aparam", ours.dim_aparam, theirs.dim_aparam);
    FusedPotential *fused = model->fused(), *leader = models[0]->fused();
    std::vector<int> type_of = map_types(a, *model);
    const bool is_twice = std::any_of(members_.begin(), members_.end(), [&](const Member& m) { return m.model == model; });
    DevicePotential *on_device = model->on_device(), *device_leader = models[0]->on_device();
    const bool is_same = type_of.empty() && !is_twice;
    const bool is_joined = is_same && ((fused && leader && can_share(*leader, *fused)) ||
                                       (on_device && device_leader && device_leader->can_share(*on_device)));
    members_.push_back({model, is_joined, std::move(type_of)});
  }
}

double Ensemble::receptive_field() const {
  double longest = 0;
  for (const Member& member : members_) longest = std::max(longest, member.model->metadata().receptive_field);
  return longest;
}

bool Ensemble::passes_messages() const {
  bool any = false;
  for (const Member& member : members_) any = any || member.model->metadata().passes_messages;
  return any;
}

void Ensemble::evaluate(const Request& request, const std::vector<Result>& results) {
  if (results.size() > members_.size()) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("results of ", results.size(), " models are asked for, but the ensemble has ",
                                            members_.size(), "; ask for as many at most"));
  }
  Request filled = request;
  first().complete(filled, neighbors_);
  evaluate_completed(filled.frame, results);
}

void Ensemble::evaluate_completed(Frame& frame, const std::vector<Result>& results) {
  find_rows(frame, results.size());
  evaluate_joined(frame, results);
  for (std::size_t k = 0; k < results.size(); ++k) {
    if (members_[k].is_joined) continue;
    try {
      evaluate_alone(members_[k], frame, results[k]);
    } catch (const Error& e) {
      if (k == 0 || e.status() == DEEPMD_ERROR_GEOMETRY) throw;
      throw Error(e.status(), text("model ", members_[k].model->path(), ": ", e.what()));
    }
  }
}

// Rows for a list without, unless all of the first n models find neighbours themselves.
void Ensemble::find_rows(Frame& frame, std::size_t n) {
  if (frame.list.has_rows()) return;
  check_radius(frame);
  bool all_find = true;
  for (std::size_t k = 0; k < n; ++k) all_find = all_find && members_[k].model->on_device();
  if (!all_find) frame.list = rows_of(frame, rcut_, found_);
}

void Ensemble::check_radius(const Frame& frame) const {
  if (!frame.list.has_rows() && frame.list.radius < rcut_) {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("the neighbour list has no rows and the radius ", frame.list.radius,
                                            ", expected at least the longest cutoff ", rcut_, " Angstrom; pass a longer one"));
  }
}

void Ensemble::evaluate_joined(const Frame& given, const std::vector<Result>& results) {
  Frame frame = given;
  frame.list.n_centers = frame.n_local;  // rows of ghosts are for models that pass messages
  joined_.clear(), joined_on_device_.clear();
  joined_results_.clear();
  for (std::size_t k = 0; k < results.size(); ++k) {
    if (!members_[k].is_joined) continue;
    if (FusedPotential* fused = members_[k].model->fused()) joined_.push_back(fused);
    if (DevicePotential* on_device = members_[k].model->on_device()) joined_on_device_.push_back(on_device);
    joined_results_.push_back(results[k]);
  }
  evaluate_together(frame, joined_.data(), static_cast<int>(joined_.size()), joined_results_.data());
  if (!joined_on_device_.empty()) {
    DevicePotential& leader = *joined_on_device_[0];
    leader.evaluate_together(frame, joined_on_device_.data(), static_cast<int>(joined_on_device_.size()), joined_results_.data());
  }
  for (const Result& result : joined_results_) check_finite(frame, result);
}

void Ensemble::evaluate_alone(const Member& member, Frame frame, const Result& result) {
  if (!member.type_of.empty()) {
    types_.resize(frame.n_all());
    for (std::size_t i = 0; i < types_.size(); ++i) types_[i] = member.type_of[static_cast<std::size_t>(frame.types[i])];
    frame.types = types_.data();
    // A frame of its own, whose list is found now and not when the radius was chosen: it may not be kept.
    if (!frame.list.has_rows()) frame.list.stamp = 0;
  }
  member.model->evaluate_checked(frame, result);
}

}  // namespace deepmd
