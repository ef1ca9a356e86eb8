#include <algorithm>

#include "check.hpp"
#include "core/error.hpp"
#include "model/pair_blocks.hpp"
#include "neighbors/neighbors.hpp"

using deepmd::Frame;
using deepmd::PairBlock;
using deepmd::PairBlocks;

namespace {

// A row of atoms 1 Angstrom apart in a periodic cell, types 0 1 0 1 ..., with a list out to `radius`.
struct Chain {
  Chain(int n, double radius) : positions(3 * static_cast<std::size_t>(n)), neighbors(radius, 0.0) {
    for (int i = 0; i < n; ++i) {
      positions[3 * static_cast<std::size_t>(i)] = i;
      types.push_back(i % 2);
    }
    cell[0] = n;
    neighbors.update(n, positions.data(), cell, nullptr);
    frame.n_local = n;
    frame.positions = positions.data();
    frame.types = types.data();
    frame.cell = cell;
    frame.list = deepmd::ListView(neighbors.list());
  }
  double cell[9] = {0, 0, 0, 0, 20, 0, 0, 0, 20};
  std::vector<double> positions;
  std::vector<int> types;
  deepmd::Neighbors neighbors;
  Frame frame;
};

}  // namespace

TEST(neighbours_are_numbered_by_their_owners_and_ghost_centres_are_not_counted) {
  // Two atoms and a ghost of the first at 2 Angstrom; every atom has a row.
  const double positions[9] = {0, 0, 0, 1, 0, 0, 2, 0, 0};
  const int types[3] = {0, 1, 0}, index[4] = {1, 0, 2, 1}, owners[3] = {0, 1, 0};
  const std::int64_t first[4] = {0, 1, 3, 4};
  Frame frame;
  frame.n_local = 2, frame.n_ghost = 1, frame.positions = positions, frame.types = types;
  frame.list = deepmd::ListView(3, first, index, nullptr);
  PairBlocks blocks(1.5, 1000);
  PairBlock block;
  blocks.start(frame);
  CHECK(blocks.next(block) && block.n_centers == 3 && block.n_counted == 2 && block.n_pairs() == 4);
  CHECK(block.neighbors == (std::vector<std::int64_t>{1, 0, 2, 1}) && block.members == (std::vector<int>{0, 1, 2}));
  frame.list = deepmd::ListView(2, first, index, nullptr);
  frame.list.owners = owners;
  blocks.start(frame);
  CHECK(blocks.next(block) && block.n_centers == 2 && block.n_counted == 2 && block.n_pairs() == 3);
  CHECK(block.neighbors == (std::vector<std::int64_t>{1, 0, 0}) && block.atoms == (std::vector<int>{1, 0, 2}));
  CHECK(block.types.size() == 2 && block.vectors[6] == 1.0);
}

TEST(blocks_cover_all_pairs_inside_the_cutoff) {
  Chain chain(10, 3.5);
  for (std::int64_t most : {1, 7, 20, 1000}) {
    PairBlocks blocks(2.5, most);
    blocks.start(chain.frame);
    PairBlock block;
    std::size_t n_pairs = 0;
    int next = 0;
    while (blocks.next(block)) {
      CHECK(block.first_center == next);
      next += block.n_centers;
      n_pairs += block.n_pairs();
      CHECK(std::is_sorted(block.centers.begin(), block.centers.end()));
      for (std::size_t k = 0; k < block.n_pairs(); ++k) {
        const auto number = static_cast<std::size_t>(block.neighbors[k]);
        CHECK(number < block.types.size());
        CHECK(block.types[number] == chain.types[static_cast<std::size_t>(block.atoms[k])]);
        CHECK(block.centers[k] < block.n_centers);
        CHECK(std::abs(block.vectors[3 * k]) < 2.5);
      }
      CHECK(block.types[0] == chain.types[static_cast<std::size_t>(block.first_center)]);
    }
    CHECK(next == 10);
    CHECK(n_pairs == 40);
  }
}

TEST(frame_without_centres_has_no_blocks) {
  Frame frame;
  const std::int64_t first[1] = {0};
  frame.list = deepmd::ListView(0, first, nullptr, nullptr);
  PairBlocks blocks(2.5, 10);
  PairBlock block;
  blocks.start(frame);
  CHECK(!blocks.next(block));
}

TEST(sums_have_the_stated_signs) {
  Chain chain(10, 1.5);
  PairBlocks blocks(1.5, 1000);
  PairBlock block;
  blocks.start(chain.frame);
  CHECK(blocks.next(block));
  // A gradient along x on one pair only: centre i, neighbour j.
  std::vector<double> gradient(3 * block.n_pairs(), 0.0), atom_energy(10, 0.5), forces(30), virial(9), w(90);
  const std::size_t k = 5;
  gradient[3 * k] = 2.0;
  double energy;
  const deepmd::Result result = {&energy, forces.data(), virial.data(), nullptr, w.data()};
  deepmd::clear_result(chain.frame, result);
  deepmd::add_block(block, atom_energy.data(), gradient.data(), result);
  CHECK_NEAR(energy, 5.0, 1e-15);
  CHECK_NEAR(forces[3 * static_cast<std::size_t>(block.centers[k])], 2.0, 1e-15);
  CHECK_NEAR(forces[3 * static_cast<std::size_t>(block.atoms[k])], -2.0, 1e-15);
  CHECK_NEAR(virial[0], -2.0 * block.vectors[3 * k], 1e-15);
  CHECK_NEAR(w[9 * static_cast<std::size_t>(block.atoms[k])], virial[0], 1e-15);
}

TEST(close_pairs_are_refused_by_name) {
  Chain chain(10, 1.5);
  chain.positions[3 * 4] = 4.98;
  PairBlocks blocks(1.5, 1000);
  PairBlock block;
  blocks.start(chain.frame);
  CHECK_THROWS(blocks.next(block), deepmd::Error, "atom 5 and atom 6 are 0.02 Angstrom apart");
}
