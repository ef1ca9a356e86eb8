#include "model/couple_descriptor.hpp"

#include <algorithm>

namespace deepmd {

double CoupleDescriptor::scale(int a, int b) const {
  const double slots = static_cast<double>(sel[static_cast<std::size_t>(a)]) * sel[static_cast<std::size_t>(b)];
  return slots > 0 ? 1.0 / slots : 0.0;
}

// The length of the angular part is w(r) r / (r + p)^2, which falls from r = p on.
double CoupleDescriptor::largest_product(double shortest) const {
  const double r = std::max(std::min(shortest, cutoff.rcut), cutoff.protection);
  const double length = raw_row(r, cutoff).angular * r / *std::min_element(std_a.begin(), std_a.end());
  return length * length;
}

}  // namespace deepmd
