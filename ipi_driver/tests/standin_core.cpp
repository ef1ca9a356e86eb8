// A stand-in of libdeepmd for the tests of the driver: a Lennard-Jones model behind the functions of deepmd.h that the
// driver calls. The model file is text, words and values:
//   standin  type_map O H  [rcut 4.0]  [dim_fparam 1]  [kind dipole]  
//     [delay MILLISECONDS]  [fault nan_energy|nan_force|nonfinite|internal]
// Faults let the driver meet a core that breaks its word. With fparam p the energy is multiplied by p.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "deepmd/deepmd.h"

namespace {

std::string last_error;

deepmd_status refuse(deepmd_status status, const std::string& sentence) {
  last_error = sentence;
  return status;
}

struct Cell {
  double rows[9];
  double inverse[9];  // columns dot position = fractional coordinates: f[a] = sum_b inverse[3 a + b] r[b]
};

bool invert(Cell& cell) {
  const double* m = cell.rows;
  double cofactor[9];
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      const int r = (a + 1) % 3, s = (a + 2) % 3, c = (b + 1) % 3, d = (b + 2) % 3;
      cofactor[3 * a + b] = m[3 * r + c] * m[3 * s + d] - m[3 * r + d] * m[3 * s + c];
    }
  }
  const double determinant = m[0] * cofactor[0] + m[1] * cofactor[1] + m[2] * cofactor[2];
  for (int k = 0; k < 9; ++k) {
    cell.inverse[k] = cofactor[k] / determinant;
  }
  return determinant > 0.0;
}

double epsilon_of(int t, int u) { return 0.01 * (1 + t + u); }
double sigma_of(int t, int u) { return 1.5 + 0.1 * (t + u); }

}  // namespace

struct deepmd_model {
  std::vector<std::string> names;
  std::vector<const char*> type_map;
  double rcut = 4.0;
  int dim_fparam = 0;
  std::string kind = "energy";
  std::string fault;
  int delay = 0;  // of each evaluation
};

struct deepmd_neighbors {
  double rcut = 0.0;
  double skin = 0.0;
  std::vector<double> built_at;
  std::vector<double> cell;
  std::vector<int> pbc;
  std::vector<int64_t> first;
  std::vector<int> index;
  std::vector<int> shift;
};

const char* deepmd_last_error(void) { return last_error.c_str(); }
const char* deepmd_status_name(deepmd_status) { return "DP_STANDIN"; }
const char* deepmd_version(void) { return "0.0.0-standin"; }

void deepmd_open_options_init(deepmd_open_options* options) {
  *options = deepmd_open_options{};
  options->size = sizeof *options;
  options->run_selftest = 1;
}

deepmd_status deepmd_model_open(const char* path, const deepmd_open_options*, deepmd_model** model) {
  std::ifstream stream(path);
  std::string word;
  if (!(stream >> word)) {
    return refuse(DEEPMD_ERROR_FILE, std::string("cannot read ") + path);
  }
  if (word != "standin") {
    return refuse(DEEPMD_ERROR_FORMAT, std::string(path) + " is not a stand-in model");
  }
  auto* opened = new deepmd_model;
  while (stream >> word) {
    if (word == "type_map") {
      std::string rest;
      std::getline(stream, rest);
      std::istringstream names(rest);
      for (std::string name; names >> name;) {
        opened->names.push_back(name);
      }
    } else if (word == "rcut") {
      stream >> opened->rcut;
    } else if (word == "dim_fparam") {
      stream >> opened->dim_fparam;
    } else if (word == "kind") {
      stream >> opened->kind;
    } else if (word == "delay") {
      stream >> opened->delay;
    } else if (word == "fault") {
      stream >> opened->fault;
    }
  }
  for (const std::string& name : opened->names) {
    opened->type_map.push_back(name.c_str());
  }
  *model = opened;
  return DEEPMD_OK;
}

void deepmd_model_free(deepmd_model* model) { delete model; }

deepmd_status deepmd_model_info(const deepmd_model* model, deepmd_info* info) {
  info->rcut = model->rcut;
  info->n_types = static_cast<int>(model->type_map.size());
  info->type_map = model->type_map.data();
  info->dim_fparam = model->dim_fparam;
  info->dim_aparam = 0;
  info->has_default_fparam = 0;
  info->kind = model->kind.c_str();
  info->path_in_use = "standin";
  info->metadata_json = "{}";
  info->min_pair_distance = 0.0;
  return DEEPMD_OK;
}

deepmd_status deepmd_neighbors_new(double rcut, double skin, deepmd_neighbors** neighbors) {
  *neighbors = new deepmd_neighbors;
  (*neighbors)->rcut = rcut;
  (*neighbors)->skin = skin;
  return DEEPMD_OK;
}

void deepmd_neighbors_free(deepmd_neighbors* neighbors) { delete neighbors; }

namespace {

bool still_good(const deepmd_neighbors& list, const std::vector<double>& positions, const std::vector<double>& cell) {
  if (list.built_at.size() != positions.size() || list.cell != cell) {
    return false;
  }
  for (std::size_t k = 0; k < positions.size(); k += 3) {
    double squared = 0.0;
    for (std::size_t a = 0; a < 3; ++a) {
      squared += std::pow(positions[k + a] - list.built_at[k + a], 2);
    }
    if (squared > 0.25 * list.skin * list.skin) {
      return false;
    }
  }
  return true;
}

void build(deepmd_neighbors& list, const Cell& cell, const int* pbc) {
  const double reach = list.rcut + list.skin;
  int images[3] = {0, 0, 0};
  for (int a = 0; a < 3 && pbc != nullptr; ++a) {
    const double* row = cell.inverse + 3 * a;
    const double per_height = std::sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2]);
    images[a] = pbc[a] ? static_cast<int>(reach * per_height) + 1 : 0;
  }
  const int n = static_cast<int>(list.built_at.size() / 3);
  list.first.assign(1, 0);
  list.index.clear();
  list.shift.clear();
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      double apart[3], base[3] = {0, 0, 0};
      for (int a = 0; a < 3; ++a) {
        apart[a] = list.built_at[3 * j + a] - list.built_at[3 * i + a];
      }
      for (int a = 0; a < 3; ++a) {
        const double* row = cell.inverse + 3 * a;
        base[a] = images[a] ? -std::round(row[0] * apart[0] + row[1] * apart[1] + row[2] * apart[2]) : 0.0;
      }
      for (int u = -images[0]; u <= images[0]; ++u) {
        for (int v = -images[1]; v <= images[1]; ++v) {
          for (int w = -images[2]; w <= images[2]; ++w) {
            const double s[3] = {base[0] + u, base[1] + v, base[2] + w};
            double squared = 0.0;
            for (int a = 0; a < 3; ++a) {
              const double r = apart[a] + s[0] * cell.rows[a] + s[1] * cell.rows[3 + a] + s[2] * cell.rows[6 + a];
              squared += r * r;
            }
            const bool itself = i == j && s[0] == 0.0 && s[1] == 0.0 && s[2] == 0.0;
            if (!itself && squared < reach * reach) {
              list.index.push_back(j);
              for (const double value : s) {
                list.shift.push_back(static_cast<int>(value));
              }
            }
          }
        }
      }
    }
    list.first.push_back(static_cast<int64_t>(list.index.size()));
  }
}

}  // namespace

uint64_t deepmd_new_stamp(void) {
  static uint64_t last = 0;
  return ++last;
}

deepmd_status deepmd_neighbors_update(deepmd_neighbors* neighbors, int n_atoms, const double* positions,
                                      const double* cell, const int* pbc, deepmd_list* list, int* rebuilt) {
  const std::vector<double> now(positions, positions + 3 * static_cast<std::size_t>(n_atoms));
  const std::vector<double> rows = cell ? std::vector<double>(cell, cell + 9) : std::vector<double>();
  const bool keep = still_good(*neighbors, now, rows);
  if (!keep) {
    Cell box{};
    if (cell != nullptr) {
      std::memcpy(box.rows, cell, sizeof box.rows);
      if (!invert(box)) {
        return refuse(DEEPMD_ERROR_GEOMETRY, "the cell is singular or left-handed");
      }
    }
    neighbors->built_at = now;
    neighbors->cell = rows;
    build(*neighbors, box, pbc);
  }
  if (rebuilt != nullptr) {
    *rebuilt = keep ? 0 : 1;
  }
  list->n_centers = n_atoms;
  list->first = neighbors->first.data();
  list->index = neighbors->index.data();
  list->shift = neighbors->shift.data();
  return DEEPMD_OK;
}

void deepmd_input_init(deepmd_input* input) {
  *input = deepmd_input{};
  input->size = sizeof *input;
}

void deepmd_output_init(deepmd_output* output) {
  *output = deepmd_output{};
  output->size = sizeof *output;
}

namespace {

// Adds the pair k of centre i; false if the atoms are on top of each other.
bool add_pair(const deepmd_model& model, const deepmd_input& input, int i, int64_t k, deepmd_output& output) {
  const int j = input.list->index[k];
  double r[3], squared = 0.0;
  for (int a = 0; a < 3; ++a) {
    r[a] = input.positions[3 * j + a] - input.positions[3 * i + a];
    for (int b = 0; b < 3 && input.cell != nullptr; ++b) {
      r[a] += input.list->shift[3 * k + b] * input.cell[3 * b + a];
    }
    squared += r[a] * r[a];
  }
  if (squared < 0.05 * 0.05) {
    return false;
  }
  if (squared >= model.rcut * model.rcut) {
    return true;
  }
  const double sigma = sigma_of(input.types[i], input.types[j]);
  const double epsilon = epsilon_of(input.types[i], input.types[j]) * (input.fparam ? input.fparam[0] : 1.0);
  const double sixth = std::pow(sigma * sigma / squared, 3);
  const double pair = 2.0 * epsilon * (sixth * sixth - sixth);
  if (output.energy != nullptr) {
    *output.energy += pair;
  }
  if (output.atom_energy != nullptr) {
    output.atom_energy[i] += pair;
  }
  const double slope = -12.0 * epsilon * (2.0 * sixth * sixth - sixth) / squared;  // dE/dr / r of half a pair
  for (int a = 0; a < 3; ++a) {
    output.forces[3 * j + a] -= slope * r[a];
    output.forces[3 * i + a] += slope * r[a];
    for (int b = 0; b < 3; ++b) {
      if (output.virial != nullptr) {
        output.virial[3 * a + b] -= slope * r[a] * r[b];
      }
      if (output.atom_virial != nullptr) {
        output.atom_virial[9 * j + 3 * a + b] -= slope * r[a] * r[b];
      }
    }
  }
  return true;
}

void clear(double* values, std::size_t count) {
  if (values != nullptr) {
    std::memset(values, 0, count * sizeof(double));
  }
}

}  // namespace

deepmd_status deepmd_evaluate(deepmd_model* model, const deepmd_input* input, deepmd_output* output) {
  std::this_thread::sleep_for(std::chrono::milliseconds(model->delay));
  const auto n = static_cast<std::size_t>(input->n_local);
  clear(output->energy, 1);
  clear(output->forces, 3 * n);
  clear(output->virial, 9);
  clear(output->atom_energy, n);
  clear(output->atom_virial, 9 * n);
  for (int i = 0; i < input->n_local; ++i) {
    for (int64_t k = input->list->first[i]; k < input->list->first[i + 1]; ++k) {
      if (!add_pair(*model, *input, i, k, *output)) {
        const int j = input->list->index[k];
        return refuse(DEEPMD_ERROR_GEOMETRY, "atom " + std::to_string(std::min(i, j) + 1) + " and atom " +
                                                 std::to_string(std::max(i, j) + 1) +
                                                 " are 0 Angstrom apart, expected at least 0.05");
      }
    }
  }
  if (model->fault == "nan_energy" && output->energy != nullptr) {
    *output->energy = std::numeric_limits<double>::quiet_NaN();
  } else if (model->fault == "nan_force") {
    output->forces[4] = std::numeric_limits<double>::infinity();
  } else if (model->fault == "nonfinite") {
    return refuse(DEEPMD_ERROR_NONFINITE, "the model returned an energy that is not finite");
  } else if (model->fault == "internal") {
    return refuse(DEEPMD_ERROR_INTERNAL, "the core failed");
  }
  return DEEPMD_OK;
}
