#include "model_evaluator.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
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
// Entries of the neighbour lists of structures that go into one call. Joining pays while the fixed cost of a call
// counts: measured on a CPU, 8 beads of 24 atoms take 30 % less time, with 192 atoms there is nothing left to gain.
constexpr std::int64_t kJointPairs = 40000;

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
  options.path = config.path.c_str();
  options.precision = config.precision.c_str();
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
  text << "model with cutoff " << info_.rcut << " Angstrom, types";
  for (int t = 0; t < info_.n_types; ++t) {
    text << ' ' << info_.type_map[t];
  }
  if (info_.path_description) {
    text << "\n# path " << info_.path_description;
  }
  return text.str();
}

std::string ModelEvaluator::atom_text(std::size_t i) const {
  return "atom " + std::to_string(i + 1) + " (" + names_[i] + ")";
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

Geometry ModelEvaluator::geometry_of(const Frame& frame) const {
  return {n_atoms(), frame.positions.data(), periodic_ ? frame.cell.data() : nullptr,
          periodic_ ? pbc_.data() : nullptr};
}

deepmd_list ModelEvaluator::update_list(const Frame& frame) {
  deepmd_list list{};
  const deepmd_status status = pool_->update(geometry_of(frame), &list);
  if (status != DEEPMD_OK) {
    fail(status);
  }
  return list;
}

void ModelEvaluator::evaluate_one(const Frame& frame, Evaluation& result) {
  const deepmd_list list = update_list(frame);
  const Geometry geometry = geometry_of(frame);
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
  std::int64_t n_outside = 0;
  output.n_outside = &n_outside;
  const deepmd_status status = deepmd_evaluate(model_.get(), &input, &output);
  if (status != DEEPMD_OK) {
    fail(status);
  }
  report_outside(n_outside);
  ++n_evaluated_;
}

void ModelEvaluator::report_outside(std::int64_t n_pairs) {
  if (n_pairs == 0 || outside_reported_) {
    return;
  }
  outside_reported_ = true;
  std::fprintf(stderr,
               "dp_ipi: %lld pairs of atoms or couples of neighbours are outside of the range of the embedding's table; the "
               "network itself answers for them, and this is not reported again\n",
               static_cast<long long>(n_pairs));
}

// False if the joint system was refused; evaluated one by one, its structures then give the reason and the right atoms.
bool ModelEvaluator::evaluate_joint(const std::vector<const Frame*>& frames, Evaluation* const* results) {
  joint_.start(types_, aparam_);
  for (const Frame* frame : frames) {
    joint_.add(*frame, update_list(*frame));
  }
  const Geometry geometry = geometry_of(*frames[0]);
  deepmd_input input;
  deepmd_input_init(&input);
  deepmd_output output;
  deepmd_output_init(&output);
  input.cell = geometry.cell;
  input.pbc = geometry.pbc;
  input.fparam = fparam_.empty() ? nullptr : fparam_.data();
  joint_.describe(input, output);
  std::int64_t n_outside = 0;
  output.n_outside = &n_outside;
  if (deepmd_evaluate(model_.get(), &input, &output) != DEEPMD_OK) {
    return false;
  }
  report_outside(n_outside);
  for (std::size_t k = 0; k < frames.size(); ++k) {
    joint_.take(k, *results[k]);
  }
  n_evaluated_ += static_cast<std::int64_t>(frames.size());
  return true;
}

// Structures that are all different.
void ModelEvaluator::evaluate_distinct(const std::vector<const Frame*>& frames,
                                       const std::vector<Evaluation*>& results) {
  std::size_t group = 1;
  const auto same_cell = [&](const Frame* frame) { return !periodic_ || frame->cell == frames[0]->cell; };
  if (frames.size() > 1 && std::all_of(frames.begin(), frames.end(), same_cell)) {
    const deepmd_list list = update_list(*frames[0]);
    group = static_cast<std::size_t>(kJointPairs / std::max<std::int64_t>(list.first[list.n_centers], 1));
  }
  for (std::size_t start = 0; start < frames.size();) {
    const std::size_t end = std::min(start + std::max<std::size_t>(group, 1), frames.size());
    const std::vector<const Frame*> part(frames.begin() + static_cast<std::ptrdiff_t>(start),
                                         frames.begin() + static_cast<std::ptrdiff_t>(end));
    const bool done = end - start > 1 && evaluate_joint(part, results.data() + start);
    for (; start < end; ++start) {
      if (!done) {
        evaluate_one(*frames[start], *results[start]);
      }
    }
  }
}

void ModelEvaluator::evaluate(const std::vector<Frame>& frames, std::vector<Evaluation>& results) {
  results.resize(frames.size());
  std::vector<const Frame*> distinct;
  std::vector<Evaluation*> places;
  // i-PI fills up a batch with copies of the last structure.
  const auto is_copy = [&](std::size_t k) { return k > 0 && same_frame(frames[k], frames[k - 1]); };
  for (std::size_t k = 0; k < frames.size(); ++k) {
    if (!is_copy(k)) {
      check_frame(frames[k]);
      distinct.push_back(&frames[k]);
      places.push_back(&results[k]);
    }
  }
  evaluate_distinct(distinct, places);
  for (std::size_t k = 1; k < frames.size(); ++k) {
    if (is_copy(k)) {
      results[k] = results[k - 1];
    }
  }
}

}  // namespace deepmd::ipi
