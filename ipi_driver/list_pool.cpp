#include "list_pool.hpp"

#include <algorithm>

namespace deepmd::ipi {

namespace {
// Bytes that all lists together may take: a path integral of a large system is not worth a list for every bead.
constexpr double kMemory = 256.0 * 1024 * 1024;
constexpr double kMostLists = 64;
}  // namespace

// True if no atom is further than half the skin from where it was when the list was built. A cell that changed is left
// to the list itself.
bool ListPool::fits(const Entry& entry, const Geometry& geometry) const {
  const std::size_t n = 3 * static_cast<std::size_t>(geometry.n_atoms);
  if (entry.built_at.size() != n) {
    return false;
  }
  const double limit = 0.25 * skin_ * skin_;
  for (std::size_t k = 0; k < n; k += 3) {
    double squared = 0.0;
    for (std::size_t a = 0; a < 3; ++a) {
      const double moved = geometry.positions[k + a] - entry.built_at[k + a];
      squared += moved * moved;
    }
    if (!(squared <= limit)) {
      return false;
    }
  }
  return true;
}

deepmd_status ListPool::choose(const Geometry& geometry, Entry** chosen) {
  for (Entry& entry : entries_) {
    if (fits(entry, geometry)) {
      *chosen = &entry;
      return DEEPMD_OK;
    }
  }
  if (entries_.size() < largest_) {
    deepmd_neighbors* neighbors = nullptr;
    const deepmd_status status = deepmd_neighbors_new(rcut_, skin_, &neighbors);
    if (status != DEEPMD_OK) {
      return status;
    }
    Entry entry;
    entry.neighbors.reset(neighbors);
    entries_.push_back(std::move(entry));
    *chosen = &entries_.back();
    return DEEPMD_OK;
  }
  *chosen = &*std::min_element(entries_.begin(), entries_.end(),
                               [](const Entry& left, const Entry& right) { return left.last_use < right.last_use; });
  return DEEPMD_OK;
}

deepmd_status ListPool::update(const Geometry& geometry, deepmd_list* list) {
  Entry* entry = nullptr;
  deepmd_status status = choose(geometry, &entry);
  if (status != DEEPMD_OK) {
    return status;
  }
  entry->last_use = ++clock_;
  int rebuilt = 0;
  list->size = sizeof(deepmd_list);
  status = deepmd_neighbors_update(entry->neighbors.get(), geometry.n_atoms, geometry.positions, geometry.cell,
                                   geometry.pbc, list, &rebuilt);
  if (status != DEEPMD_OK) {
    entry->built_at.clear();
    return status;
  }
  if (rebuilt) {
    ++n_built_;
    const std::size_t n = 3 * static_cast<std::size_t>(geometry.n_atoms);
    entry->built_at.assign(geometry.positions, geometry.positions + n);
    const double bytes = 16.0 * static_cast<double>(list->first[list->n_centers]) + 32.0 * static_cast<double>(n);
    largest_ = static_cast<std::size_t>(std::clamp(kMemory / bytes, 1.0, kMostLists));
  }
  return DEEPMD_OK;
}

}  // namespace deepmd::ipi
