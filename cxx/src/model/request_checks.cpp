#include "model/request_checks.hpp"

#include <cmath>

#include "core/error.hpp"

namespace deepmd {
namespace {

[[noreturn]] void refuse(const std::string& sentence) { throw Error(DEEPMD_ERROR_ARGUMENT, sentence); }

void check_types(const Frame& frame, const Metadata& metadata) {
  const int n_types = static_cast<int>(metadata.type_map.size());
  for (std::size_t i = 0; i < frame.n_all(); ++i) {
    if (frame.types[i] >= 0 && frame.types[i] < n_types) continue;
    refuse(text("atom ", i + 1, " has type ", frame.types[i], ", expected 0 to ", n_types - 1,
                " (an index into the model's type_map)"));
  }
}

void check_parameters(const double* values, std::size_t n_rows, int dim, const char* name, const char* whose) {
  if (dim == 0 && values) refuse(text(name, " was passed to a model that takes none; leave it out"));
  if (dim > 0 && !values && n_rows > 0) {
    refuse(text(name, " is missing: the model takes ", dim, " ", whose, " parameters; pass them"));
  }
  for (std::size_t k = 0; values && k < n_rows * static_cast<std::size_t>(dim); ++k) {
    if (!std::isfinite(values[k])) refuse(text("entry ", k + 1, " of ", name, " is ", values[k], ", expected a number"));
  }
}

void check_spins(const Frame& frame, const Metadata& metadata) {
  if (!metadata.has_spins() && frame.spins) refuse("spins were passed to a model that takes none; leave them out");
  if (metadata.has_spins() && !frame.spins && frame.n_all() > 0) {
    refuse("spins are missing: the model takes three numbers for each atom; pass them");
  }
  for (std::size_t i = 0; metadata.has_spins() && i < frame.n_all(); ++i) {
    const double* s = frame.spins + 3 * i;
    const double length = std::sqrt(s[0] * s[0] + s[1] * s[1] + s[2] * s[2]);
    const double scale = metadata.spin.scale[static_cast<std::size_t>(frame.types[i])];
    if (length * scale <= metadata.spin.reach) continue;
    refuse(text("the spin of atom ", i + 1, " is ", length, " Bohr magnetons long, expected at most ",
                metadata.spin.reach / scale, ", which the model was made for; train it on data with such spins"));
  }
}

void check_owners(const Frame& frame) {
  const int* owners = frame.list.owners;
  for (int i = 0; i < frame.n_local + frame.n_ghost; ++i) {
    const bool is_owner = i < frame.n_local ? owners[i] == i : owners[i] >= 0 && owners[i] < frame.n_local;
    if (!is_owner || frame.types[owners[i]] != frame.types[i]) {
      refuse(text("the owner of atom ", i + 1, " is ", owners[i], ", expected ",
                  i < frame.n_local ? text("the local atom itself, ", i)
                                    : text("a local atom of the ghost's type, 0 to ", frame.n_local - 1)));
    }
  }
}

// What only says how far neighbours are: whoever evaluates finds them.
void check_list_without_rows(const Frame& frame, double rcut) {
  const ListView& list = frame.list;
  if (!(list.radius >= rcut && list.radius <= 1e6)) {
    refuse(text("the neighbour list has no rows and the radius ", list.radius, ", expected at least the cutoff ", rcut,
                " Angstrom; pass rows, or a radius"));
  }
  if (frame.cell) {
    refuse("the neighbour list has no rows, and there is a cell, expected periodic images as ghosts; pass ghosts and no cell, or "
           "rows with shifts");
  }
  if (list.n_centers != frame.n_local) {
    refuse(text("the neighbour list has ", list.n_centers, " centres, expected the ", frame.n_local, " local atoms"));
  }
  if (list.owners) check_owners(frame);
}

void check_list(const Frame& frame, const int* pbc) {
  const ListView& list = frame.list;
  const auto n_all = static_cast<std::int64_t>(frame.n_all());
  if (list.n_centers != frame.n_local && list.n_centers != n_all) {
    refuse(text("the neighbour list has ", list.n_centers, " centres, expected one row for each of the ",
                frame.n_local, " local atoms, or for each of the ", n_all, " atoms with ghosts"));
  }
  if (list.owners) check_owners(frame);
  if (!list.first || list.first[0] != 0) refuse("the neighbour list has no row starts, or they do not begin with 0");
  for (int i = 0; i < list.n_centers; ++i) {
    if (list.first[i + 1] < list.first[i]) refuse(text("row ", i + 1, " of the neighbour list ends before it starts"));
  }
  const std::int64_t n_pairs = list.first[list.n_centers];
  if (n_pairs > 0 && !list.index) refuse("the neighbour list has rows but no indices");
  if (list.shift && n_pairs > 0 && !frame.cell) {
    bool is_shifted = false;
    for (std::int64_t k = 0; k < 3 * n_pairs; ++k) is_shifted = is_shifted || list.shift[k] != 0;
    if (is_shifted) refuse("the neighbour list has periodic shifts but there is no cell; pass the cell");
  }
  if (list.shift) make_cell(frame.cell, frame.cell ? pbc : nullptr);
  for (std::int64_t k = 0; k < n_pairs; ++k) {
    if (list.index[k] >= 0 && list.index[k] < n_all) continue;
    refuse(text("entry ", k + 1, " of the neighbour list is ", list.index[k], ", expected 0 to ", n_all - 1));
  }
}

}  // namespace

void check_request(const Request& request, const Metadata& metadata) {
  const Frame& frame = request.frame;
  if (frame.n_local < 0 || frame.n_ghost < 0) {
    refuse(text("n_local is ", frame.n_local, " and n_ghost ", frame.n_ghost, ", expected 0 or more"));
  }
  if (frame.n_all() > 0 && (!frame.positions || !frame.types)) refuse("positions or types are missing; pass both");
  if (!request.has_list && frame.n_ghost > 0) {
    refuse(text(frame.n_ghost, " ghost atoms were passed without a neighbour list; pass the list too"));
  }
  check_types(frame, metadata);
  check_positions(static_cast<int>(frame.n_all()), frame.positions);
  check_parameters(frame.fparam, 1, metadata.dim_fparam, "fparam", "frame");
  check_parameters(frame.aparam, static_cast<std::size_t>(frame.n_local), metadata.dim_aparam, "aparam", "atomic");
  const bool has_owners = request.has_list && frame.list.owners;  // whose parameters are those of their images
  if (!metadata.has_fragments() || !has_owners) {
    check_parameters(frame.ghost_aparam, static_cast<std::size_t>(frame.n_ghost),
                     metadata.has_fragments() ? metadata.dim_aparam : 0, "aparam of ghosts", "atomic");
  }
  check_spins(frame, metadata);
  if (!request.has_list) return;
  if (frame.list.has_rows()) {
    check_list(frame, request.pbc);
  } else {
    check_list_without_rows(frame, metadata.rcut);
  }
}

}  // namespace deepmd
