// A frozen model behind the C interface of the core, as the protocol wants it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deepmd/deepmd.h"
#include "driver_config.hpp"
#include "joint_system.hpp"
#include "list_pool.hpp"
#include "protocol.hpp"

namespace deepmd::ipi {

class ModelEvaluator : public Evaluator {
 public:
  // Opens the model and checks the atoms against it. names [n_atoms], types [n_atoms].
  ModelEvaluator(const DriverConfig& config, std::vector<std::string> names, std::vector<int> types);

  int n_atoms() const override { return static_cast<int>(types_.size()); }
  void evaluate(const std::vector<Frame>& frames, std::vector<Evaluation>& results) override;

  std::string description() const;  // one line for the log
  std::int64_t n_evaluated() const { return n_evaluated_; }  // structures
  std::int64_t n_lists_built() const { return pool_->n_built(); }

 private:
  struct FreeModel {
    void operator()(deepmd_model* model) const { deepmd_model_free(model); }
  };
  void open(const DriverConfig& config);
  void check_atoms(const DriverConfig& config) const;
  void take_parameters(const DriverConfig& config);
  void check_frame(const Frame& frame) const;
  Geometry geometry_of(const Frame& frame) const;
  deepmd_list update_list(const Frame& frame);
  void evaluate_one(const Frame& frame, Evaluation& result);
  bool evaluate_joint(const std::vector<const Frame*>& frames, Evaluation* const* results);
  void evaluate_distinct(const std::vector<const Frame*>& frames, const std::vector<Evaluation*>& results);
  void report_outside(std::int64_t n_pairs);
  [[noreturn]] void fail(deepmd_status status) const;
  std::string atom_text(std::size_t i) const;  // counted from 1, as the core does

  std::vector<std::string> names_;
  std::vector<int> types_;
  std::array<int, 3> pbc_;
  bool periodic_;
  std::unique_ptr<deepmd_model, FreeModel> model_;
  deepmd_info info_{};
  std::unique_ptr<ListPool> pool_;
  std::vector<double> fparam_;  // [dim_fparam], empty: the model's default
  std::vector<double> aparam_;  // [n_atoms][dim_aparam]
  JointSystem joint_;
  std::int64_t n_evaluated_ = 0;
  bool outside_reported_ = false;
};

}  // namespace deepmd::ipi
