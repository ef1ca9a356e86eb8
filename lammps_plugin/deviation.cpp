#include "deviation.hpp"

#include <algorithm>
#include <cmath>

namespace deepmd {

double force_deviation(const double* forces, std::size_t stride, int n_models, const RelativeLevel& relative) {
  double variance = 0.0, norm2 = 0.0;
  for (int a = 0; a < 3; ++a) {
    double mean = 0.0;
    for (int k = 0; k < n_models; ++k) mean += forces[k * stride + a];
    mean /= n_models;
    norm2 += mean * mean;
    for (int k = 0; k < n_models; ++k) {
      const double difference = forces[k * stride + a] - mean;
      variance += difference * difference;
    }
  }
  const double deviation = std::sqrt(variance / n_models);
  return relative.on ? deviation / (std::sqrt(norm2) + relative.level) : deviation;
}

Spread virial_deviation(const double* virials, int n_models, const RelativeLevel& relative) {
  Spread spread;
  double sum = 0.0;
  for (int c = 0; c < 9; ++c) {
    double mean = 0.0, variance = 0.0;
    for (int k = 0; k < n_models; ++k) mean += virials[9 * k + c];
    mean /= n_models;
    for (int k = 0; k < n_models; ++k) variance += (virials[9 * k + c] - mean) * (virials[9 * k + c] - mean);
    double deviation = std::sqrt(variance / n_models);
    if (relative.on) deviation /= std::fabs(mean) + relative.level;
    spread.max = c == 0 ? deviation : std::max(spread.max, deviation);
    spread.min = c == 0 ? deviation : std::min(spread.min, deviation);
    sum += deviation * deviation;
  }
  spread.avg = std::sqrt(sum / 9.0);
  return spread;
}

}  // namespace deepmd
