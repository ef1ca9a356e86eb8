#pragma once

#include <cstdint>
#include <vector>

#include "model/frame.hpp"

namespace deepmd {

// Two atoms closer than this are an error in the input, not physics (Angstrom).
constexpr double kClosestPair = 0.05;

// Consecutive centres with their pairs inside the cutoff. Atoms are numbered anew: the centres come first, then the
// other atoms that they see, so that a block costs what it holds, not what the frame holds.
struct PairBlock {
  int first_center = 0;  // of the frame
  int n_centers = 0;
  int n_counted = 0;     // so many of them are local atoms; the others, if any, are ghosts that only pass messages
  std::vector<double> vectors;          // [n_pairs][3] r_ij, Angstrom
  std::vector<std::int64_t> centers;    // [n_pairs] block numbers, ascending
  std::vector<std::int64_t> neighbors;  // [n_pairs] block numbers
  std::vector<int> atoms;               // [n_pairs] the neighbour's number in the frame
  std::vector<std::int64_t> types;      // [atoms of the block]
  std::vector<int> members;             // [atoms of the block] their numbers in the frame

  std::size_t n_pairs() const { return atoms.size(); }
};

// Cuts a frame into blocks of at most about `most_pairs` listed pairs (one centre at least); buffers are reused.
class PairBlocks {
 public:
  PairBlocks(double rcut, std::int64_t most_pairs) : rcut_(rcut), most_pairs_(most_pairs) {}

  void start(const Frame& frame);
  // Fills the next block; false when all centres have been visited. Throws DEEPMD_ERROR_GEOMETRY for a pair that is
  // too close and names both atoms.
  bool next(PairBlock& block);

 private:
  void add_pair(int i, std::int64_t k, PairBlock& block);
  std::int64_t number_in_block(int atom, PairBlock& block);

  double rcut_;
  std::int64_t most_pairs_;
  const Frame* frame_ = nullptr;
  int next_center_ = 0;
  std::vector<std::int64_t> number_;  // [n_all] number in the current block, valid where block_of_ is current
  std::vector<int> block_of_;         // [n_all]
  int current_ = 0;
};

// Throws DEEPMD_ERROR_GEOMETRY for the first pair on the list, in its order, that is too close; does nothing if there is
// none.
void refuse_close_pairs(const Frame& frame);

// Zeroes the wanted results.
void clear_result(const Frame& frame, const Result& result);

// Adds a block's answers. atom_energy [n_counted], pair_gradient [n_pairs][3] = dE/dr_ij.
void add_block(const PairBlock& block, const double* atom_energy, const double* pair_gradient, const Result& result);

// Adds the derivatives only; the gradients of consecutive pairs stand `stride` numbers apart.
void add_gradient(const PairBlock& block, const double* pair_gradient, std::size_t stride, const Result& result);

// Throws DEEPMD_ERROR_NONFINITE if a wanted result holds NaN or infinity.
void check_finite(const Frame& frame, const Result& result);
void check_finite(const Frame& frame, const OutputResult& result, std::size_t width);

}  // namespace deepmd
