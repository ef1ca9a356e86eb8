#include "model/deviation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/deviation_math.hpp"

namespace deepmd {
namespace {

// Component c of a group as model k sees it.
struct ValueInGroup {
  const ModelValues& values;
  std::size_t group;
  double operator()(int k, int c) const { return values.of_model[k][group * values.width + static_cast<std::size_t>(c)]; }
};

// What the deviation is counted from: given numbers, or the mean of the models.
struct CenterOfGroup {
  ValueInGroup value;
  const double* center;
  double operator()(int c) const {
    if (center) return center[value.group * value.values.width + static_cast<std::size_t>(c)];
    return mean_over_models(value, value.values.n_models, c);
  }
};

void all_deviations(const ModelValues& values, const double* center, double level, double* deviation) {
  group_deviation(values, center, deviation);
  if (level >= 0) make_relative(values, center, level, deviation);
}

Spread unknown() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return {nan, nan, nan};
}

Spread virial_spread(const FrameOpinions& opinions, double n_counted) {
  if (!opinions.virials) return unknown();
  const auto n_models = static_cast<std::size_t>(opinions.n_models);
  std::vector<double> per_atom(opinions.virials, opinions.virials + 9 * n_models);
  for (double& value : per_atom) value /= n_counted;
  std::vector<const double*> of_model(n_models);
  for (std::size_t k = 0; k < n_models; ++k) of_model[k] = per_atom.data() + 9 * k;
  std::array<double, 9> deviation, truth{};
  for (std::size_t c = 0; c < 9 && opinions.true_virial; ++c) truth[c] = opinions.true_virial[c] / n_counted;
  all_deviations({opinions.n_models, 9, 1, of_model.data()}, opinions.true_virial ? truth.data() : nullptr,
                 opinions.relative_v, deviation.data());
  return spread_of_virial(deviation.data());
}

double energy_deviation(const FrameOpinions& opinions, double n_counted) {
  if (!opinions.energies) return unknown().max;
  std::vector<const double*> of_model(static_cast<std::size_t>(opinions.n_models));
  for (std::size_t k = 0; k < of_model.size(); ++k) of_model[k] = opinions.energies + k;
  double deviation = 0;
  group_deviation({opinions.n_models, 1, 1, of_model.data()}, opinions.true_energy, &deviation);
  return deviation / n_counted;
}

}  // namespace

void model_mean(const ModelValues& values, double* mean) {
  for (std::size_t g = 0; g < values.n_groups; ++g) {
    const CenterOfGroup center{{values, g}, nullptr};
    for (std::size_t c = 0; c < values.width; ++c) mean[g * values.width + c] = center(static_cast<int>(c));
  }
}

void group_deviation(const ModelValues& values, const double* center, double* deviation) {
  for (std::size_t g = 0; g < values.n_groups; ++g) {
    const ValueInGroup value{values, g};
    deviation[g] = distance_from(CenterOfGroup{value, center}, value, values.n_models, static_cast<int>(values.width));
  }
}

void make_relative(const ModelValues& values, const double* center, double level, double* deviation) {
  for (std::size_t g = 0; g < values.n_groups; ++g) {
    deviation[g] = relative_to(CenterOfGroup{{values, g}, center}, static_cast<int>(values.width), level, deviation[g]);
  }
}

Spread spread_of_atoms(const double* deviation, std::size_t n_atoms) {
  if (n_atoms == 0) return {};
  Spread spread{deviation[0], deviation[0], 0};
  for (std::size_t i = 0; i < n_atoms; ++i) {
    spread.max = std::max(spread.max, deviation[i]);
    spread.min = std::min(spread.min, deviation[i]);
    spread.avg += deviation[i];
  }
  spread.avg /= static_cast<double>(n_atoms);
  return spread;
}

Spread spread_of_virial(const double* deviation) {
  double sum = 0;
  for (std::size_t c = 0; c < 9; ++c) sum += deviation[c] * deviation[c];
  return {*std::max_element(deviation, deviation + 9), *std::min_element(deviation, deviation + 9), std::sqrt(sum / 9)};
}

FrameDeviation frame_deviation(const FrameOpinions& opinions, double* atoms) {
  const double n_counted = opinions.n_counted > 0 ? opinions.n_counted : std::max(1.0, static_cast<double>(opinions.n_atoms));
  FrameDeviation result;
  result.force = unknown();
  if (opinions.forces) {
    all_deviations({opinions.n_models, opinions.n_atoms, 3, opinions.forces}, opinions.true_forces, opinions.relative,
                   atoms);
    result.force = spread_of_atoms(atoms, opinions.n_atoms);
  }
  result.virial = virial_spread(opinions, n_counted);
  result.energy = energy_deviation(opinions, n_counted);
  return result;
}

}  // namespace deepmd
