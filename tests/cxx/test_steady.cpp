// Counts allocations: once buffers have grown, a force call makes none. A program of its own, since it replaces the
// global allocation functions. A number of steps may follow its name: 50, of which the first five may allocate.
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <new>

#include "model/fused_potential.hpp"
#include "small_models.hpp"
#include "spectral_basis.hpp"

namespace {
std::atomic<long> n_allocations{0};
}

void* operator new(std::size_t n) {
  ++n_allocations;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t n, std::align_val_t alignment) {
  ++n_allocations;
  const std::size_t a = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (n + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

int main(int n_arguments, char** arguments) {
  const int n_steps = n_arguments > 1 ? std::atoi(arguments[1]) : 50;
  small::Shape shape;
  shape.kinds = {deepmd::RowKind::angular, deepmd::RowKind::radial};
  shape.n_couples = 1;
  const deepmd::EnergyTree tree = small::tree(shape, 1);
  small::Box box(60, 9.0, tree, 1);
  const deepmd::CompressionRecord record = spectral::record(tree, 3, 0.5);
  int n_failed = 0;
  for (const deepmd::CompressionRecord* each : {static_cast<const deepmd::CompressionRecord*>(nullptr), &record}) {
    for (const deepmd::Precision precision : {deepmd::Precision::float64, deepmd::Precision::mixed}) {
      const auto potential = deepmd::make_fused_potential(tree, deepmd::build_pair_basis(tree, each), {precision, 2});
      double energy, virial[9];
      std::vector<double> forces(3 * 60), atom_virial(9 * 60);
      const deepmd::Result result = {&energy, forces.data(), virial, nullptr, atom_virial.data()};
      long before = 0;
      std::size_t bytes = 0;
      for (int step = 0; step < n_steps; ++step) {
        for (std::size_t k = 0; k < box.positions.size(); ++k) box.positions[k] += 0.001 * ((step + k) % 3 - 1.0);
        if (step == 5) before = n_allocations, bytes = potential->bytes_per_thread();
        potential->evaluate(box.frame, result);
      }
      const long made = n_allocations - before;
      if (made != 0 || potential->bytes_per_thread() != bytes || bytes == 0 || potential->bytes_per_atom() == 0) {
        std::cerr << made << " allocations in the steady state, expected none\n";
        ++n_failed;
      }
    }
  }
  return n_failed ? 1 : 0;
}
