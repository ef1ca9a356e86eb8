#include "model/selftest.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace deepmd {
namespace {

struct Quantity {
  const char* name;
  const char* unit;
  const std::vector<double>& stored;
  const std::vector<double>& computed;
};

// Largest difference; infinite if one is not a number.
double check_quantity(const Quantity& q, double tolerance, const std::string& path) {
  double worst = 0, scale = 1;
  for (std::size_t k = 0; k < q.stored.size(); ++k) {
    const double difference = std::abs(q.stored[k] - q.computed[k]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
    scale = std::max(scale, std::abs(q.stored[k]));
  }
  if (worst <= tolerance * scale) return worst;
  throw Error(DEEPMD_ERROR_SELFTEST,
              text(path, " fails its self-test: the ", q.name, " of a stored frame differs by ", worst, " ", q.unit,
                   ", expected at most ", tolerance * scale, "; freeze the model anew with this version of torch, and "
                   "report it if that does not help"));
}

}  // namespace

SelftestFrame recompute(Model& model, const SelftestFrame& frame) {
  SelftestFrame computed = frame;
  Request request;
  request.frame.n_local = static_cast<int>(frame.types.size());
  request.frame.positions = frame.positions.data();
  request.frame.types = frame.types.data();
  request.frame.cell = frame.cell.empty() ? nullptr : frame.cell.data();
  request.frame.fparam = frame.fparam.empty() ? nullptr : frame.fparam.data();
  request.frame.aparam = frame.aparam.empty() ? nullptr : frame.aparam.data();
  if (model.metadata().has_energy()) {
    request.frame.spins = frame.spins.empty() ? nullptr : frame.spins.data();
    model.evaluate(request, {&computed.energy, computed.forces.data(), computed.virial.data(), computed.atom_energy.data(),
                             nullptr, frame.spins.empty() ? nullptr : computed.spin_forces.data()});
    return computed;
  }
  OutputResult result;
  result.atom_output = computed.atom_output.data();
  if (model.metadata().output.has_derivatives) {
    result.forces = computed.forces.data();
    result.virial = computed.virial.data();
  }
  model.evaluate_output(request, result);
  return computed;
}

double compare_selftest(const SelftestFrame& stored, const SelftestFrame& computed, double tolerance,
                        const std::string& path) {
  if (!stored.atom_output.empty()) {
    const double worst = check_quantity({"output", "units", stored.atom_output, computed.atom_output}, tolerance, path);
    check_quantity({"virial of the output", "units", stored.virial, computed.virial}, tolerance, path);
    return std::max(worst, check_quantity({"derivative of the output", "units/Angstrom", stored.forces, computed.forces},
                                          tolerance, path));
  }
  const std::vector<double> stored_energy = {stored.energy}, energy = {computed.energy};
  check_quantity({"energy", "eV", stored_energy, energy}, tolerance, path);
  check_quantity({"atomic energy", "eV", stored.atom_energy, computed.atom_energy}, tolerance, path);
  check_quantity({"magnetic force", "eV/Bohr magneton", stored.spin_forces, computed.spin_forces}, tolerance, path);
  check_quantity({"virial", "eV", stored.virial, computed.virial}, tolerance, path);
  return check_quantity({"force", "eV/Angstrom", stored.forces, computed.forces}, tolerance, path);
}

}  // namespace deepmd
