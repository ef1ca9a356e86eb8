#include <array>
#include <random>
#include <set>

#include "check.hpp"
#include "core/error.hpp"
#include "neighbors/neighbors.hpp"

using deepmd::Cell;
using deepmd::Neighbors;

namespace {

using Row = std::array<int, 5>;  // centre, neighbour, shift

std::multiset<Row> rows_of(const deepmd::NeighborList& list) {
  std::multiset<Row> rows;
  for (std::size_t i = 0; i + 1 < list.first.size(); ++i) {
    for (auto k = static_cast<std::size_t>(list.first[i]); k < static_cast<std::size_t>(list.first[i + 1]); ++k) {
      rows.insert({static_cast<int>(i), list.index[k], list.shift[3 * k], list.shift[3 * k + 1], list.shift[3 * k + 2]});
    }
  }
  return rows;
}

std::multiset<Row> brute_force(const std::vector<double>& r, const double* cell, const int* pbc, double rcut) {
  const int reach = 12, n = static_cast<int>(r.size() / 3);
  std::array<int, 3> most{};
  for (std::size_t a = 0; a < 3; ++a) most[a] = pbc[a] ? reach : 0;
  std::multiset<Row> rows;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      for (int x = -most[0]; x <= most[0]; ++x) {
        for (int y = -most[1]; y <= most[1]; ++y) {
          for (int z = -most[2]; z <= most[2]; ++z) {
            double distance2 = 0;
            for (int b = 0; b < 3; ++b) {
              const double d = r[3 * j + b] - r[3 * i + b] + x * cell[b] + y * cell[3 + b] + z * cell[6 + b];
              distance2 += d * d;
            }
            const bool is_self = i == j && x == 0 && y == 0 && z == 0;
            if (distance2 < rcut * rcut && !is_self) rows.insert({i, j, x, y, z});
          }
        }
      }
    }
  }
  return rows;
}

}  // namespace

TEST(list_equals_brute_force_for_all_boundaries) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> place(-1.0, 2.0), bend(-0.4, 0.4);
  const double rcut = 3.0;
  for (double edge : {1.0, 2.0, 6.5}) {
    for (int mask = 0; mask < 8; ++mask) {
      const int pbc[3] = {mask & 1, (mask >> 1) & 1, (mask >> 2) & 1};
      double cell[9];
      for (int k = 0; k < 9; ++k) cell[k] = edge * ((k % 4 == 0) + (k % 4 == 0 ? 0.3 : 1.0) * bend(generator));
      std::vector<double> r(3 * 6);
      for (std::size_t i = 0; i < r.size(); i += 3) {
        const deepmd::Vec3 s = {place(generator), place(generator), place(generator)};
        for (std::size_t b = 0; b < 3; ++b) r[i + b] = s[0] * cell[b] + s[1] * cell[3 + b] + s[2] * cell[6 + b];
      }
      Neighbors neighbors(rcut, 0.0);
      CHECK(neighbors.update(6, r.data(), cell, pbc));
      CHECK(rows_of(neighbors.list()) == brute_force(r, cell, pbc, rcut));
    }
  }
}

TEST(no_atoms_give_an_empty_list) {
  Neighbors neighbors(3.0, 1.0);
  CHECK(neighbors.update(0, nullptr, nullptr, nullptr));
  CHECK(neighbors.list().first == std::vector<std::int64_t>{0});
  CHECK(!neighbors.update(0, nullptr, nullptr, nullptr));
}

TEST(skin_decides_about_a_new_list) {
  std::vector<double> r = {0, 0, 0, 1, 0, 0, 4.5, 0, 0};
  Neighbors neighbors(3.0, 1.0);
  CHECK(neighbors.update(3, r.data(), nullptr, nullptr));
  r[6] -= 0.49;
  CHECK(!neighbors.update(3, r.data(), nullptr, nullptr));
  r[6] -= 0.02;
  CHECK(neighbors.update(3, r.data(), nullptr, nullptr));
  CHECK(neighbors.list().index.size() == 6);
  CHECK(neighbors.update(2, r.data(), nullptr, nullptr));
}

TEST(stretched_cell_uses_up_the_skin) {
  const std::vector<double> r = {0, 0, 0, 2, 2, 2};
  double cell[9] = {8, 0, 0, 0, 8, 0, 0, 0, 8};
  Neighbors neighbors(3.0, 1.0);
  CHECK(neighbors.update(2, r.data(), cell, nullptr));
  cell[8] *= 1.02;
  CHECK(!neighbors.update(2, r.data(), cell, nullptr));
  cell[8] *= 1.3;
  CHECK(neighbors.update(2, r.data(), cell, nullptr));
}

TEST(hopeless_requests_are_refused) {
  const std::vector<double> r = {0, 0, 0};
  const double thin[9] = {1e-7, 0, 0, 0, 5, 0, 0, 0, 5};
  Neighbors neighbors(3.0, 0.0);
  CHECK_THROWS(neighbors.update(1, r.data(), thin, nullptr), deepmd::Error, "too flat");
  std::vector<double> crowd(3 * 60000, 0.0);
  const double small[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  CHECK_THROWS(neighbors.update(60000, crowd.data(), small, nullptr), deepmd::Error, "check the units");
  CHECK_THROWS(Neighbors(0.0, 0.0), deepmd::Error, "positive cutoff");
}
