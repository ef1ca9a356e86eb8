// Units and masses of a LAMMPS input in those of the engine.
#ifndef DEEPMD_LAMMPS_LAMMPS_UNITS_HPP
#define DEEPMD_LAMMPS_LAMMPS_UNITS_HPP

namespace LAMMPS_NS {
class Atom;
class Force;
}  // namespace LAMMPS_NS

namespace deepmd {

/// 1 eV in LAMMPS' units.
double energy_unit(const LAMMPS_NS::Force& force);

/// The mass of a type in g/mol; false if none is set.
bool mass_of_type(const LAMMPS_NS::Atom& atom, const LAMMPS_NS::Force& force, int type, double* mass);

}  // namespace deepmd

#endif
