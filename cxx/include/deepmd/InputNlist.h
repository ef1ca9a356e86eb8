// What the C++ interface shares: its exception and the neighbour list of a calling program. C++11, header-only.
#ifndef DEEPMD_INPUTNLIST_H
#define DEEPMD_INPUTNLIST_H

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepmd/deepmd.h"

namespace deepmd {

// Thrown by everything in these headers; what() is the sentence of the C interface behind its status name.
struct deepmd_exception : public std::runtime_error {
  explicit deepmd_exception(const std::string& message) : std::runtime_error(message) {}
};

// A full list over local atoms and ghosts, in the layout of LAMMPS. Nothing is owned.
struct InputNlist {
  InputNlist() : inum(0), ilist(nullptr), numneigh(nullptr), firstneigh(nullptr) {}
  InputNlist(int inum_, int* ilist_, int* numneigh_, int** firstneigh_)
      : inum(inum_), ilist(ilist_), numneigh(numneigh_), firstneigh(firstneigh_) {}
  // Bits of an entry that hold the atom; LAMMPS keeps flags in the others.
  void set_mask(int mask_) { mask = mask_; }
  // The local atom that each atom is, or is an image of; models that pass messages between atoms need it, or rows for the
  // ghosts too.
  void set_mapping(int* mapping_) { mapping = mapping_; }

  int inum;          // number of rows
  int* ilist;        // [inum] centre of each row
  int* numneigh;     // [inum] length of each row
  int** firstneigh;  // [inum] start of each row
  int mask = ~0;
  int* mapping = nullptr;
};

// Points `to`, whose three arrays have been allocated, at the rows of `from`.
inline void convert_nlist(InputNlist& to, std::vector<std::vector<int>>& from) {
  to.inum = static_cast<int>(from.size());
  for (int i = 0; i < to.inum; ++i) {
    std::vector<int>& row = from[static_cast<std::size_t>(i)];
    to.ilist[i] = i;
    to.numneigh[i] = static_cast<int>(row.size());
    to.firstneigh[i] = row.data();
  }
}

namespace detail {

inline void check(deepmd_status status) {
  if (status == DEEPMD_OK) return;
  throw deepmd_exception(std::string(deepmd_status_name(status)) + ": " + deepmd_last_error());
}

inline void require(bool is_right, const std::string& sentence) {
  if (!is_right) throw deepmd_exception("DP_ERROR_ARGUMENT: " + sentence);
}

// The atoms that the model sees: those of negative type (no element of the model) are left out.
struct KeptAtoms {
  KeptAtoms(const int* types, int n_all, int n_ghost) : number(static_cast<std::size_t>(n_all), -1) {
    for (int i = 0; i < n_all; ++i) {
      if (types[i] < 0) continue;
      number[static_cast<std::size_t>(i)] = static_cast<int>(atoms.size());
      atoms.push_back(i);
      kept_types.push_back(types[i]);
      if (i < n_all - n_ghost) ++n_local;
    }
  }
  int n_local = 0;
  std::vector<int> atoms;       // [kept] number among all
  std::vector<int> kept_types;  // [kept]
  std::vector<int> number;      // [n_all] number among the kept, or -1
};

// The caller's list in the layout of the C interface, kept between calls.
struct RaggedList {
  void assign(const InputNlist& list, const KeptAtoms& kept) {
    const std::size_t n_all = kept.number.size(), n_local = static_cast<std::size_t>(kept.n_local);
    std::vector<int> row_of(kept.atoms.size(), -1);
    std::size_t n_ghost_rows = 0;
    for (int row = 0; row < list.inum; ++row) {
      const int center = list.ilist[row];
      require(center >= 0 && static_cast<std::size_t>(center) < n_all, "a row of the neighbour list has no such centre");
      const int number = kept.number[static_cast<std::size_t>(center)];
      if (number < 0) continue;
      row_of[static_cast<std::size_t>(number)] = row;
      if (number >= kept.n_local) ++n_ghost_rows;
    }
    if (n_ghost_rows != kept.atoms.size() - n_local) row_of.resize(n_local);
    assign_owners(list, kept);
    first.assign(1, 0);
    index.clear();
    for (std::size_t i = 0; i < row_of.size(); ++i) {
      const int row = row_of[i];
      for (int k = 0; row >= 0 && k < list.numneigh[row]; ++k) {
        const int neighbor = list.firstneigh[row][k] & list.mask;
        require(neighbor >= 0 && static_cast<std::size_t>(neighbor) < n_all,
                "the neighbour list names an atom that does not exist; expected numbers below the number of atoms");
        const int number = kept.number[static_cast<std::size_t>(neighbor)];
        if (number >= 0) index.push_back(number);
      }
      first.push_back(static_cast<std::int64_t>(index.size()));
    }
  }
  deepmd_list view() const {
    deepmd_list list{};
    list.size = sizeof(list);
    list.n_centers = static_cast<int>(first.size()) - 1;
    list.first = first.data();
    list.index = index.data();
    list.owners = owners.empty() ? nullptr : owners.data();
    return list;
  }
  void assign_owners(const InputNlist& list, const KeptAtoms& kept) {
    owners.clear();
    for (std::size_t k = 0; list.mapping && k < kept.atoms.size(); ++k) {
      const int owner = list.mapping[kept.atoms[k]];
      require(owner >= 0 && static_cast<std::size_t>(owner) < kept.number.size(),
              "the mapping of the neighbour list names an atom that does not exist; expected local atoms");
      owners.push_back(kept.number[static_cast<std::size_t>(owner)]);
    }
  }
  std::vector<std::int64_t> first;
  std::vector<int> index, owners;
};

}  // namespace detail
}  // namespace deepmd

#endif
