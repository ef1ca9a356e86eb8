// What a user writes behind `pair_style deepmd` and `pair_coeff * *`, as plain data. No LAMMPS types, no model.
#ifndef DEEPMD_LAMMPS_PAIR_SETTINGS_HPP
#define DEEPMD_LAMMPS_PAIR_SETTINGS_HPP

#include <stdexcept>
#include <string>
#include <vector>

namespace deepmd {

/// One sentence for the user: what, got, expected, remedy.
class SettingsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The words of `pair_style deepmd model.pth [keyword value ...]`.
struct PairSettings {
  std::vector<std::string> models;
  std::vector<double> fparam;
  std::vector<double> aparam;
  std::string fparam_compute;  // compute ID, "" if none
  std::string aparam_compute;  // compute ID, "" if none
  std::string ttm_fix;         // fix ID, "" if none
  bool ttm_as_fparam = false;  // the model takes no aparam: its fparam is the mean temperature
  std::string out_file = "model_devi.out";
  int out_freq = 100;
  bool atomic = false;
  double relative = -1.0;    // level, negative: absolute deviations
  double relative_v = -1.0;  // level, negative: absolute deviations
  double stop_above = -1.0;  // largest force deviation that a run may go on with, negative: any
  int stop_checks = 1;       // how many checks in a row it takes to stop
  std::string select_path;   // where frames go whose largest force deviation is in [select_low, select_high), "": nowhere
  double select_low = 0.0;
  double select_high = 0.0;
  std::string path;       // auto, fused, cuda or script; "": as the environment says
  std::string precision;  // float64, mixed, or tf32 (path cuda); "": as the environment says
  std::string observers;  // precision of the models beside the first one; "": as that one's
  bool mass_check = true;
  bool selftest = true;
};

/// Everything before the first keyword is a model file. Throws SettingsError.
PairSettings parse_pair_settings(const std::vector<std::string>& words);

/// The facts about a model that decide whether settings fit it.
struct ModelFacts {
  std::string name;
  int dim_fparam = 0;
  int dim_aparam = 0;
  bool has_default_fparam = false;
};

/// Compares the numbers given with the numbers that the model takes. Throws SettingsError.
void check_parameter_counts(const PairSettings& settings, const ModelFacts& model);

/// The words behind `pair_coeff * *`, one per LAMMPS type, as model indices; -1 stands for NULL. Throws SettingsError.
std::vector<int> map_elements(const std::vector<std::string>& names, const std::vector<std::string>& type_map,
                              int n_atom_types);

}  // namespace deepmd

#endif
