// Products of float32 numbers on units that multiply numbers of 11 significant bits (TF32) and add in float32. With
// x = high + low, both of 11 bits,
//     a w = low(a) high(w) + high(a) low(w) + high(a) high(w),
// which leaves out low(a) low(w) and what low rounds off: 2^-22 of each term, below the 2^-24 per addition of a sum in float32
// of more than a few terms. One product of the high parts alone errs by 2^-11 of each term.
#pragma once

#include "device/blas_call.hpp"
#include "device/product_kind.hpp"

namespace deepmd::device {

DEEPMD_BODY float high_part(float x) {
  union {
    float number;
    unsigned bits;
  } u;
  u.number = x;
  if ((u.bits & 0x7f800000u) == 0x7f800000u) return x;  // not finite
  u.bits = (u.bits + 0xfffu + ((u.bits >> 13) & 1u)) & ~0x1fffu;  // to the nearest, ties to even
  return u.number;
}

// high [m][k] and low [m][k] (or null) of a [m][lda].
template <class Real>
struct SplitElements {
  std::int64_t m = 0;
  int k = 0, lda = 0;
  const Real* a = nullptr;
  Real *high = nullptr, *low = nullptr;

  std::size_t shared_bytes() const { return 0; }

  template <class Block>
  DEEPMD_BODY void operator()(Block& block) const {
    for (std::int64_t row = block.index(); row < m; row += block.n_blocks()) {
      block.run([&](int t) {
        for (int c = t; c < k; c += kThreads) {
          const float x = static_cast<float>(a[row * lda + c]), most = high_part(x);
          high[row * k + c] = static_cast<Real>(most);
          if (low) low[row * k + c] = static_cast<Real>(high_part(x - most));
        }
      });
    }
  }
};

// What a product needs to be split: the parts of its weights, and room for those of its factor.
template <class Real>
struct SplitRoom {
  const Real *w_high = nullptr, *w_low = nullptr;  // [k][n]; null: not split; w_low null: high parts alone
  Real *a_high = nullptr, *a_low = nullptr;        // [m][k]
};

// The product by one or three calls of library(BlasCall), added into c after what `add` leaves there.
template <class Real, class Backend, class Library>
void multiply_parts(Backend& backend, const Product<Real>& p, const SplitRoom<Real>& room, Real* c, int stride, bool add,
                    Library&& library) {
  SplitElements<Real> split;
  split.m = p.m, split.k = p.k, split.lda = p.lda, split.a = p.a;
  split.high = room.a_high, split.low = room.w_low ? room.a_low : nullptr;
  backend.launch(split, p.m);
  const auto call = [&](const Real* a, const Real* w) {
    BlasCall<Real> one = blas_call(Product<Real>{p.m, p.n, p.k, a, p.k, w}, c, stride, add);
    one.is_short = true;
    library(one);
    add = true;
  };
  if (room.w_low) {  // the small ones first
    call(room.a_low, room.w_high);
    call(room.a_high, room.w_low);
  }
  call(room.a_high, room.w_high);
}

template <class Real, class Backend, class Library>
void multiply_split(Backend& backend, const Product<Real>& p, const SplitRoom<Real>& room, const Store<Real>& store, Real*,
                    Library&& library) {
  multiply_parts(backend, p, room, store.c, store.stride, store.add, library);
}

template <class Real, class Backend, class Finish, class Library>
void multiply_split(Backend& backend, const Product<Real>& p, const SplitRoom<Real>& room, const Finish& finish, Real* scratch,
                    Library&& library) {
  multiply_parts(backend, p, room, scratch, p.n, false, library);
  backend.launch(FinishElements<Real, Finish>{p.m, p.n, scratch, finish}, p.m);
}

}  // namespace deepmd::device
