#include "fix_dplr.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace deepmd {
namespace {

const char kKeywords[] = "model, type_associate, bond_type";

/// A whole number of at least 1 and at most `most`, or 0.
int parse_type(const char* word, int most) {
  char* end = nullptr;
  const long value = std::strtol(word, &end, 10);
  return end != word && *end == '\0' && value >= 1 && value <= most ? static_cast<int>(value) : 0;
}

}  // namespace

FixDplr::FixDplr(LAMMPS_NS::LAMMPS* lmp, int narg, char** arg) : Fix(lmp, narg, arg), model_(lmp, "fix dplr") {
  read_words(narg, arg);
  model_.open(file_, "dipole");
  comm_forward = comm_reverse = 3;
  virial_global_flag = thermo_virial = 1;
}

void FixDplr::read_words(int narg, char** arg) {
  const auto is_keyword = [](const std::string& word) {
    return word == "model" || word == "type_associate" || word == "bond_type" || word == "efield" ||
           word == "pair_deepmd_index" || word == "elements";
  };
  for (int k = 3; k < narg;) {
    const std::string keyword = arg[k++];
    std::vector<std::string> words;
    while (k < narg && !is_keyword(arg[k])) words.push_back(arg[k++]);
    if (keyword == "model") {
      if (words.size() != 1) model_.fail("'model' needs one file, that of a dipole model");
      file_ = words[0];
    } else if (keyword == "elements") {
      model_.set_elements(words);
    } else if (keyword == "bond_type" || keyword == "type_associate") {
      const bool is_bond = keyword == "bond_type";
      std::vector<int> types;
      for (const std::string& word : words) {
        types.push_back(parse_type(word.c_str(), is_bond ? atom->nbondtypes : atom->ntypes));
        if (types.back() == 0) model_.fail("'" + keyword + "' got '" + word + "', expected types of the data file");
      }
      if (types.empty() || (!is_bond && types.size() % 2 != 0)) {
        model_.fail(is_bond ? "'bond_type' needs the types of the bonds between atoms and sites"
                            : "'type_associate' needs pairs: the type of an atom and that of its site");
      }
      if (is_bond) bond_types_.insert(types.begin(), types.end());
      for (size_t p = 0; !is_bond && p < types.size(); p += 2) {
        associates_[types[p]] = types[p + 1];
        site_types_.insert(types[p + 1]);
      }
    } else if (keyword == "efield") {
      model_.fail("keyword 'efield' is not supported: write 'fix efield' for all charges before this fix, which hands "
                  "the field's force on sites on to the atoms");
    } else if (keyword == "pair_deepmd_index") {
      model_.fail("keyword 'pair_deepmd_index' is not supported, nor needed: the fix does not use the pair style's model");
    } else {
      model_.fail("unknown keyword '" + keyword + "'; the keywords are: " + kKeywords + ", elements");
    }
  }
  if (file_.empty() || associates_.empty() || bond_types_.empty()) {
    model_.fail(std::string("the keywords ") + kKeywords + " are needed, but one is missing");
  }
}

int FixDplr::setmask() {
  return LAMMPS_NS::FixConst::PRE_FORCE | LAMMPS_NS::FixConst::POST_FORCE | LAMMPS_NS::FixConst::MIN_PRE_FORCE |
         LAMMPS_NS::FixConst::MIN_POST_FORCE;
}

void FixDplr::check_surroundings() const {
  if (!atom->q_flag) model_.fail("the atoms have no charges; use 'atom_style full'");
  if (atom->map_style == LAMMPS_NS::Atom::MAP_NONE) model_.fail("there is no atom map; write 'atom_modify map yes'");
  if (!force->newton_pair || !force->newton_bond) model_.fail("'newton off' is not supported; write 'newton on'");
  if (force->bond == nullptr || std::string(force->bond_style) != "zero") {
    model_.fail("bonds tell which site belongs to which atom, and must not pull; write 'bond_style zero'");
  }
  if (std::string(update->integrate_style).rfind("respa", 0) == 0) model_.fail("run_style respa is not supported; use verlet");
}

void FixDplr::init() {
  check_surroundings();
  model_.prepare();
  for (const auto& pair : associates_) {
    if (!model_.selects(pair.first)) {
      model_.fail("atoms of type " + std::to_string(pair.first) + " have a site, but model " + file_ +
                  " gives them no dipole; correct type_associate");
    }
    if (model_.atoms().sees_type(pair.second)) {
      model_.fail("type " + std::to_string(pair.second) + " is a site, but the dipole model takes it for an element; add "
                  "'elements' with NULL for it");
    }
  }
  last_build_ = -1;
  neighbor->add_request(this, LAMMPS_NS::NeighConst::REQ_FULL);
}

void FixDplr::init_list(int, LAMMPS_NS::NeighList* list) { list_ = list; }

int FixDplr::n_all() const { return atom->nlocal + atom->nghost; }

std::vector<FixDplr::Site> FixDplr::sites() const {
  std::vector<Site> found;
  for (int k = 0; k < neighbor->nbondlist; ++k) {
    const int* bond = neighbor->bondlist[k];
    if (bond_types_.count(bond[2]) == 0) continue;
    for (int a = 0; a < 2; ++a) {
      const auto associate = associates_.find(atom->type[bond[a]]);
      if (associate == associates_.end() || associate->second != atom->type[bond[1 - a]]) continue;
      found.push_back({bond[a], bond[1 - a]});
      break;
    }
  }
  return found;
}

void FixDplr::pre_force(int) {
  const bool fresh = neighbor->ago == 0 || last_build_ != neighbor->lastcall;
  last_build_ = neighbor->lastcall;
  model_.gather(*list_, fresh);
  const LmpAdapter& atoms = model_.atoms();
  dipoles_.assign(3 * static_cast<size_t>(atoms.n_local()), 0.0);
  OutputRequest request;
  request.atom_output = dipoles_.data();
  if (atoms.n_local() > 0) model_.evaluate(request);
  start_buffer();
  for (int k = 0; k < atoms.n_local(); ++k) {
    for (int a = 0; a < 3; ++a) buffer_[3 * atoms.lammps_index(k) + a] = dipoles_[3 * k + a] * model_.length_unit();
  }
  comm->forward_comm(this);
  // A bond is known to one rank, which may own the atom and not the site: displacements go to the owners of the sites.
  const std::vector<double> dipoles = buffer_;
  start_buffer();
  double** x = atom->x;
  for (const Site& s : sites()) {
    for (int a = 0; a < 3; ++a) buffer_[3 * s.site + a] = x[s.owner][a] + dipoles[3 * s.owner + a] - x[s.site][a];
  }
  comm->reverse_comm(this);
  for (int i = 0; i < atom->nlocal; ++i) {
    for (int a = 0; a < 3 && is_site(atom->type[i]); ++a) x[i][a] += buffer_[3 * i + a];
  }
  comm->forward_comm();
}

void FixDplr::post_force(int vflag) {
  v_init(vflag);
  double** f = atom->f;
  start_buffer();
  for (int i = 0; i < atom->nlocal; ++i) {
    for (int a = 0; a < 3 && is_site(atom->type[i]); ++a) {
      buffer_[3 * i + a] = f[i][a];
      f[i][a] = 0.0;
    }
  }
  comm->forward_comm(this);
  const std::vector<double> on_sites = buffer_;
  start_buffer();
  for (const Site& s : sites()) {
    for (int a = 0; a < 3; ++a) buffer_[3 * s.owner + a] += on_sites[3 * s.site + a];
  }
  comm->reverse_comm(this);  // now the force on its site stands at each owned atom
  const LmpAdapter& atoms = model_.atoms();
  const size_t n_local = static_cast<size_t>(atoms.n_local()), n_seen = static_cast<size_t>(atoms.n_all());
  weights_.resize(3 * n_local);
  for (size_t k = 0; k < n_local; ++k) {
    const int i = atoms.lammps_index(static_cast<int>(k));
    for (int a = 0; a < 3; ++a) {
      weights_[3 * k + a] = buffer_[3 * i + a];
      f[i][a] += buffer_[3 * i + a];
    }
  }
  forces_.assign(3 * n_seen, 0.0);
  double w[9] = {};
  OutputRequest request;
  request.weights = weights_.data();
  request.forces = forces_.data();
  request.virial = w;
  if (n_local > 0) model_.evaluate(request);
  start_buffer();
  for (size_t k = 0; k < n_seen; ++k) {  // the engine's forces are minus the derivatives of what it was asked for
    const int i = atoms.lammps_index(static_cast<int>(k));
    for (int a = 0; a < 3; ++a) buffer_[3 * i + a] -= forces_[3 * k + a];
  }
  comm->reverse_comm(this);
  for (int i = 0; i < atom->nlocal; ++i) {
    for (int a = 0; a < 3; ++a) f[i][a] += buffer_[3 * i + a];
  }
  if (!vflag_global) return;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      w[3 * a + b] = -w[3 * a + b] * model_.length_unit();
      for (size_t k = 0; k < n_local; ++k) {
        w[3 * a + b] -= weights_[3 * k + a] * dipoles_[3 * k + b] * model_.length_unit();
      }
    }
  }
  const double six[6] = {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]), 0.5 * (w[5] + w[7])};
  for (int c = 0; c < 6; ++c) virial[c] += six[c];
}

int FixDplr::pack_forward_comm(int n, int* list, double* buffer, int, int*) {
  for (int k = 0; k < n; ++k) std::memcpy(buffer + 3 * k, &buffer_[3 * list[k]], 3 * sizeof(double));
  return 3 * n;
}

void FixDplr::unpack_forward_comm(int n, int first, double* buffer) {
  std::memcpy(&buffer_[3 * first], buffer, 3 * static_cast<size_t>(n) * sizeof(double));
}

int FixDplr::pack_reverse_comm(int n, int first, double* buffer) {
  std::memcpy(buffer, &buffer_[3 * first], 3 * static_cast<size_t>(n) * sizeof(double));
  return 3 * n;
}

void FixDplr::unpack_reverse_comm(int n, int* list, double* buffer) {
  for (int k = 0; k < n; ++k) {
    for (int a = 0; a < 3; ++a) buffer_[3 * list[k] + a] += buffer[3 * k + a];
  }
}

double FixDplr::memory_usage() {
  const size_t n = buffer_.capacity() + dipoles_.capacity() + weights_.capacity() + forces_.capacity();
  return static_cast<double>(n * sizeof(double)) + model_.atoms().memory_usage();
}

}  // namespace deepmd
