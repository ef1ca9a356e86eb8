#pragma once

#include <vector>

#include "core/aligned_vector.hpp"
#include "kernels/environment.hpp"
#include "kernels/filter.hpp"
#include "model/energy_tree.hpp"
#include "model/frame.hpp"

namespace deepmd {

// Neighbours of one type of one centre: entries [begin, begin + n) of the pair arrays, filled up to a multiple of kPad.
struct NeighborRun {
  std::size_t begin = 0;
  int n = 0;
  int n_counted = 0;  // neighbours that use up slots: n, or more where the descriptor excludes the pair of types
};

// The neighbours of a block of centres. Models with the same rules share it.
struct BlockPairs {
  int m = 0;  // centres
  PairGeometry geometry;
  std::vector<NeighborRun> runs;    // [m][n_types]
  std::vector<std::size_t> first;   // [m + 1] entries of each centre

  std::size_t end() const { return first[m]; }
  std::size_t bytes() const;
};

// Which pairs a descriptor of a model knows.
struct PairRules {
  template <class Descriptor>
  PairRules(const EnergyTree& tree, const Descriptor& descriptor)
      : rcut(descriptor.cutoff.rcut), n_types(tree.n_types), exists(tree.pair_keep), is_kept(descriptor.keep) {}
  bool operator==(const PairRules& other) const {
    return rcut == other.rcut && n_types == other.n_types && exists == other.exists && is_kept == other.is_kept;
  }

  double rcut;
  int n_types;
  std::vector<char> exists;   // [n_types][n_types] (centre, neighbour), else the pair is left out altogether
  std::vector<char> is_kept;  // else its row is zero, but it counts as a neighbour
};

// Filters the lists of centres to the cutoff and sorts them by neighbour type.
class PairCollector {
 public:
  PairCollector(const PairRules& rules, FilterKernel filter);

  // atoms [m]. Throws DEEPMD_ERROR_GEOMETRY if a pair is too close.
  void collect(const Frame& frame, const int* atoms, int m, BlockPairs& pairs);
  std::size_t bytes() const;

 private:
  int filter(const Frame& frame, int i);
  std::size_t sort_by_type(const Frame& frame, int i, int n, std::size_t end, PairGeometry& pairs, NeighborRun* runs);

  PairRules rules_;
  FilterKernel kernel_;
  aligned_vector<int> neighbor_, type_;
  aligned_vector<double> x_, y_, z_, r2_;
  std::vector<std::size_t> cursor_;  // [n_types]
};

}  // namespace deepmd
