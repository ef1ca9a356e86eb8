// pair_style deepmd: forces of a Deep Potential model in LAMMPS.
#ifndef DEEPMD_LAMMPS_PAIR_DEEPMD_H
#define DEEPMD_LAMMPS_PAIR_DEEPMD_H

#include <string>
#include <vector>

#include "deviation_file.hpp"
#include "lmp_adapter.hpp"
#include "pair.h"
#include "pair_settings.hpp"
#include "shared_model.hpp"

namespace LAMMPS_NS {
class Compute;
}

namespace deepmd {

std::string format_number(double value);

/// What is wanted from a model besides energy and forces.
struct Wanted {
  bool virial = false;
  bool atom_energy = false;
  bool atom_virial = false;
};

/// What one model says about this rank's atoms, in core units.
struct ModelResult {
  double energy = 0.0;              // eV
  double virial[9] = {};            // eV
  std::vector<double> forces;       // [n_all][3] eV/Angstrom
  std::vector<double> atom_energy;  // [n_local] eV
  std::vector<double> atom_virial;  // [n_all][3][3] eV
};

class PairDeepMD : public LAMMPS_NS::Pair {
 public:
  explicit PairDeepMD(LAMMPS_NS::LAMMPS* lmp);
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

  int pack_reverse_comm(int n, int first, double* buffer) override;
  void unpack_reverse_comm(int n, int* list, double* buffer) override;

  void* extract(const char* name, int& dimension) override;
  double memory_usage() override;

 private:
  // pair_deepmd_setup.cpp: settings and coefficients
  [[noreturn]] void fail(const std::string& message) const;
  void allocate();
  void mark_types_set();
  void open_models();
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
  void check_computes() const;
  LAMMPS_NS::Compute* find_compute(const std::string& keyword, const std::string& id) const;
  void check_special_bonds();
  bool drops_special_pair(int i) const;

  // pair_deepmd.cpp: a force call
  bool list_is_new();
  void check_ghost_cutoff() const;
  double scale_factor() const;
  void update_parameters();
  void evaluate(int k, const Wanted& wanted, ModelResult* result);
  void report_outside(int64_t n_pairs);
  void scatter(double factor);
  [[noreturn]] void fail_evaluation(deepmd_status status) const;
  std::string name_atom(int i) const;

  // pair_deepmd_deviation.cpp: how far several models disagree
  bool deviation_due() const;
  void open_deviation_file();
  void write_deviation();
  void keep_forces(int k, const ModelResult& result);
  std::vector<double> local_deviations() const;
  void summarise_forces(const std::vector<double>& deviations, DeviationRow* row);
  void summarise_virials(std::vector<double>* virials, DeviationRow* row);
  void gather_deviations(const std::vector<double>& deviations, DeviationRow* row);

  std::vector<std::string> words_;  // of pair_style, kept for restart files
  std::vector<std::string> names_;  // of pair_coeff; empty: none were written
  bool types_printed_ = false;
  PairSettings settings_;
  std::vector<ModelHandle> models_;
  SharedModelInfo info_;
  std::vector<int> type_to_model_;  // [ntypes] -1: invisible
  double cutoff_ = 0.0;             // LAMMPS units
  double energy_unit_ = 1.0;        // eV in LAMMPS units
  double length_unit_ = 1.0;        // Angstrom in LAMMPS units
  int n_threads_ = 0;
  double** scale_ = nullptr;        // [ntypes + 1][ntypes + 1]

  LmpAdapter adapter_;
  bool special_checked_ = false;
  bool outside_reported_ = false;
  LAMMPS_NS::bigint last_list_calls_ = -1;
  LAMMPS_NS::bigint last_list_step_ = -1;
  const void* last_list_ = nullptr;

  std::vector<double> fparam_;       // [dim_fparam]
  std::vector<double> aparam_;       // [n_local][dim_aparam]
  ModelResult result_;               // of the first model

  DeviationFile deviation_file_;     // open on the first rank
  bool restarted_ = false;
  ModelResult other_;                // of the other models, one after the other
  std::vector<double> all_forces_;   // [n_models][LAMMPS n_all][3] LAMMPS units
};

}  // namespace deepmd

#endif
