// How far several models disagree about the forces on local atoms, whose images give their shares back.
#pragma once

#include "device/comparison.hpp"
#include "device/list_bodies.hpp"
#include "kernels/deviation_math.hpp"

namespace deepmd::device {

// Forces of several models; what they say about an atom's images counts for the atom.
struct ModelForces {
  int n_models = 0;
  const double* of_model[kMostCompared] = {};  // [n_all][3]
  TurnedList images;                         // of each local atom, counted from n_local; null where there are no ghosts
  std::int64_t n_local = 0;
};

struct FoldedForce {
  double value[kMostCompared][3] = {};
  DEEPMD_HD double operator()(int k, int c) const { return value[k][c]; }
};

struct MeanForce {
  double value[3] = {};
  DEEPMD_HD double operator()(int c) const { return value[c]; }
};

// deviation [n_local], divided by the size of the mean force unless level is negative; absolute [n_local] without that, or null.
// One thread per atom.
struct CompareForces {
  ModelForces forces;
  double level = -1;
  double *deviation = nullptr, *absolute = nullptr;

  std::size_t shared_bytes() const { return 0; }

  DEEPMD_BODY FoldedForce folded(std::int64_t i) const {
    FoldedForce sum;
    for (int k = 0; k < forces.n_models; ++k) {
      for (int a = 0; a < 3; ++a) sum.value[k][a] = forces.of_model[k][3 * i + a];
      if (!forces.images.first) continue;
      for (std::int64_t entry = forces.images.first[i]; entry < forces.images.first[i + 1]; ++entry) {
        const std::int64_t j = forces.n_local + forces.images.entry[entry];
        for (int a = 0; a < 3; ++a) sum.value[k][a] += forces.of_model[k][3 * j + a];
      }
    }
    return sum;
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t base = block.index() * kThreads; base < forces.n_local; base += block.n_blocks() * kThreads) {
      block.each([&](int t) {
        const std::int64_t i = base + t;
        if (i >= forces.n_local) return;
        const FoldedForce force = folded(i);
        MeanForce mean;
        for (int a = 0; a < 3; ++a) mean.value[a] = mean_over_models(force, forces.n_models, a);
        const double found = distance_from(mean, force, forces.n_models, 3);
        if (absolute) absolute[i] = found;
        deviation[i] = level < 0 ? found : relative_to(mean, 3, level, found);
      });
    }
  }
};

// Largest, smallest and sum of deviation, and the largest of absolute: totals [n_blocks][kValues], each block of its part. A
// second launch of one block takes those of the first one as its input.
struct SpreadOfAtoms {
  static constexpr int kValues = 4;
  static constexpr int kMostBlocks = 128;
  std::int64_t n = 0;
  const double *most = nullptr, *least = nullptr, *sum = nullptr, *absolute = nullptr;
  int stride = 1;
  double* totals = nullptr;

  std::size_t shared_bytes() const { return Arena::bytes_of<double>(kValues * kThreads); }

  static DEEPMD_BODY void take(double* spread, double most, double least, double sum, double absolute) {
    spread[0] = most > spread[0] ? most : spread[0];
    spread[1] = least < spread[1] ? least : spread[1];
    spread[2] += sum;
    spread[3] = absolute > spread[3] ? absolute : spread[3];
  }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    double* all = Arena(block.shared()).take<double>(kValues * kThreads);
    const std::int64_t from = n * block.index() / block.n_blocks(), to = n * (block.index() + 1) / block.n_blocks();
    block.each([&](int t) {
      double own[kValues] = {most[from * stride], least[from * stride], 0.0, absolute[from * stride]};
      for (std::int64_t i = from + t; i < to; i += kThreads) {
        take(own, most[i * stride], least[i * stride], sum[i * stride], absolute[i * stride]);
      }
      for (int v = 0; v < kValues; ++v) all[v * kThreads + t] = own[v];
    });
    block.each([&](int t) {
      if (t != 0) return;
      double own[kValues] = {all[0], all[kThreads], 0.0, all[3 * kThreads]};
      for (int other = 0; other < kThreads; ++other) {
        take(own, all[other], all[kThreads + other], all[2 * kThreads + other], all[3 * kThreads + other]);
      }
      for (int v = 0; v < kValues; ++v) totals[block.index() * kValues + v] = own[v];
    });
  }
};

}  // namespace deepmd::device
