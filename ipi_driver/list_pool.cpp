#include "list_pool.hpp"

#include <algorithm>

namespace deepmd::ipi {

namespace {
// Bytes that all lists together may take: a path integral of a large system is not worth a list for every bead.
constexpr double kMemory = 256.0 * 1024 * 1024;
constexpr double kMostLists = 64;

// F with now = built . F, cell vectors as rows. The cells have a volume: the evaluator has checked them.
void deform(const double* built, const double* now, double* deformation) {
  double inverse[9];
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      const int r = (b + 1) % 3, s = (b + 2) % 3, c = (a + 1) % 3, d = (a + 2) % 3;
      inverse[3 * a + b] = built[3 * r + c] * built[3 * s + d] - built[3 * r + d] * built[3 * s + c];
    }
  }
  const double determinant = built[0] * inverse[0] + built[1] * inverse[3] + built[2] * inverse[6];
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      const double* row = inverse + 3 * a;
      deformation[3 * a + b] = (row[0] * now[b] + row[1] * now[3 + b] + row[2] * now[6 + b]) / determinant;
    }
  }
}
}  // namespace

// True if no atom is further than half the skin from where it was when the list was built, once the deformation of the
// cell since then is taken off (a barostat carries all atoms along).
bool ListPool::fits(const Entry& entry, const Geometry& geometry) const {
  const std::size_t n = 3 * static_cast<std::size_t>(geometry.n_atoms);
  if (entry.built_at.size() != n || entry.built_cell.empty() != (geometry.cell == nullptr)) {
    return false;
  }
  double deformation[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const bool deformed =
      geometry.cell != nullptr && !std::equal(entry.built_cell.begin(), entry.built_cell.end(), geometry.cell);
  if (deformed) {
    deform(entry.built_cell.data(), geometry.cell, deformation);
  }
  const double limit = 0.25 * skin_ * skin_;
  for (std::size_t k = 0; k < n; k += 3) {
    const double* was = entry.built_at.data() + k;
    double squared = 0.0;
    for (std::size_t a = 0; a < 3; ++a) {
      const double carried =
          deformed ? was[0] * deformation[a] + was[1] * deformation[3 + a] + was[2] * deformation[6 + a] : was[a];
      const double moved = geometry.positions[k + a] - carried;
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
    entry->stamp = deepmd_new_stamp();
    const std::size_t n = 3 * static_cast<std::size_t>(geometry.n_atoms);
    entry->built_at.assign(geometry.positions, geometry.positions + n);
    entry->built_cell.assign(geometry.cell, geometry.cell == nullptr ? nullptr : geometry.cell + 9);
    const double bytes = 16.0 * static_cast<double>(list->first[list->n_centers]) + 32.0 * static_cast<double>(n);
    largest_ = static_cast<std::size_t>(std::clamp(kMemory / bytes, 1.0, kMostLists));
  }
  list->owners = nullptr;
  list->stamp = entry->stamp;
  list->size = sizeof(deepmd_list);
  return DEEPMD_OK;
}

}  // namespace deepmd::ipi
