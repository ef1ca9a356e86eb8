#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace deepmd {

using Vec3 = std::array<double, 3>;
using Mat3 = std::array<Vec3, 3>;

inline double dot(const Vec3& u, const Vec3& v) { return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]; }

inline Vec3 cross(const Vec3& u, const Vec3& v) {
  return {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
}

inline double norm(const Vec3& u) { return std::sqrt(dot(u, u)); }

inline Vec3 scaled(const Vec3& u, double factor) { return {u[0] * factor, u[1] * factor, u[2] * factor}; }

// Row vector times matrix: u . m
inline Vec3 times(const Vec3& u, const Mat3& m) {
  Vec3 result{};
  for (std::size_t b = 0; b < 3; ++b) result[b] = u[0] * m[0][b] + u[1] * m[1][b] + u[2] * m[2][b];
  return result;
}

inline Mat3 product(const Mat3& left, const Mat3& right) {
  return {times(left[0], right), times(left[1], right), times(left[2], right)};
}

// A right-handed frame of three vectors, of which some are periods.
struct Cell {
  Mat3 rows;      // cell vectors; a direction that is not periodic holds a unit vector normal to the periodic ones
  Mat3 inverse;   // fractional coordinates = position . inverse
  Vec3 heights;   // distance between opposite faces, Angstrom
  std::array<bool, 3> periodic;
};

// `cell` [3][3] or null for open boundaries; `pbc` [3] or null, which means periodic wherever there is a cell.
// Throws for non-finite, singular and (if all directions are periodic) left-handed cells. Cell vectors of directions
// that are not periodic are not looked at.
Cell make_cell(const double* cell, const int* pbc);

// Throws if a coordinate is not finite or too large to be meaningful. positions [n_atoms][3]
void check_positions(int n_atoms, const double* positions);

}  // namespace deepmd
