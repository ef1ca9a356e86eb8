#include "model/pair_descriptor.hpp"

#include <algorithm>
#include <numeric>

namespace deepmd {
namespace {

constexpr double kRadialScale = 5.0;  // a constant of se_e2_r

// Switch w and raw entry s = w x at x = 1 / (r + p), each with two derivatives by x; zero beyond the cutoff.
struct RadialJet {
  double w[3], s[3];
};

RadialJet radial_jet(double x, const Cutoff& cutoff) {
  const double r = x * (cutoff.rcut + cutoff.protection) > 1.0 ? 1.0 / x - cutoff.protection : cutoff.rcut;
  double w, w1;
  switch_function(r, cutoff, w, w1);
  const double inverse = 1.0 / (cutoff.rcut - cutoff.rcut_smth);
  const double u = std::min(std::max((r - cutoff.rcut_smth) * inverse, 0.0), 1.0);
  const double w2 = u * (u * (180.0 - 120.0 * u) - 60.0) * inverse * inverse;
  const double r1 = -1.0 / (x * x), r2 = -2.0 * r1 / x;
  RadialJet jet;
  jet.w[0] = w;
  jet.w[1] = w1 * r1;
  jet.w[2] = w2 * r1 * r1 + w1 * r2;
  jet.s[0] = w * x;
  jet.s[1] = jet.w[1] * x + w;
  jet.s[2] = jet.w[2] * x + 2.0 * jet.w[1];
  return jet;
}

// G = N(e(x)) (1 + f w(x)); the networks are two-sided, so that k tells the centre's type.
void evaluate_by_inverse(const PairDescriptor& d, int k, int n, const double* x, double* g, double* g1, double* g2) {
  const int t_i = k % d.n_types;
  const std::vector<double>& f = d.factors[static_cast<std::size_t>(k)];
  const auto width = static_cast<std::size_t>(d.width);
  std::vector<RadialJet> jets;
  std::vector<double> e, value(static_cast<std::size_t>(n) * width), slope(value.size()), bend(value.size());
  for (int p = 0; p < n; ++p) {
    jets.push_back(radial_jet(x[p], d.cutoff));
    e.push_back((jets.back().s[0] - d.davg_r[t_i]) / d.std_r[t_i]);
  }
  evaluate_curve(d.embedding[static_cast<std::size_t>(k)], n, e.data(), value.data(), slope.data(), bend.data());
  for (std::size_t p = 0; p < e.size(); ++p) {
    const RadialJet& jet = jets[p];
    const double e1 = jet.s[1] / d.std_r[t_i], e2 = jet.s[2] / d.std_r[t_i];
    for (std::size_t m = 0; m < width; ++m) {
      const std::size_t at = p * width + m;
      const double factor = 1.0 + f[m] * jet.w[0];
      const double n1 = slope[at] * e1, n2 = bend[at] * e1 * e1 + slope[at] * e2;  // derivatives of N by x
      g[at] = value[at] * factor;
      if (g1) g1[at] = n1 * factor + value[at] * f[m] * jet.w[1];
      if (g2) g2[at] = n2 * factor + 2.0 * n1 * f[m] * jet.w[1] + value[at] * f[m] * jet.w[2];
    }
  }
}

}  // namespace

double PairDescriptor::scale() const {
  const double n_slots = std::accumulate(sel.begin(), sel.end(), 0.0);
  return kind == RowKind::radial ? 1.0 / (kRadialScale * n_slots) : 1.0 / (n_slots * n_slots);
}

void evaluate_pair_curve(const PairDescriptor& descriptor, int k, int n, const double* argument, double* g, double* g1,
                         double* g2) {
  if (descriptor.kind == RowKind::by_inverse) return evaluate_by_inverse(descriptor, k, n, argument, g, g1, g2);
  evaluate_curve(descriptor.embedding[static_cast<std::size_t>(k)], n, argument, g, g1, g2);
}

}  // namespace deepmd
