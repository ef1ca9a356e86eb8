#pragma once

#include "device/fitting_bodies.hpp"

namespace deepmd::device {

// A product as a library with column-major matrices wants it: c = a b + beta c with a [m][k], b [k][n], c [m][n], each
// column after column, leading dimensions lda, ldb, ldc, nothing transposed. A row-major matrix is its transpose there, so
// the factors change places.
template <class Real>
struct BlasCall {
  int m, n, k;
  const Real* a;
  int lda;
  const Real* b;
  int ldb;
  Real beta;
  Real* c;
  int ldc;
  bool is_short = false;  // the factors have 11 significant bits each: units for such numbers may multiply them
};

template <class Real>
BlasCall<Real> blas_call(const Product<Real>& p, Real* c, int stride, bool add) {
  return {p.n, static_cast<int>(p.m), p.k, p.w, p.n, p.a, p.lda, add ? Real(1) : Real(0), c, stride};
}

// Makes the product by `library(BlasCall)` and finishes it by a launch of its own, unless it can be stored as it is.
template <class Real, class Backend, class Library>
void multiply_by_library(Backend&, const Product<Real>& p, const Store<Real>& store, Real*, Library&& library) {
  library(blas_call(p, store.c, store.stride, store.add));
}

template <class Real, class Backend, class Finish, class Library>
void multiply_by_library(Backend& backend, const Product<Real>& p, const Finish& finish, Real* scratch, Library&& library) {
  library(blas_call(p, scratch, p.n, false));
  backend.launch(FinishElements<Real, Finish>{p.m, p.n, scratch, finish}, p.m);
}

}  // namespace deepmd::device
