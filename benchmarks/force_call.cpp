// Microseconds of one fused force call per atom, without any engine around it, and its distance to the answers stored in
// the model file, or to the path "table to rounding, float64" for a frame of one's own:
//   force_call graph.pth [--frame frame.txt] [--mixed] [--threads n] [--seconds s] [--ranks P]
//              [--table tolerance]
// frame.txt: number of atoms; nine numbers of the cell; type x y z of each atom. --ranks makes a spectral basis on the
// spot, --table tables of the networks to a relative tolerance; without them a compressed file is run as it says. With one thread the time is that of the processor.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>

#include "kernels/gemm.hpp"
#include "model/compression_record.hpp"
#include "model/fused_potential.hpp"
#include "neighbors/neighbors.hpp"
#include "spectral_basis.hpp"

namespace {

using deepmd::Frame;
using deepmd::Result;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Other programs on the machine lengthen wall times many times over, processor times much less.
double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Choices {
  std::string model, frame;
  deepmd::FusedOptions options{deepmd::Precision::float64, 1};
  double seconds = 2.0;
  int ranks = 0;
  double table_tolerance = 0;
};

bool read_choices(int n_arguments, char** arguments, Choices& choices) {
  for (int k = 1; k < n_arguments; ++k) {
    const std::string word = arguments[k];
    const bool has_value = k + 1 < n_arguments;
    if (word == "--mixed") {
      choices.options.precision = deepmd::Precision::mixed;
    } else if (word == "--frame" && has_value) {
      choices.frame = arguments[++k];
    } else if (word == "--threads" && has_value) {
      choices.options.n_threads = std::atoi(arguments[++k]);
    } else if (word == "--seconds" && has_value) {
      choices.seconds = std::atof(arguments[++k]);
    } else if (word == "--ranks" && has_value) {
      choices.ranks = std::atoi(arguments[++k]);
    } else if (word == "--table" && has_value) {
      choices.table_tolerance = std::atof(arguments[++k]);
    } else if (word.rfind("--", 0) != 0 && choices.model.empty()) {
      choices.model = word;
    } else {
      return false;
    }
  }
  return !choices.model.empty();
}

deepmd::SelftestFrame read_frame(const std::string& path) {
  std::ifstream in(path);
  deepmd::SelftestFrame frame;
  std::size_t n = 0;
  in >> n;
  frame.cell.resize(9), frame.types.resize(n), frame.positions.resize(3 * n);
  frame.forces.resize(3 * n), frame.virial.resize(9), frame.atom_energy.resize(n);
  for (double& x : frame.cell) in >> x;
  for (std::size_t i = 0; i < n; ++i) {
    in >> frame.types[i];
    for (std::size_t a = 0; a < 3; ++a) in >> frame.positions[3 * i + a];
  }
  if (!in) throw std::runtime_error("cannot read the frame " + path);
  return frame;
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
    const double start = processor_seconds();
    gemm({m, &packed, a.data(), deepmd::padded(k), c.data(), deepmd::padded(n), nullptr, false});
    best = std::min(best, processor_seconds() - start);
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

void measure(deepmd::FusedPotential& potential, double rcut, const deepmd::SelftestFrame& stored, const Choices& choices) {
  deepmd::Neighbors neighbors(rcut, 2.0);
  Frame frame;
  deepmd::SelftestFrame computed;
  const Compared error = evaluate(potential, stored, neighbors, frame, computed);
  const Result result = {&computed.energy, computed.forces.data(), computed.virial.data(), nullptr, nullptr};
  const auto now = choices.options.n_threads == 1 ? processor_seconds : seconds;
  const double end = seconds() + choices.seconds;
  double best = 1e9;
  for (int round = 0; round < 3 || seconds() < end; ++round) {
    const double start = now();
    potential.evaluate(frame, result);
    best = std::min(best, now() - start);
  }
  const bool is_mixed = choices.options.precision == deepmd::Precision::mixed;
  std::cout << stored.types.size() << " atoms: " << best / stored.types.size() * 1e6 << " us per atom; errors: forces "
            << error.force << " eV/Angstrom, energy " << error.energy << " eV per atom, virial " << error.virial << " eV; "
            << potential.description() << "; " << potential.bytes_per_thread() / 1e6 << " MB per thread, outside "
            << potential.n_outside() << "; product " << (is_mixed ? gemm_rate<float>() : gemm_rate<double>()) << " GFLOP/s\n";
}

int run(const Choices& choices) {
  const deepmd::ModelFile file = deepmd::ModelFile::read(choices.model);
  std::string why_not;
  const auto tree = deepmd::read_energy_tree(file, &why_not);
  if (!tree) {
    std::cerr << "force_call: " << why_not << "\n";
    return 1;
  }
  std::optional<deepmd::CompressionRecord> record = deepmd::read_compression(file);
  if (choices.ranks > 0) record = spectral::record(*tree, choices.ranks, 0.8);
  if (choices.table_tolerance > 0) {
    if (choices.ranks == 0) record.emplace();
    record->tolerance = 1, record->table_tolerance = choices.table_tolerance, record->shortest = 0.8;
  }
  const double before = seconds();
  const auto potential =
      deepmd::make_fused_potential(*tree, deepmd::build_pair_basis(*tree, record ? &*record : nullptr), choices.options);
  std::cout << std::setprecision(4) << "built in " << seconds() - before << " s, " << potential->bytes_of_model() / 1e6 << " MB\n";
  if (choices.frame.empty()) {
    for (const deepmd::SelftestFrame& stored : file.selftest_frames()) measure(*potential, tree->rcut(), stored, choices);
    return 0;
  }
  const auto exact = deepmd::make_fused_potential(*tree, deepmd::build_pair_basis(*tree, nullptr), {deepmd::Precision::float64, 1});
  deepmd::SelftestFrame stored = read_frame(choices.frame), computed;
  deepmd::Neighbors neighbors(tree->rcut(), 2.0);
  Frame frame;
  evaluate(*exact, stored, neighbors, frame, computed);
  measure(*potential, tree->rcut(), computed, choices);
  return 0;
}

}  // namespace

int main(int n_arguments, char** arguments) {
  Choices choices;
  if (!read_choices(n_arguments, arguments, choices)) {
    std::cerr << "usage: force_call graph.pth [--frame frame.txt] [--mixed] [--threads n] [--seconds s] [--ranks P] [--table tolerance]\n";
    return 2;
  }
  try {
    return run(choices);
  } catch (const std::exception& e) {
    std::cerr << "force_call: " << e.what() << "\n";
    return 1;
  }
}
