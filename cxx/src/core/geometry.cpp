#include "core/geometry.hpp"

#include "core/error.hpp"

namespace deepmd {
namespace {

// Beyond this a double resolves less than 1e-7 Angstrom, and cell indices still fit into integers.
constexpr double kLargestCoordinate = 1e9;
// |a . (b x c)| / (|a| |b| |c|) below which three vectors count as lying in a plane.
constexpr double kFlatness = 1e-6;

Vec3 any_normal(const Vec3& direction) {
  std::size_t smallest = 0;
  for (std::size_t a = 1; a < 3; ++a) {
    if (std::abs(direction[a]) < std::abs(direction[smallest])) smallest = a;
  }
  Vec3 axis{};
  axis[smallest] = 1.0;
  const Vec3 normal = cross(direction, axis);
  return scaled(normal, 1.0 / norm(normal));
}

// Replaces the rows of directions that are not periodic so that the frame is right-handed and normal to the periods.
void complete(Cell& cell) {
  int n_periodic = 0;
  std::size_t last_periodic = 0, last_open = 0;
  for (std::size_t a = 0; a < 3; ++a) {
    (cell.periodic[a] ? last_periodic : last_open) = a;
    n_periodic += cell.periodic[a];
  }
  if (n_periodic == 0) cell.rows = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  if (n_periodic == 1) {
    const std::size_t next = (last_periodic + 1) % 3, after = (last_periodic + 2) % 3;
    cell.rows[next] = any_normal(cell.rows[last_periodic]);
    const Vec3 third = cross(cell.rows[last_periodic], cell.rows[next]);
    cell.rows[after] = scaled(third, 1.0 / norm(third));
  }
  if (n_periodic == 2) {
    const Vec3 normal = cross(cell.rows[(last_open + 1) % 3], cell.rows[(last_open + 2) % 3]);
    const double length = norm(normal);
    cell.rows[last_open] = length > 0 ? scaled(normal, 1.0 / length) : Vec3{};
  }
}

}  // namespace

Cell make_cell(const double* cell, const int* pbc) {
  Cell result{};
  for (std::size_t a = 0; a < 3; ++a) {
    result.periodic[a] = pbc ? pbc[a] != 0 : cell != nullptr;
    if (!result.periodic[a]) continue;
    if (!cell) throw Error(DEEPMD_ERROR_ARGUMENT, "a periodic direction was asked for without a cell; pass a cell");
    for (std::size_t b = 0; b < 3; ++b) {
      result.rows[a][b] = cell[3 * a + b];
      if (!(std::abs(result.rows[a][b]) <= kLargestCoordinate)) {
        throw Error(DEEPMD_ERROR_GEOMETRY, text("component ", b + 1, " of cell vector ", a + 1, " is ",
                                                result.rows[a][b], ", expected a finite length in Angstrom"));
      }
    }
    if (norm(result.rows[a]) == 0) {
      throw Error(DEEPMD_ERROR_GEOMETRY, text("cell vector ", a + 1, " has length 0 in a periodic direction; pass a "
                                              "cell, or pbc 0 for this direction"));
    }
  }
  complete(result);

  const Mat3& rows = result.rows;
  const Vec3 normal_a = cross(rows[1], rows[2]), normal_b = cross(rows[2], rows[0]), normal_c = cross(rows[0], rows[1]);
  const double volume = dot(rows[0], normal_a);
  if (!(std::abs(volume) > kFlatness * norm(rows[0]) * norm(rows[1]) * norm(rows[2]))) {
    throw Error(DEEPMD_ERROR_GEOMETRY, text("the cell is singular: its volume is ", std::abs(volume),
                                            " Angstrom^3, expected three vectors that do not lie in one plane"));
  }
  if (volume < 0) {
    throw Error(DEEPMD_ERROR_GEOMETRY, text("the cell is left-handed (determinant ", volume, " Angstrom^3), expected a "
                                            "right-handed one; exchange two of its vectors"));
  }
  for (std::size_t a = 0; a < 3; ++a) {
    result.inverse[a] = {normal_a[a] / volume, normal_b[a] / volume, normal_c[a] / volume};
  }
  result.heights = {volume / norm(normal_a), volume / norm(normal_b), volume / norm(normal_c)};
  return result;
}

void check_positions(int n_atoms, const double* positions) {
  for (std::size_t k = 0; k < 3 * static_cast<std::size_t>(n_atoms); ++k) {
    if (std::abs(positions[k]) <= kLargestCoordinate) continue;
    throw Error(DEEPMD_ERROR_GEOMETRY,
                text("coordinate ", "xyz"[k % 3], " of atom ", k / 3 + 1, " is ", positions[k],
                     " Angstrom, expected a finite number below 1e9; the simulation may have blown up"));
  }
}

}  // namespace deepmd
