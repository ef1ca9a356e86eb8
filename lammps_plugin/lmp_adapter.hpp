// Between LAMMPS' atoms and the engine's arrays: gathers positions, types and the neighbour list, and leaves out the
// atoms that the model must not see. Core units (Angstrom) on the engine's side.
#ifndef DEEPMD_LAMMPS_LMP_ADAPTER_HPP
#define DEEPMD_LAMMPS_LMP_ADAPTER_HPP

#include <cstdint>
#include <vector>

#include "deepmd/deepmd.h"

namespace LAMMPS_NS {
class Atom;
class NeighList;
}  // namespace LAMMPS_NS

namespace deepmd {

/// Two atoms too close to each other, or one atom without a finite position (then j is -1).
struct BadGeometry {
  bool found = false;
  int i = -1;  // LAMMPS index
  int j = -1;  // LAMMPS index
  double distance = 0.0;  // Angstrom
};

/// What the model is told about ghosts. Models that pass messages need the surroundings of ghosts: on one rank each ghost
/// is the image of an owned atom; on several, ghosts have rows in the list.
enum class GhostView { plain, owners, rows };

/// Where neighbours come from: LAMMPS' list, or the core, which finds them from positions.
struct NeighborSource {
  const LAMMPS_NS::NeighList* list = nullptr;  // null: the core finds all atoms within
  double radius = 0.0;                         // LAMMPS units
};

class LmpAdapter {
 public:
  /// type_to_model [n_atom_types]: model index of LAMMPS type t + 1, -1 for NULL.
  /// length_unit: 1 Angstrom in LAMMPS' units.
  void configure(const std::vector<int>& type_to_model, double length_unit, GhostView ghosts);
  /// The model takes spins: unit vector times length of `atom_style spin`.
  void take_spins() { with_spins_ = true; }

  /// Brings the arrays up to date; the list rows are renewed if `list_is_new` or if other atoms became visible.
  /// Returns the LAMMPS index of a visible atom that should have a row, or an owner, and has none, -1 if all is well.
  int gather(const LAMMPS_NS::Atom& atom, const NeighborSource& source, bool list_is_new);

  int n_local() const { return n_local_; }
  int n_ghost() const { return static_cast<int>(to_lammps_.size()) - n_local_; }
  int n_all() const { return static_cast<int>(to_lammps_.size()); }
  /// LAMMPS index of visible atom k, owned ones first.
  int lammps_index(int k) const { return to_lammps_[k]; }
  bool sees_type(int lammps_type) const { return type_to_model_[lammps_type - 1] >= 0; }

  /// Input for deepmd_evaluate; it points into this object and lives until the next gather.
  deepmd_input input() const;

  /// On one rank: whether each visible ghost is the image of a visible local atom. Then input() tells which, until the next
  /// gather. After gather.
  bool names_owners(const LAMMPS_NS::Atom& atom);

  /// Whether bonds of weight 0 (special_flag [4] of LAMMPS' neighbor lists) keep visible pairs off the list. After gather.
  bool loses_bonded_pairs(const LAMMPS_NS::Atom& atom, const int* special_flag) const;

  /// Looks for the reason of a refused geometry among the pairs of local atoms.
  BadGeometry find_bad_geometry(double min_distance) const;

  double memory_usage() const;

 private:
  void build_index(const LAMMPS_NS::Atom& atom);
  int build_rows(const LAMMPS_NS::Atom& atom, const LAMMPS_NS::NeighList& list);
  int find_owners(const LAMMPS_NS::Atom& atom);
  bool visibility_changed(const LAMMPS_NS::Atom& atom) const;
  void find_close_pair(const deepmd_list& list, BadGeometry* bad) const;

  std::vector<int> type_to_model_;
  double to_angstrom_ = 1.0;
  GhostView ghosts_ = GhostView::plain;

  int lammps_local_ = 0;
  int n_local_ = 0;
  std::vector<int> to_core_;     // [LAMMPS n_all] index among visible atoms, -1 if invisible
  std::vector<int> to_lammps_;   // [n_all]
  std::vector<double> positions_;  // [n_all][3] Angstrom
  std::vector<int> types_;         // [n_all]
  bool with_spins_ = false;
  std::vector<double> spins_;      // [n_all][3] Bohr magnetons
  std::vector<int64_t> first_;     // [n_local + 1], [n_all + 1] if ghosts have rows
  std::vector<int> index_;         // [last of first]
  std::vector<int> owners_;        // [n_all], empty if nobody asks
  uint64_t owners_stamp_ = 0;      // of the list whose owners_ these are
  bool owners_known_ = false;
  deepmd_list list_{};
};

}  // namespace deepmd

#endif
