#include <limits>

#include "check.hpp"
#include "core/error.hpp"
#include "core/geometry.hpp"
#include "core/type_map.hpp"

using deepmd::Cell;
using deepmd::Error;
using deepmd::make_cell;

TEST(cell_inverse_undoes_the_cell) {
  const double rows[9] = {4.0, 0.3, -0.2, 1.1, 5.0, 0.4, -0.6, 0.2, 6.0};
  const Cell cell = make_cell(rows, nullptr);
  const deepmd::Mat3 unit = deepmd::product(cell.rows, cell.inverse);
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = 0; b < 3; ++b) CHECK_NEAR(unit[a][b], a == b ? 1.0 : 0.0, 1e-14);
  }
}

TEST(heights_of_a_cuboid_are_its_edges) {
  const double rows[9] = {4, 0, 0, 0, 5, 0, 0, 0, 6};
  const Cell cell = make_cell(rows, nullptr);
  for (std::size_t a = 0; a < 3; ++a) CHECK_NEAR(cell.heights[a], 4.0 + double(a), 1e-14);
}

TEST(open_directions_are_completed_to_a_right_handed_frame) {
  const double rows[9] = {4, 1, 0, -1, 5, 1, 7, 7, 7};
  for (int mask = 0; mask < 7; ++mask) {
    const int pbc[3] = {mask & 1, (mask >> 1) & 1, (mask >> 2) & 1};
    const Cell cell = make_cell(rows, pbc);
    CHECK(deepmd::dot(cell.rows[0], deepmd::cross(cell.rows[1], cell.rows[2])) > 0);
    for (std::size_t a = 0; a < 3; ++a) {
      if (pbc[a]) continue;
      CHECK_NEAR(deepmd::norm(cell.rows[a]), 1.0, 1e-14);
      for (std::size_t b = 0; b < 3; ++b) {
        if (b != a) CHECK_NEAR(deepmd::dot(cell.rows[a], cell.rows[b]), 0.0, 1e-13);
      }
    }
  }
}

TEST(impossible_cells_are_refused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double flat[9] = {4, 0, 0, 8, 0, 0, 0, 0, 6}, left[9] = {4, 0, 0, 0, 5, 0, 0, 0, -6};
  const double holey[9] = {4, 0, 0, 0, nan, 0, 0, 0, 6}, empty[9] = {4, 0, 0, 0, 5, 0, 0, 0, 0};
  const int slab[3] = {1, 1, 0}, all[3] = {1, 1, 1};
  CHECK_THROWS(make_cell(flat, nullptr), Error, "singular");
  CHECK_THROWS(make_cell(flat, slab), Error, "singular");
  CHECK_THROWS(make_cell(left, nullptr), Error, "left-handed");
  CHECK_THROWS(make_cell(holey, nullptr), Error, "component 2 of cell vector 2 is nan");
  CHECK_THROWS(make_cell(empty, nullptr), Error, "length 0");
  CHECK_THROWS(make_cell(nullptr, all), Error, "without a cell");
  make_cell(left, slab);   // a left-handed third vector does not matter where it is not a period
  make_cell(empty, slab);
}

TEST(unknown_elements_are_refused_with_the_known_ones) {
  CHECK(deepmd::type_of({"O", "H"}, "H") == 1);
  CHECK_THROWS(deepmd::type_of({"O", "H"}, "h"), Error, "'h', expected one of its type_map: O H");
}
