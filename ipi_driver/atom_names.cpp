#include "atom_names.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <istream>
#include <set>
#include <sstream>

#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

[[noreturn]] void fail(const std::string& sentence) { throw DriverError(ExitCode::kAtoms, sentence); }

long long parse_count(const std::string& line, const std::string& path) {
  std::istringstream words(line);
  long long count = 0;
  std::string rest;
  if (!(words >> count) || (words >> rest) || count <= 0 || count > 2147483647LL) {
    fail("the first line of coord_file " + path + " is '" + line.substr(0, 40) +
         "', expected the number of atoms; give a structure in XYZ format");
  }
  return count;
}

const std::set<std::string>& element_symbols() {
  static const std::set<std::string> symbols = [] {
    std::istringstream words(
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
        "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
        "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh "
        "Fl Mc Lv Ts Og");
    std::set<std::string> result;
    for (std::string word; words >> word;) {
      result.insert(word);
    }
    return result;
  }();
  return symbols;
}

// The element that a name stands for, "" if it is not a chemical symbol. i-PI names isotopes D, T, H2, C13, O17 ...
std::string element_of(const std::string& name) {
  std::string symbol = name;
  while (!symbol.empty() && std::isdigit(static_cast<unsigned char>(symbol.back()))) {
    symbol.pop_back();
  }
  if (symbol == "D" || symbol == "T") {
    return "H";
  }
  return element_symbols().count(symbol) ? symbol : "";
}

}  // namespace

std::vector<std::string> read_atom_names(std::istream& stream, const std::string& path) {
  std::string line;
  if (!std::getline(stream, line)) {
    fail("coord_file " + path + " is empty, expected a structure in XYZ format");
  }
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) {
    line.pop_back();
  }
  const long long count = parse_count(line, path);
  std::getline(stream, line);
  std::vector<std::string> names;
  while (static_cast<long long>(names.size()) < count) {
    if (!std::getline(stream, line)) {
      fail("coord_file " + path + " ends after " + std::to_string(names.size()) + " atoms, its first line announces " +
           std::to_string(count));
    }
    std::istringstream words(line);
    std::string name;
    words >> name;
    std::size_t n_words = name.empty() ? 0 : 1;
    for (std::string word; words >> word;) {
      ++n_words;
    }
    if (n_words != 4 && n_words != 7 && n_words != 10) {
      fail("wrong format, line has " + std::to_string(n_words) + " words: line " + std::to_string(names.size() + 3) +
           " of coord_file " + path + ", expected 4 (name and position), 7 or 10");
    }
    names.push_back(name);
  }
  return names;
}

std::vector<std::string> read_atom_names(const std::string& path) {
  std::ifstream stream(path);
  // A directory opens without complaint; only reading from it fails.
  if (!stream || (stream.peek(), stream.bad())) {
    fail("cannot open file " + path + " (coord_file); give the path of an XYZ file with the atoms in i-PI's order");
  }
  stream.clear();
  return read_atom_names(stream, path);
}

std::vector<int> types_of_names(const std::vector<std::string>& names, const std::map<std::string, int>& atom_type) {
  std::vector<int> types;
  types.reserve(names.size());
  for (const std::string& name : names) {
    const auto entry = atom_type.find(name);
    if (entry == atom_type.end()) {
      fail("Unknown atom name '" + name + "' in coordinate file: no matching entry in atom_type.");
    }
    types.push_back(entry->second);
  }
  return types;
}

std::string name_contradiction(const std::string& name, int type, const std::vector<std::string>& type_map) {
  const std::string& model_name = type_map.at(static_cast<std::size_t>(type));
  if (name == model_name) {
    return "";
  }
  const std::string element = element_of(name);
  const std::string model_element = element_of(model_name);
  const bool other_element = !element.empty() && !model_element.empty() && element != model_element;
  const auto elsewhere = std::find(type_map.begin(), type_map.end(), name);
  if (elsewhere == type_map.end() && !other_element) {
    return "";
  }
  std::string sentence = "atom_type gives '" + name + "' the type " + std::to_string(type) + ", which is '" +
                         model_name + "' in the model";
  if (elsewhere != type_map.end()) {
    sentence += "; the model has '" + name + "' as type " + std::to_string(elsewhere - type_map.begin());
  }
  return sentence + "; correct atom_type, or set \"check_names\": false if this is meant";
}

}  // namespace deepmd::ipi
