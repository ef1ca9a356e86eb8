// pair_style deepmd: forces of a Deep Potential model in LAMMPS.
#ifndef DEEPMD_LAMMPS_PAIR_DEEPMD_H
#define DEEPMD_LAMMPS_PAIR_DEEPMD_H

#include <memory>
#include <string>
#include <vector>

#include "deviation_file.hpp"
#include "frame_writer.hpp"
#include "lmp_adapter.hpp"
#include "pair.h"
#include "pair_settings.hpp"
#include "shared_model.hpp"

namespace LAMMPS_NS {
class Compute;
class Fix;
}

namespace deepmd {

std::string format_number(double value);

/// What is wanted from a model besides energy and forces; the parts of atoms only from the first model.
struct Wanted {
  bool virial = false;
  bool atom_energy = false;
  bool atom_virial = false;
  bool comparison = false;  // the core evaluates all models and compares their forces
};

/// How far the models disagree, where the core has compared them, in core units.
struct CoreComparison {
  bool is_done = false;
  deepmd_deviation found;
  double largest_force = 0.0;
};

/// What one model says about this rank's atoms, in core units.
struct ModelResult {
  double energy = 0.0;              // eV
  double virial[9] = {};            // eV
  std::vector<double> forces;       // [n_all][3] eV/Angstrom
  std::vector<double> atom_energy;  // [n_local] eV
  std::vector<double> atom_virial;  // [n_all][3][3] eV
  std::vector<double> spin_forces;  // [n_all][3] eV per Bohr magneton, of models of spins
};

class PairDeepMD : public LAMMPS_NS::Pair {
 public:
  /// with_spins: pair_style deepspin, for models of positions and spins.
  explicit PairDeepMD(LAMMPS_NS::LAMMPS* lmp, bool with_spins = false);
  ~PairDeepMD() override;

  void settings(int narg, char** arg) override;
  void coeff(int narg, char** arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void compute(int eflag, int vflag) override;

  void write_restart(FILE* file) override;
  void read_restart(FILE* file) override;
  void write_restart_settings(FILE* file) override;
  void read_restart_settings(FILE* file) override;

  int pack_forward_comm(int n, int* list, double* buffer, int pbc_flag, int* pbc) override;
  void unpack_forward_comm(int n, int first, double* buffer) override;
  int pack_reverse_comm(int n, int first, double* buffer) override;
  void unpack_reverse_comm(int n, int* list, double* buffer) override;

  void* extract(const char* name, int& dimension) override;
  void* extract_peratom(const char* name, int& n_columns) override;
  double memory_usage() override;

 private:
  // pair_deepmd_setup.cpp: settings and coefficients
  [[noreturn]] void fail(const std::string& message) const;
  void allocate();
  void mark_types_set();
  void open_models();
  void close_models();
  void read_model_facts();
  void require_models();
  void require_units() const;
  void print_models() const;

  // pair_deepmd_types.cpp: which element each type is
  void print_types() const;
  void resolve_types();
  std::vector<int> resolve_without_names() const;
  std::string suggested_line() const;
  void check_masses() const;
  bool mass_of_type(int type, double* mass) const;

  // pair_deepmd_checks.cpp: what the rest of the input must provide
  void check_surroundings() const;
  GhostView ghost_view() const;
  double ghost_reach() const;
  void ask_for_list();
  std::string why_lammps_list() const;
  void check_computes() const;
  LAMMPS_NS::Compute* find_compute(const std::string& keyword, const std::string& id) const;
  LAMMPS_NS::Fix* find_temperature_fix() const;
  void check_special_bonds();
  void check_modifier() const;

  // pair_deepmd.cpp: a force call
  bool list_is_new();
  NeighborSource neighbor_source() const;
  void check_ghost_cutoff() const;
  void check_own_list();
  double scale_factor() const;
  void update_parameters();  // pair_deepmd_parameters.cpp
  void take_temperatures();
  void take_fragments();
  void evaluate(size_t n_models, const Wanted& wanted);
  void report_outside(int64_t n_pairs);
  void scatter(double factor);
  void scatter_spin_forces(double factor);
  void check_spins() const;
  [[noreturn]] void fail_evaluation(deepmd_status status) const;
  std::string name_atom(int i) const;

  // pair_deepmd_deviation.cpp: how far several models disagree
  bool deviation_due() const;
  void check_deviation();
  bool compares_in_core();
  bool wants_deviations_of_atoms() const;
  void compare_in_core(const deepmd_input& input);
  double compared_row(DeviationRow* row);
  double collected_row(DeviationRow* row);
  void collect_forces();
  double compute_row(deepmd_deviation_input input, DeviationRow* row);
  deepmd_spread reduce(const deepmd_spread& mine) const;
  void publish(const DeviationRow& row, double absolute);
  void gather_atoms(DeviationRow* row);

  // pair_deepmd_watch.cpp: what a deviation sets off: a row in the file, a stop, a frame for labelling
  void prepare_deviations();
  Continuation continuation() const;
  std::string describe_deviations() const;
  void check_selection() const;
  void act_on(const DeviationRow& row);
  void apply_stop_rule(const DeviationRow& row);
  std::string select_frame(const DeviationRow& row);
  std::vector<double> gather_frame() const;
  SelectedFrame arrange_frame(const std::vector<double>& rows, const DeviationRow& row) const;

  const bool with_spins_;
  std::vector<std::string> words_;  // of pair_style, kept for restart files
  std::vector<std::string> names_;  // of pair_coeff; empty: none were written
  bool types_printed_ = false;
  PairSettings settings_;
  std::vector<ModelHandle> models_;
  EnsembleHandle ensemble_;         // of models_
  SharedModelInfo info_;
  std::vector<int> type_to_model_;  // [ntypes] -1: invisible
  double cutoff_ = 0.0;             // LAMMPS units
  double energy_unit_ = 1.0;        // eV in LAMMPS units
  double length_unit_ = 1.0;        // Angstrom in LAMMPS units
  int n_threads_ = 0;
  double** scale_ = nullptr;        // [ntypes + 1][ntypes + 1]

  LmpAdapter adapter_;
  bool special_checked_ = false;
  bool finds_neighbors_ = false;    // the core does, so that LAMMPS makes no list
  bool models_find_neighbors_ = false;
  std::string list_printed_;
  bool outside_reported_ = false;
  LAMMPS_NS::bigint last_list_calls_ = -1;
  LAMMPS_NS::bigint last_list_step_ = -1;
  const void* last_list_ = nullptr;

  std::vector<double> fparam_;       // [dim_fparam]
  std::vector<double> aparam_;       // [n_local][dim_aparam]
  std::vector<double> ghost_aparam_;  // [n_ghost][dim_aparam], of models of fragments
  std::vector<double> sent_aparam_;   // [LAMMPS n_all][dim_aparam], on its way from owners to ghosts
  std::vector<ModelResult> results_;   // [n_models]
  std::vector<deepmd_output> outputs_;
  CoreComparison comparison_;

  DeviationFile deviation_file_;                // open on the first rank
  std::unique_ptr<FrameWriter> frame_writer_;   // on the first rank, null: no selection
  std::string opened_file_, opened_selection_;  // by this style, to be continued
  bool restarted_ = false;
  LAMMPS_NS::bigint restart_step_ = -1;
  int deviation_asked_ = 0;                     // fix pair wants devi_f in this step
  LAMMPS_NS::bigint deviation_step_ = -1;       // of deviations_
  std::vector<double> deviations_;              // [LAMMPS nlocal] of the forces, 0 for invisible atoms
  std::vector<double> seen_deviations_;         // [n_local]
  std::vector<double> all_forces_;              // [n_models][LAMMPS n_all][3] LAMMPS units
  std::vector<double> seen_forces_;             // [n_models][n_local][3] LAMMPS units
  std::vector<double> virials_;                 // [n_models][3][3] of all ranks, LAMMPS units
  double published_[8] = {};                    // pvector of LAMMPS, see README
  int n_above_ = 0, n_above_before_ = 0;        // checks in a row above the stop level; before the step of the last one
  LAMMPS_NS::bigint above_step_ = -1;
  bool stopping_ = false;
};

}  // namespace deepmd

#endif
