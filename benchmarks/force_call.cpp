// Microseconds of one fused force call per atom, without any engine around it, and its distance to the answers stored in
// the model file:  force_call graph.pth [float64|mixed] [threads] [seconds]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <string>

#include "kernels/gemm.hpp"
#include "model/compression_record.hpp"
#include "model/fused_potential.hpp"
#include "neighbors/neighbors.hpp"

namespace {

using deepmd::Frame;
using deepmd::Result;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// GFLOP/s of the product that the first layer of the usual fitting network is.
template <class Real>
double gemm_rate() {
  const int m = 64, n = 240, k = 1480;
  std::vector<double> w(static_cast<std::size_t>(n) * k, 0.5);
  const deepmd::PackedMatrix<Real> packed = deepmd::pack<Real>(deepmd::best_isa(), k, n, w.data(), n, 1);
  deepmd::aligned_vector<Real> a(m * deepmd::padded(k), Real(0.25)), c(m * deepmd::padded(n));
  const auto gemm = deepmd::choose_gemm<Real>(deepmd::best_isa());
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const double start = seconds();
    gemm({m, &packed, a.data(), deepmd::padded(k), c.data(), deepmd::padded(n), nullptr, false});
    best = std::min(best, seconds() - start);
  }
  return 2e-9 * m * n * k / best;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t k = 0; k < a.size(); ++k) most = std::max(most, std::abs(a[k] - b[k]));
  return most;
}

struct Compared {
  double force = 0, energy = 0, virial = 0;
};

Compared evaluate(deepmd::FusedPotential& potential, const deepmd::SelftestFrame& stored, deepmd::Neighbors& neighbors,
                  Frame& frame, deepmd::SelftestFrame& computed) {
  const int n = static_cast<int>(stored.types.size());
  neighbors.update(n, stored.positions.data(), stored.cell.empty() ? nullptr : stored.cell.data(), nullptr);
  frame.n_local = n;
  frame.positions = stored.positions.data();
  frame.types = stored.types.data();
  frame.cell = stored.cell.empty() ? nullptr : stored.cell.data();
  frame.list = deepmd::ListView(neighbors.list());
  frame.fparam = stored.fparam.empty() ? nullptr : stored.fparam.data();
  frame.aparam = stored.aparam.empty() ? nullptr : stored.aparam.data();
  computed = stored;
  potential.evaluate(frame, {&computed.energy, computed.forces.data(), computed.virial.data(), computed.atom_energy.data(), nullptr});
  return {largest_difference(stored.forces, computed.forces), std::abs(stored.energy - computed.energy) / n,
          largest_difference(stored.virial, computed.virial)};
}

int run(int n_arguments, char** arguments) {
  if (n_arguments < 2) {
    std::cerr << "usage: force_call graph.pth [float64|mixed] [threads] [seconds]\n";
    return 2;
  }
  const deepmd::ModelFile file = deepmd::ModelFile::read(arguments[1]);
  std::string why_not;
  const auto tree = deepmd::read_energy_tree(file, &why_not);
  if (!tree) {
    std::cerr << "force_call: " << why_not << "\n";
    return 1;
  }
  const bool is_mixed = n_arguments > 2 && std::string(arguments[2]) == "mixed";
  deepmd::FusedOptions options;
  options.precision = is_mixed ? deepmd::Precision::mixed : deepmd::Precision::float64;
  options.n_threads = n_arguments > 3 ? std::atoi(arguments[3]) : 1;
  const double most_seconds = n_arguments > 4 ? std::atof(arguments[4]) : 2.0;
  const auto record = deepmd::read_compression(file);
  const double before = seconds();
  const auto potential = deepmd::make_fused_potential(*tree, deepmd::build_pair_basis(*tree, record ? &*record : nullptr), options);
  std::cout << std::setprecision(4) << "built in " << seconds() - before << " s, " << potential->bytes_of_model() / 1e6 << " MB\n";
  for (const deepmd::SelftestFrame& stored : file.selftest_frames()) {
    deepmd::Neighbors neighbors(tree->cutoff.rcut, 2.0);
    Frame frame;
    deepmd::SelftestFrame computed;
    const Compared error = evaluate(*potential, stored, neighbors, frame, computed);
    const Result result = {&computed.energy, computed.forces.data(), computed.virial.data(), nullptr, nullptr};
    const double end = seconds() + most_seconds;
    double best = 1e9;
    for (int round = 0; round < 3 || seconds() < end; ++round) {
      const double start = seconds();
      potential->evaluate(frame, result);
      best = std::min(best, seconds() - start);
    }
    std::cout << stored.types.size() << " atoms: " << best / stored.types.size() * 1e6 << " us per atom; largest error of forces "
              << error.force << " eV/Angstrom, energy " << error.energy << " eV per atom, virial " << error.virial << " eV; "
              << potential->description() << "; " << potential->bytes_per_thread() / 1e6 << " MB per thread, outside "
              << potential->n_outside() << "; product " << (is_mixed ? gemm_rate<float>() : gemm_rate<double>()) << " GFLOP/s\n";
  }
  return 0;
}

}  // namespace

int main(int n_arguments, char** arguments) {
  try {
    return run(n_arguments, arguments);
  } catch (const std::exception& e) {
    std::cerr << "force_call: " << e.what() << "\n";
    return 1;
  }
}
