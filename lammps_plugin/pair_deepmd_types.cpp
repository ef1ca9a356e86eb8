// Which element each LAMMPS type is, and whether the masses agree.
#include <cstdio>

#include "atom.h"
#include "comm.h"
#include "element_masses.hpp"
#include "force.h"
#include "lammps_units.hpp"
#include "pair_deepmd.h"

namespace deepmd {

std::string format_number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

bool PairDeepMD::mass_of_type(int type, double* mass) const {
  return deepmd::mass_of_type(*atom, *force, type, mass);
}

std::string PairDeepMD::suggested_line() const {
  std::string line = "pair_coeff * *";
  for (int type = 1; type <= atom->ntypes; ++type) {
    double mass = 0.0;
    const int index = mass_of_type(type, &mass) ? element_of_mass(mass, info_.type_map) : -1;
    if (info_.type_map.size() == 1 && atom->ntypes == 1) {
      line += " " + info_.type_map[0];
    } else {
      line += index >= 0 ? " " + info_.type_map[index] : " <element of type " + std::to_string(type) + ">";
    }
  }
  return line;
}

std::vector<int> PairDeepMD::resolve_without_names() const {
  const int n_types = static_cast<int>(info_.type_map.size());
  std::vector<int> map;
  for (int type = 1; type <= atom->ntypes; ++type) {
    double mass = 0.0;
    const bool has_mass = mass_of_type(type, &mass);
    const bool only = n_types == 1 && atom->ntypes == 1;
    const bool fits = has_mass && type <= n_types && element_of_mass(mass, info_.type_map) == type - 1;
    if (!only && !fits) {
      std::string reason = "type " + std::to_string(type);
      reason += has_mass ? " has mass " + format_number(mass) : " has no mass";
      reason += type <= n_types ? " and the model's element at this place is " + info_.type_map[type - 1]
                                : ", and the model has only " + std::to_string(n_types) + " element(s)";
      fail("pair_coeff: '* *' without names does not settle which element each type is (" + reason + "); write '" +
           suggested_line() + "'");
    }
    map.push_back(type - 1);
  }
  return map;
}

void PairDeepMD::resolve_types() {
  try {
    type_to_model_ = names_.empty() ? resolve_without_names() : map_elements(names_, info_.type_map, atom->ntypes);
  } catch (const SettingsError& problem) {
    fail(problem.what());
  }
  adapter_.configure(type_to_model_, length_unit_, ghost_view());
  last_list_ = nullptr;
}

void PairDeepMD::check_masses() const {
  if (!settings_.mass_check) return;
  for (int type = 1; type <= atom->ntypes; ++type) {
    const int index = type_to_model_[type - 1];
    double mass = 0.0;
    if (index < 0 || !mass_of_type(type, &mass)) continue;
    const int better = better_element(index, mass, info_.type_map);
    if (better < 0) continue;
    fail("pair_style deepmd: type " + std::to_string(type) + " has mass " + format_number(mass) + ", which is " +
         info_.type_map[better] + " rather than " + info_.type_map[index] +
         "; correct the order of the names in pair_coeff or the mass, or add 'masscheck off' to pair_style");
  }
}

void PairDeepMD::print_types() const {
  if (comm->me != 0) return;
  std::string text = "  >>> Types of pair style deepmd:\n  LAMMPS type         mass   element   model index\n";
  for (int type = 1; type <= atom->ntypes; ++type) {
    double mass = 0.0;
    const int index = type_to_model_[type - 1];
    const std::string element = index < 0 ? "NULL" : info_.type_map[index];
    const std::string model_index = index < 0 ? "invisible" : std::to_string(index);
    const std::string mass_text = mass_of_type(type, &mass) ? format_number(mass) : "-";
    char line[128];
    std::snprintf(line, sizeof(line), "  %11d %12s %9s %13s\n", type, mass_text.c_str(), element.c_str(),
                  model_index.c_str());
    text += line;
  }
  LAMMPS_NS::utils::logmesg(lmp, text);
}

}  // namespace deepmd
