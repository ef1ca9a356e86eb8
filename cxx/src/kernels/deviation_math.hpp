// How far several models disagree about one group of numbers, such as a force: the one home of these formulas, for the host
// (model/deviation.hpp says what they mean) and for GPUs.
#pragma once

#include <cmath>

#include "kernels/pair_math.hpp"

namespace deepmd {

// value(k, c) is component c as model k sees it. The mean is counted from the first model, so that the mean of equal values is
// that value to the last bit.
template <class Value>
DEEPMD_HD inline double mean_over_models(const Value& value, int n_models, int c) {
  const double first = value(0, c);
  double sum = 0;
  for (int k = 1; k < n_models; ++k) sum += value(k, c) - first;
  return first + sum / n_models;
}

// Root mean square over the models of the distance from center(c).
template <class Value, class Center>
DEEPMD_HD inline double distance_from(const Center& center, const Value& value, int n_models, int width) {
  double sum = 0;
  for (int c = 0; c < width; ++c) {
    const double from = center(c);
    for (int k = 0; k < n_models; ++k) {
      const double difference = value(k, c) - from;
      sum += difference * difference;
    }
  }
  return sqrt(sum / n_models);
}

// A deviation divided by (|center| + level); zero stays zero.
template <class Center>
DEEPMD_HD inline double relative_to(const Center& center, int width, double level, double deviation) {
  double norm2 = 0;
  for (int c = 0; c < width; ++c) norm2 += center(c) * center(c);
  return deviation != 0 ? deviation / (sqrt(norm2) + level) : deviation;
}

}  // namespace deepmd
