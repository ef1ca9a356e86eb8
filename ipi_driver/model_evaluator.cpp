#include "model_evaluator.hpp"

#include <cmath>
#include <cstring>
#include <set>
#include <sstream>
#include <utility>

#include "atom_names.hpp"
#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

// Beyond this a coordinate or a cell is a mistake of the server: neighbour search would count cells past the range of
// an int, and positions lose the digits that forces need.
constexpr double kFarthest = 1e7;  // Angstrom
// Below this distance between opposite faces no crystal exists and the images within the cutoff run into millions.
constexpr double kThinnest = 0.5;  // Angstrom

// Smallest distance between opposite faces of the cell; 0 for a degenerate one.
double thickness(const std::array<double, 9>& cell) {
  const auto cross = [&](int u, int v, double* out) {
    const double* x = cell.data() + 3 * u;
    const double* y = cell.data() + 3 * v;
    out[0] = x[1] * y[2] - x[2] * y[1];
    out[1] = x[2] * y[0] - x[0] * y[2];
    out[2] = x[0] * y[1] - x[1] * y[0];
  };
  double smallest = HUGE_VAL;
  for (int a = 0; a < 3; ++a) {
    double normal[3];
    cross((a + 1) % 3, (a + 2) % 3, normal);
    const double area = std::sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]);
    const double* row = cell.data() + 3 * a;
    const double volume = std::fabs(row[0] * normal[0] + row[1] * normal[1] + row[2] * normal[2]);
    smallest = area > 0.0 ? std::fmin(smallest, volume / area) : 0.0;
  }
  return smallest;
}

bool same_frame(const Frame& left, const Frame& right) {
  return left.cell == right.cell && left.positions == right.positions;
}

void require_dimension(const std::string& key, std::size_t got, int expected, bool has_default) {
  if (got == static_cast<std::size_t>(expected) || (got == 0 && has_default)) {
    return;
  }
  throw DriverError(ExitCode::kConfig, "\"" + key + "\" has " + std::to_string(got) + " numbers, the model expects " +
                                           std::to_string(expected) + "; give them in the JSON file as a list");
}

}  // namespace

ModelEvaluator::ModelEvaluator(const DriverConfig& config, std::vector<std::string> names, std::vector<int> types)
    : names_(std::move(names)), types_(std::move(types)), pbc_(config.pbc), periodic_(config.periodic()) {
  open(config);
  check_atoms(config);
  take_parameters(config);
  pool_ = std::make_unique<ListPool>(info_.rcut, config.skin);
}

void ModelEvaluator::open(const DriverConfig& config) {
  deepmd_open_options options;
  deepmd_open_options_init(&options);
  options.n_threads = config.n_threads;
  options.gpu_rank = config.gpu_rank;
  deepmd_model* model = nullptr;
  deepmd_status status = deepmd_model_open(config.graph_file.c_str(), &options, &model);
  model_.reset(model);
  if (status == DEEPMD_OK) {
    info_.size = sizeof info_;
    status = deepmd_model_info(model_.get(), &info_);
  }
  if (status != DEEPMD_OK) {
    throw DriverError(status == DEEPMD_ERROR_MEMORY ? ExitCode::kInternal : ExitCode::kModel, deepmd_last_error());
  }
  if (std::strcmp(info_.kind, "energy") != 0) {
    throw DriverError(ExitCode::kModel, config.graph_file + " holds a model of kind '" + info_.kind +
                                            "', i-PI needs one of kind 'energy'");
  }
}

void ModelEvaluator::check_atoms(const DriverConfig& config) const {
  const std::vector<std::string> type_map(info_.type_map, info_.type_map + info_.n_types);
  std::set<std::string> seen;
  for (std::size_t i = 0; i < types_.size(); ++i) {
    if (!seen.insert(names_[i]).second) {
      continue;
    }
    if (types_[i] >= info_.n_types) {
      throw DriverError(ExitCode::kAtoms, "invalid atom_type configuration: '" + names_[i] + "' has type " +
                                              std::to_string(types_[i]) + ", the model has " +
                                              std::to_string(info_.n_types) + " types, counted from 0");
    }
    const std::string contradiction = name_contradiction(names_[i], types_[i], type_map);
    if (config.check_names && !contradiction.empty()) {
      throw DriverError(ExitCode::kAtoms, contradiction);
    }
  }
}

void ModelEvaluator::take_parameters(const DriverConfig& config) {
  require_dimension("fparam", config.fparam.size(), info_.dim_fparam, info_.has_default_fparam != 0);
  require_dimension("aparam", config.aparam.size(), info_.dim_aparam, false);
  fparam_ = config.fparam;
  for (std::size_t i = 0; i < types_.size() && !config.aparam.empty(); ++i) {
    aparam_.insert(aparam_.end(), config.aparam.begin(), config.aparam.end());
  }
}

std::string ModelEvaluator::description() const {
  std::ostringstream text;
  text << "model with cutoff " << info_.rcut << " Angstrom, path '" << info_.path_in_use << "', types";
  for (int t = 0; t < info_.n_types; ++t) {
    text << ' ' << info_.type_map[t];
  }
  return text.str();
}

std::string ModelEvaluator::atom_text(std::size_t i) const {
  return "atom " + std::to_string(i) + " (" + names_[i] + ", counted from 0)";
}

void ModelEvaluator::check_frame(const Frame& frame) const {
  const auto refuse = [](const std::string& sentence) { throw DriverError(ExitCode::kGeometry, sentence); };
  for (std::size_t k = 0; k < frame.positions.size(); ++k) {
    if (!(std::fabs(frame.positions[k]) <= kFarthest)) {
      std::ostringstream value;
      value << frame.positions[k];
      refuse("the server sends " + std::string(1, "xyz"[k % 3]) + " = " + value.str() + " Angstrom for " +
             atom_text(k / 3) + "; the run went astray, look at the time step and the starting structure");
    }
  }
  for (std::size_t k = 0; periodic_ && k < 9; ++k) {
    if (!(std::fabs(frame.cell[k]) <= kFarthest)) {
      std::ostringstream value;
      value << frame.cell[k];
      refuse("the server sends a cell with the element " + value.str() +
             " Angstrom; the run went astray, look at the barostat and the starting structure");
    }
  }
  if (periodic_ && thickness(frame.cell) < kThinnest) {
    std::ostringstream value;
    value << thickness(frame.cell);
    refuse("the server sends a degenerate cell, " + value.str() +
           " Angstrom thick; give the cell in i-PI's input, or set \"pbc\": false for a molecule");
  }
}

void ModelEvaluator::fail(deepmd_status status) const {
  const std::string sentence = deepmd_last_error();
  switch (status) {
    case DEEPMD_ERROR_GEOMETRY:
      throw DriverError(ExitCode::kGeometry, sentence);
    case DEEPMD_ERROR_MEMORY:
    case DEEPMD_ERROR_INTERNAL:
      throw DriverError(ExitCode::kInternal, sentence);
    default:
      throw DriverError(ExitCode::kEvaluation, sentence);
  }
}

void ModelEvaluator::evaluate_one(const Frame& frame, Evaluation& result) {
  Geometry geometry;
  geometry.n_atoms = n_atoms();
  geometry.positions = frame.positions.data();
  geometry.cell = periodic_ ? frame.cell.data() : nullptr;
  geometry.pbc = periodic_ ? pbc_.data() : nullptr;
  deepmd_list list{};
  deepmd_status status = pool_->update(geometry, &list);
  if (status != DEEPMD_OK) {
    fail(status);
  }
  deepmd_input input;
  deepmd_input_init(&input);
  input.n_local = geometry.n_atoms;
  input.positions = geometry.positions;
  input.types = types_.data();
  input.cell = geometry.cell;
  input.pbc = geometry.pbc;
  input.list = &list;
  input.fparam = fparam_.empty() ? nullptr : fparam_.data();
  input.aparam = aparam_.empty() ? nullptr : aparam_.data();
  result.forces.resize(frame.positions.size());
  deepmd_output output;
  deepmd_output_init(&output);
  output.energy = &result.energy;
  output.forces = result.forces.data();
  output.virial = result.virial.data();
  status = deepmd_evaluate(model_.get(), &input, &output);
  if (status != DEEPMD_OK) {
    fail(status);
  }
  ++n_evaluated_;
}

void ModelEvaluator::evaluate(const std::vector<Frame>& frames, std::vector<Evaluation>& results) {
  results.resize(frames.size());
  for (std::size_t k = 0; k < frames.size(); ++k) {
    // i-PI fills up a batch with copies of the last structure.
    if (k > 0 && same_frame(frames[k], frames[k - 1])) {
      results[k] = results[k - 1];
      continue;
    }
    check_frame(frames[k]);
    evaluate_one(frames[k], results[k]);
  }
}

}  // namespace deepmd::ipi
