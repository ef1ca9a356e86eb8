#include "model/pair_blocks.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace deepmd {
namespace {

std::string describe_neighbor(const Frame& frame, int j, const int* shift) {
  if (j >= frame.n_local) return text("atom ", j + 1, " (a ghost)");
  const bool is_image = shift && (shift[0] != 0 || shift[1] != 0 || shift[2] != 0);
  return text(is_image ? "a periodic image of atom " : "atom ", j + 1);
}

[[noreturn]] void refuse_close_pair(const Frame& frame, int i, std::int64_t k, double distance) {
  const int* shift = frame.list.shift ? frame.list.shift + 3 * k : nullptr;
  throw Error(DEEPMD_ERROR_GEOMETRY,
              text("atom ", i + 1, " and ", describe_neighbor(frame, frame.list.index[k], shift), " are ", distance,
                   " Angstrom apart, expected at least ", kClosestPair, "; check the positions, the cell and the units"));
}

// r_j + shift . cell - r_i of entry k of the list.
Vec3 pair_vector(const Frame& frame, int i, std::int64_t k) {
  const double* from = frame.positions + 3 * static_cast<std::size_t>(i);
  const double* to = frame.positions + 3 * static_cast<std::size_t>(frame.list.index[k]);
  Vec3 r = {to[0] - from[0], to[1] - from[1], to[2] - from[2]};
  if (const int* shift = frame.list.shift) {
    shift += 3 * k;
    for (int a = 0; a < 3; ++a) {
      if (shift[a] == 0) continue;
      for (std::size_t b = 0; b < 3; ++b) r[b] += shift[a] * frame.cell[3 * static_cast<std::size_t>(a) + b];
    }
  }
  return r;
}

}  // namespace

void refuse_close_pairs(const Frame& frame) {
  for (int i = 0; i < frame.list.n_centers; ++i) {
    for (std::int64_t k = frame.list.first[i]; k < frame.list.first[i + 1]; ++k) {
      const Vec3 r = pair_vector(frame, i, k);
      if (dot(r, r) < kClosestPair * kClosestPair) refuse_close_pair(frame, i, k, std::sqrt(dot(r, r)));
    }
  }
}

void PairBlocks::start(const Frame& frame) {
  frame_ = &frame;
  next_center_ = 0;
  current_ = 0;
  number_.resize(frame.n_all());
  block_of_.assign(frame.n_all(), 0);
}

bool PairBlocks::next(PairBlock& block) {
  const ListView& list = frame_->list;
  if (next_center_ >= list.n_centers) return false;
  const int begin = next_center_;
  int end = begin + 1;
  while (end < list.n_centers && list.first[end + 1] - list.first[begin] <= most_pairs_) ++end;
  next_center_ = end;
  ++current_;

  block.first_center = begin;
  block.n_centers = end - begin;
  block.n_counted = std::max(0, std::min(end, frame_->n_local) - begin);
  block.vectors.clear(), block.centers.clear(), block.neighbors.clear(), block.atoms.clear(), block.types.clear();
  block.members.clear();
  for (int i = begin; i < end; ++i) number_in_block(i, block);
  for (int i = begin; i < end; ++i) {
    for (std::int64_t k = list.first[i]; k < list.first[i + 1]; ++k) add_pair(i, k, block);
  }
  return true;
}

void PairBlocks::add_pair(int i, std::int64_t k, PairBlock& block) {
  const int j = frame_->list.index[k];
  const Vec3 r = pair_vector(*frame_, i, k);
  const double distance2 = dot(r, r);
  if (!(distance2 < rcut_ * rcut_)) return;
  if (distance2 < kClosestPair * kClosestPair) refuse_close_pair(*frame_, i, k, std::sqrt(distance2));
  block.vectors.insert(block.vectors.end(), r.begin(), r.end());
  block.centers.push_back(i - block.first_center);
  block.neighbors.push_back(number_in_block(frame_->list.owners ? frame_->list.owners[j] : j, block));
  block.atoms.push_back(j);
}

std::int64_t PairBlocks::number_in_block(int atom, PairBlock& block) {
  const auto k = static_cast<std::size_t>(atom);
  if (block_of_[k] != current_) {
    block_of_[k] = current_;
    number_[k] = static_cast<std::int64_t>(block.types.size());
    block.types.push_back(frame_->types[k]);
    block.members.push_back(atom);
  }
  return number_[k];
}

void clear_result(const Frame& frame, const Result& result) {
  if (result.energy) *result.energy = 0;
  if (result.forces) std::fill_n(result.forces, 3 * frame.n_all(), 0.0);
  if (result.virial) std::fill_n(result.virial, 9, 0.0);
  if (result.atom_energy) std::fill_n(result.atom_energy, frame.n_local, 0.0);
  if (result.atom_virial) std::fill_n(result.atom_virial, 9 * frame.n_all(), 0.0);
  if (result.spin_forces) std::fill_n(result.spin_forces, 3 * frame.n_all(), 0.0);
}

void add_block(const PairBlock& block, const double* atom_energy, const double* pair_gradient, const Result& result) {
  for (int i = 0; i < block.n_counted; ++i) {
    if (result.energy) *result.energy += atom_energy[i];
    if (result.atom_energy) result.atom_energy[block.first_center + i] = atom_energy[i];
  }
  add_gradient(block, pair_gradient, 3, result);
}

void add_gradient(const PairBlock& block, const double* pair_gradient, std::size_t stride, const Result& result) {
  for (std::size_t k = 0; k < block.n_pairs(); ++k) {
    const double* g = pair_gradient + stride * k;
    const double* r = block.vectors.data() + 3 * k;
    const auto i = static_cast<std::size_t>(block.first_center + block.centers[k]);
    const auto j = static_cast<std::size_t>(block.atoms[k]);
    for (std::size_t a = 0; a < 3; ++a) {
      if (result.forces) {
        result.forces[3 * i + a] += g[a];
        result.forces[3 * j + a] -= g[a];
      }
      for (std::size_t b = 0; b < 3; ++b) {
        const double w = -g[a] * r[b];
        if (result.virial) result.virial[3 * a + b] += w;
        if (result.atom_virial) result.atom_virial[9 * j + 3 * a + b] += w;
      }
    }
  }
}

namespace {

void check(const double* values, std::size_t n, std::size_t per_atom, const char* what) {
  for (std::size_t k = 0; values && k < n; ++k) {
    if (std::isfinite(values[k])) continue;
    throw Error(DEEPMD_ERROR_NONFINITE,
                text("the model returned ", values[k], " for the ", what,
                     per_atom ? text(" of atom ", k / per_atom + 1) : std::string(),
                     "; the configuration is probably far outside of its training data"));
  }
}

}  // namespace

void check_finite(const Frame& frame, const OutputResult& result, std::size_t width) {
  const std::size_t n_parts = result.weights ? 1 : width;
  check(result.atom_output, width * static_cast<std::size_t>(frame.n_local), width, "output");
  check(result.output, width, 0, "output");
  check(result.forces, 3 * n_parts * frame.n_all(), 0, "derivatives of the output");
  check(result.virial, 9 * n_parts, 0, "virial of the output");
  check(result.atom_virial, 9 * n_parts * frame.n_all(), 0, "atomic virials of the output");
}

void check_finite(const Frame& frame, const Result& result) {
  check(result.atom_energy, static_cast<std::size_t>(frame.n_local), 1, "energy");
  check(result.forces, 3 * frame.n_all(), 3, "force");
  check(result.energy, 1, 0, "energy");
  check(result.virial, 9, 0, "virial");
  check(result.atom_virial, 9 * frame.n_all(), 9, "virial");
  check(result.spin_forces, 3 * frame.n_all(), 3, "magnetic force");
}

}  // namespace deepmd
