// The atoms of coord_file: their names and order; coordinates are not used.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

namespace deepmd::ipi {

// Names in the order of the file. Lines have 4 words (name, position), 7 (and velocity) or 10 (and force).
std::vector<std::string> read_atom_names(const std::string& path);
std::vector<std::string> read_atom_names(std::istream& stream, const std::string& path);

// Types of the atoms through `atom_type`; a name that is missing there is an error.
std::vector<int> types_of_names(const std::vector<std::string>& names, const std::map<std::string, int>& atom_type);

// The sentence that says how a name contradicts the element that the model has for its type, "" if it does not.
// Names that are no chemical symbols ("OW") contradict nothing; isotopes ("D", "O17") count as their element.
std::string name_contradiction(const std::string& name, int type, const std::vector<std::string>& type_map);

}  // namespace deepmd::ipi
