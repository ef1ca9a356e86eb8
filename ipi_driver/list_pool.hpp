// Neighbour lists that are used again between steps and between beads.
//
// A client does not learn which bead a structure belongs to (INIT, which would tell, comes once), and i-PI hands beads
// to whatever client is free. So a pool of lists is kept, and a structure goes to a list that was built around
// positions close enough to its own; beads near each other share one. Which list is taken is a matter of speed only:
// each list decides for itself, in deepmd_neighbors_update, whether it has to be built anew.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "deepmd/deepmd.h"

namespace deepmd::ipi {

struct Geometry {
  int n_atoms = 0;
  const double* positions = nullptr;  // [n_atoms][3]
  const double* cell = nullptr;       // [3][3] or NULL
  const int* pbc = nullptr;           // [3] or NULL
};

class ListPool {
 public:
  ListPool(double rcut, double skin) : rcut_(rcut), skin_(skin) {}

  // The list of this structure; its arrays live until the next call. A status other than DEEPMD_OK leaves the sentence
  // in deepmd_last_error().
  deepmd_status update(const Geometry& geometry, deepmd_list* list);
  std::int64_t n_built() const { return n_built_; }

 private:
  struct FreeList {
    void operator()(deepmd_neighbors* neighbors) const { deepmd_neighbors_free(neighbors); }
  };
  struct Entry {
    std::unique_ptr<deepmd_neighbors, FreeList> neighbors;
    std::vector<double> built_at;    // [n_atoms][3] positions when the list was built
    std::vector<double> built_cell;  // [3][3], empty: open boundaries
    std::uint64_t stamp = 0;         // of the list's content
    std::int64_t last_use = 0;
  };
  deepmd_status choose(const Geometry& geometry, Entry** entry);
  bool fits(const Entry& entry, const Geometry& geometry) const;

  double rcut_;
  double skin_;
  std::size_t largest_ = 64;  // lists; fewer if they are long, see update()
  std::int64_t n_built_ = 0;
  std::int64_t clock_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace deepmd::ipi
