// Do the masses of a LAMMPS input fit the elements that its pair_coeff line names? No LAMMPS types.
#ifndef DEEPMD_LAMMPS_ELEMENT_MASSES_HPP
#define DEEPMD_LAMMPS_ELEMENT_MASSES_HPP

#include <string>
#include <vector>

namespace deepmd {

/// |ln(mass / accepted mass)| for the closest accepted mass of an element; negative for a name that is no element.
/// Hydrogen is also accepted as deuterium and tritium.
double mass_distance(const std::string& element, double mass);

/// Index of the element that `mass` singles out among `type_map`, or -1 where none or several fit.
int element_of_mass(double mass, const std::vector<std::string>& type_map);

/// The element of `type_map` that fits `mass` clearly better than the one at `index`, or -1.
int better_element(int index, double mass, const std::vector<std::string>& type_map);

}  // namespace deepmd

#endif
