#include "lammps_units.hpp"

#include "atom.h"
#include "force.h"

namespace deepmd {
namespace {

// Boltzmann's constant in eV/K as LAMMPS has it in `units metal`: with it a ratio of LAMMPS' own constants converts
// energies, so that temperatures and energies agree.
const double kBoltzmannMetal = 8.617343e-5;
// Energy of 1 g/mol at 1 Angstrom/fs in eV: mvv2e of `units metal`, which counts velocities in Angstrom/ps.
const double kMassUnitMetal = 1.0364269e2;

}  // namespace

double energy_unit(const LAMMPS_NS::Force& force) { return force.boltz / kBoltzmannMetal; }

bool mass_of_type(const LAMMPS_NS::Atom& atom, const LAMMPS_NS::Force& force, int type, double* mass) {
  if (atom.mass == nullptr || atom.mass_setflag == nullptr || !atom.mass_setflag[type]) return false;
  const double speed = force.angstrom / force.femtosecond;
  const double gram_per_mol = kMassUnitMetal * energy_unit(force) / (force.mvv2e * speed * speed);
  *mass = atom.mass[type] / gram_per_mol;
  return *mass > 0.0;
}

}  // namespace deepmd
