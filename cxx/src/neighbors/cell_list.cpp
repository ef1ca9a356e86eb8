#include "neighbors/cell_list.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.hpp"

namespace deepmd {
namespace {

using Int3 = std::array<std::int64_t, 3>;

constexpr double kBinsPerRadius = 1.0;   // finer bins hold fewer candidates, but lose more to short loops
constexpr double kRounding = 1.0 + 1e-10;
constexpr double kMostBins = 1 << 20;    // per direction
constexpr double kMostImages = 1e8;      // image bins around one bin
constexpr double kMostPairs = 4e9;       // in one list

// How space is cut: n bins per period (0 where there is no period), `reach` bins to look at on either side.
struct Grid {
  Int3 n_bins;
  Vec3 bins_per_fraction;
  Int3 reach;
};

Grid make_grid(int n_atoms, const Cell& cell, double radius) {
  Grid grid{};
  double n_images = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    const double wanted = kBinsPerRadius * cell.heights[a] / (radius * kRounding);
    const double n_bins = cell.periodic[a] ? std::clamp(std::floor(wanted), 1.0, kMostBins) : wanted;
    grid.n_bins[a] = cell.periodic[a] ? static_cast<std::int64_t>(n_bins) : 0;
    grid.bins_per_fraction[a] = n_bins;
    const double reach = std::ceil(radius * kRounding * n_bins / cell.heights[a] - 1e-12);
    n_images *= 2 * reach + 1;
    if (n_images > kMostImages) {
      throw Error(DEEPMD_ERROR_GEOMETRY,
                  text("the cell is too flat: its faces ", a + 1, " are ", cell.heights[a], " Angstrom apart while the ",
                       "cutoff is ", radius, "; pass a reduced cell"));
    }
    grid.reach[a] = static_cast<std::int64_t>(reach);
  }
  const double volume = dot(cell.rows[0], cross(cell.rows[1], cell.rows[2]));
  const double sphere = 4.0 / 3.0 * 3.14159265358979 * radius * radius * radius;
  const double expected = double(n_atoms) * n_atoms * sphere / volume;
  if (cell.periodic[0] && cell.periodic[1] && cell.periodic[2] && expected > kMostPairs) {
    throw Error(DEEPMD_ERROR_GEOMETRY, text(n_atoms, " atoms in a cell of ", volume, " Angstrom^3 have about ", expected,
                                            " neighbours, expected fewer than ", kMostPairs,
                                            "; check the units of the cell"));
  }
  return grid;
}

// Occupied bins, found by their three indices: open addressing, at most half full.
class BinTable {
 public:
  explicit BinTable(int n_atoms) {
    std::size_t capacity = 16;
    while (capacity < 2 * static_cast<std::size_t>(n_atoms)) capacity *= 2;
    slots_.assign(capacity, -1);
  }
  int find(const Int3& bin) const { return slots_[slot_of(bin)]; }
  int find_or_add(const Int3& bin) {
    int& slot = slots_[slot_of(bin)];
    if (slot < 0) {
      slot = static_cast<int>(bins_.size());
      bins_.push_back(bin);
    }
    return slot;
  }
  const std::vector<Int3>& bins() const { return bins_; }

 private:
  static bool are_equal(const Int3& u, const Int3& v) { return u[0] == v[0] && u[1] == v[1] && u[2] == v[2]; }
  std::size_t slot_of(const Int3& bin) const {
    std::uint64_t hash = 0;
    for (std::int64_t c : bin) {  // a step of the splitmix64 generator per index
      hash += static_cast<std::uint64_t>(c) + 0x9e3779b97f4a7c15ULL;
      hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9ULL;
      hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebULL;
    }
    std::size_t slot = (hash ^ (hash >> 31)) & (slots_.size() - 1);
    while (slots_[slot] >= 0 && !are_equal(bins_[static_cast<std::size_t>(slots_[slot])], bin)) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }
  std::vector<int> slots_;
  std::vector<Int3> bins_;
};

// Atoms sorted by bin, moved into the cell.
struct SortedAtoms {
  std::vector<double> x, y, z;            // [n_atoms] of the wrapped atoms
  std::vector<int> atom;                  // [n_atoms] original index
  std::vector<std::array<int, 3>> wraps;  // [n_atoms] periods taken off the original position
  std::vector<int> bin_first;             // [n_bins + 1]
};

SortedAtoms sort_atoms(int n_atoms, const double* positions, const Cell& cell, const Grid& grid, BinTable& table) {
  const std::size_t n = static_cast<std::size_t>(n_atoms);
  std::vector<int> bin_of(n);
  std::vector<std::array<int, 3>> wraps(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Vec3 fraction = times({positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]}, cell.inverse);
    Int3 bin{};
    for (std::size_t a = 0; a < 3; ++a) {
      const double wrap = cell.periodic[a] ? std::floor(fraction[a]) : 0.0;
      if (!(std::abs(wrap) < 1e9)) {
        throw Error(DEEPMD_ERROR_GEOMETRY, text("atom ", i + 1, " lies ", wrap, " periods away from the cell; wrap it"));
      }
      wraps[i][a] = static_cast<int>(wrap);
      bin[a] = static_cast<std::int64_t>(std::floor((fraction[a] - wrap) * grid.bins_per_fraction[a]));
      if (cell.periodic[a]) bin[a] = std::min(bin[a], grid.n_bins[a] - 1);  // a fraction may round up to 1
    }
    bin_of[i] = table.find_or_add(bin);
  }

  SortedAtoms sorted;
  sorted.bin_first.assign(table.bins().size() + 1, 0);
  for (int bin : bin_of) ++sorted.bin_first[static_cast<std::size_t>(bin) + 1];
  std::partial_sum(sorted.bin_first.begin(), sorted.bin_first.end(), sorted.bin_first.begin());
  std::vector<int> next(sorted.bin_first.begin(), sorted.bin_first.end() - 1);
  sorted.x.resize(n), sorted.y.resize(n), sorted.z.resize(n), sorted.atom.resize(n), sorted.wraps.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t p = static_cast<std::size_t>(next[static_cast<std::size_t>(bin_of[i])]++);
    const Vec3 back = times({double(wraps[i][0]), double(wraps[i][1]), double(wraps[i][2])}, cell.rows);
    sorted.x[p] = positions[3 * i] - back[0];
    sorted.y[p] = positions[3 * i + 1] - back[1];
    sorted.z[p] = positions[3 * i + 2] - back[2];
    sorted.atom[p] = static_cast<int>(i);
    sorted.wraps[p] = wraps[i];
  }
  return sorted;
}

// A bin, or an image of it, near the one in hand: its atoms and the lattice translation to add to them.
struct NearBin {
  std::size_t begin, end;
  std::array<int, 3> periods;
  Vec3 translation;
};

std::int64_t floor_divide(std::int64_t number, std::int64_t divisor) {
  return number >= 0 ? number / divisor : -((-number + divisor - 1) / divisor);
}

class PairSearch {
 public:
  PairSearch(const Cell& cell, const Grid& grid, const BinTable& table, const SortedAtoms& atoms, double radius)
      : cell_(cell), grid_(grid), table_(table), atoms_(atoms), radius2_(radius * radius) {}

  // first[i + 1] becomes the number of neighbours of atom i.
  void count(std::vector<std::int64_t>& first) {
    for (std::size_t b = 0; b < table_.bins().size(); ++b) {
      collect(table_.bins()[b]);
      for (std::size_t p = begin(b); p < begin(b + 1); ++p) {
        std::int64_t n = -1;  // the atom itself is among the candidates once
        for (const NearBin& near : near_) n += count_in(near, p);
        first[static_cast<std::size_t>(atoms_.atom[p]) + 1] = n;
      }
    }
  }

  void fill(NeighborList& list) {
    for (std::size_t b = 0; b < table_.bins().size(); ++b) {
      collect(table_.bins()[b]);
      for (std::size_t p = begin(b); p < begin(b + 1); ++p) {
        auto slot = static_cast<std::size_t>(list.first[static_cast<std::size_t>(atoms_.atom[p])]);
        for (const NearBin& near : near_) slot = fill_from(near, p, slot, list);
      }
    }
  }

 private:
  std::size_t begin(std::size_t bin) const { return static_cast<std::size_t>(atoms_.bin_first[bin]); }

  void collect(const Int3& bin) {
    near_.clear();
    Int3 d{};
    for (d[0] = -grid_.reach[0]; d[0] <= grid_.reach[0]; ++d[0]) {
      for (d[1] = -grid_.reach[1]; d[1] <= grid_.reach[1]; ++d[1]) {
        for (d[2] = -grid_.reach[2]; d[2] <= grid_.reach[2]; ++d[2]) add(bin, d);
      }
    }
  }

  void add(const Int3& bin, const Int3& offset) {
    NearBin near{};
    Int3 target{};
    for (std::size_t a = 0; a < 3; ++a) {
      target[a] = bin[a] + offset[a];
      if (!cell_.periodic[a]) continue;
      const std::int64_t period = floor_divide(target[a], grid_.n_bins[a]);
      near.periods[a] = static_cast<int>(period);
      target[a] -= period * grid_.n_bins[a];
    }
    const int found = table_.find(target);
    if (found < 0) return;
    near.begin = begin(static_cast<std::size_t>(found));
    near.end = begin(static_cast<std::size_t>(found) + 1);
    near.translation = times({double(near.periods[0]), double(near.periods[1]), double(near.periods[2])}, cell_.rows);
    near_.push_back(near);
  }

  // Square of the distance from atom p to the candidate q of a bin, over arrays that the compiler may keep in registers.
  struct Distance2 {
    const double *x, *y, *z;
    double x0, y0, z0;
    double operator()(std::size_t q) const {
      const double dx = x[q] - x0, dy = y[q] - y0, dz = z[q] - z0;
      return dx * dx + dy * dy + dz * dz;
    }
  };
  Distance2 distance_from(std::size_t p, const Vec3& t) const {
    return {atoms_.x.data(), atoms_.y.data(), atoms_.z.data(), atoms_.x[p] - t[0], atoms_.y[p] - t[1],
            atoms_.z[p] - t[2]};
  }

  std::int64_t count_in(const NearBin& near, std::size_t p) const {
    const Distance2 distance2 = distance_from(p, near.translation);
    const double limit = radius2_;
    std::int64_t n = 0;
    for (std::size_t q = near.begin; q < near.end; ++q) n += distance2(q) < limit ? 1 : 0;
    return n;
  }

  std::size_t fill_from(const NearBin& near, std::size_t p, std::size_t slot, NeighborList& list) {
    // Written without a branch on the distance, which the processor could not predict.
    const Distance2 distance2 = distance_from(p, near.translation);
    const double limit = radius2_;
    if (hits_.size() < near.end - near.begin) hits_.resize(near.end - near.begin);
    std::size_t* const hits = hits_.data();
    std::size_t n_hits = 0;
    for (std::size_t q = near.begin; q < near.end; ++q) {
      hits[n_hits] = q;
      n_hits += distance2(q) < limit ? 1 : 0;
    }
    const bool is_home = near.periods == std::array<int, 3>{};
    for (std::size_t hit = 0; hit < n_hits; ++hit) {
      const std::size_t q = hits[hit];
      if (is_home && q == p) continue;
      list.index[slot] = atoms_.atom[q];
      for (std::size_t a = 0; a < 3; ++a) {
        list.shift[3 * slot + a] = near.periods[a] + atoms_.wraps[p][a] - atoms_.wraps[q][a];
      }
      ++slot;
    }
    return slot;
  }

  const Cell& cell_;
  const Grid& grid_;
  const BinTable& table_;
  const SortedAtoms& atoms_;
  double radius2_;
  std::vector<NearBin> near_;
  std::vector<std::size_t> hits_;
};

}  // namespace

void build_cell_list(int n_atoms, const double* positions, const Cell& cell, double radius, NeighborList& list) {
  list.first.assign(static_cast<std::size_t>(n_atoms) + 1, 0);
  list.index.clear();
  list.shift.clear();
  if (n_atoms == 0) return;

  const Grid grid = make_grid(n_atoms, cell, radius);
  BinTable table(n_atoms);
  const SortedAtoms atoms = sort_atoms(n_atoms, positions, cell, grid, table);
  PairSearch search(cell, grid, table, atoms, radius);
  search.count(list.first);
  std::partial_sum(list.first.begin(), list.first.end(), list.first.begin());
  const auto n_pairs = static_cast<std::size_t>(list.first.back());
  list.index.resize(n_pairs);
  list.shift.resize(3 * n_pairs);
  search.fill(list);
}

}  // namespace deepmd
