/* The C interface seen from C99: every status that can be provoked without breaking the library. argv[1]: toy model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deepmd/deepmd.h"

static int n_failed = 0;

static void expect(int is_right, const char* what, int line) {
  if (is_right) return;
  ++n_failed;
  fprintf(stderr, "test_capi.c:%d: not true: %s (last error: %s)\n", line, what, deepmd_last_error());
}
#define EXPECT(condition) expect((condition) != 0, #condition, __LINE__)
#define EXPECT_FAILS(call, status, words) \
  EXPECT((call) == (status) && strstr(deepmd_last_error(), words) != NULL)

static void test_strings(void) {
  int status;
  for (status = DEEPMD_OK; status <= DEEPMD_ERROR_INTERNAL; ++status) {
    EXPECT(strncmp(deepmd_status_name((deepmd_status)status), "DP_", 3) == 0);
  }
  EXPECT(strcmp(deepmd_status_name(DEEPMD_ERROR_DAMAGED), "DP_ERROR_DAMAGED") == 0);
  EXPECT(strcmp(deepmd_status_name((deepmd_status)99), "DP_ERROR_UNKNOWN") == 0);
  EXPECT(strchr(deepmd_version(), '.') != NULL);
}

static void test_open_failures(const char* path) {
  deepmd_model* model = NULL;
  deepmd_open_options options;
  deepmd_open_options_init(&options);
  EXPECT(options.run_selftest == 1 && options.gpu_rank == 0 && options.size == sizeof(options));
  EXPECT_FAILS(deepmd_model_open(NULL, NULL, &model), DEEPMD_ERROR_ARGUMENT, "path is a null pointer");
  EXPECT_FAILS(deepmd_model_open(path, NULL, NULL), DEEPMD_ERROR_ARGUMENT, "model is a null pointer");
  EXPECT_FAILS(deepmd_model_open("no/such.pth", NULL, &model), DEEPMD_ERROR_FILE, "no/such.pth");
  options.content = "text, not a model";
  options.content_size = 17;
  EXPECT_FAILS(deepmd_model_open("given", &options, &model), DEEPMD_ERROR_FORMAT, "given is a text file");
  options.content_size = 0;
  EXPECT_FAILS(deepmd_model_open("given", &options, &model), DEEPMD_ERROR_DAMAGED, "given is empty");
  options.size = 0;
  EXPECT_FAILS(deepmd_model_open(path, &options, &model), DEEPMD_ERROR_ARGUMENT, "size of options");
  EXPECT(model == NULL);
  deepmd_model_free(NULL);
  deepmd_neighbors_free(NULL);
}

static void test_info(const deepmd_model* model) {
  deepmd_info info;
  int type = -1;
  memset(&info, 0x55, sizeof(info));
  info.size = sizeof(info);
  EXPECT(deepmd_model_info(model, &info) == DEEPMD_OK);
  EXPECT(info.rcut == 5.0 && info.n_types == 2 && strcmp(info.type_map[1], "Ne") == 0);
  EXPECT(strcmp(info.kind, "energy") == 0 && info.metadata_json[0] == '{');
  EXPECT(deepmd_model_type_of(model, "Ne", &type) == DEEPMD_OK && type == 1);
  EXPECT_FAILS(deepmd_model_type_of(model, "Xe", &type), DEEPMD_ERROR_ARGUMENT, "'Xe', expected one of its type_map");
  /* A caller of an older header knows fewer fields: nothing may be written behind them. */
  memset(&info, 0x55, sizeof(info));
  info.size = offsetof(deepmd_info, type_map);
  EXPECT(deepmd_model_info(model, &info) == DEEPMD_OK);
  EXPECT(info.n_types == 2 && ((unsigned char*)&info)[offsetof(deepmd_info, type_map)] == 0x55);
}

static void test_evaluate(deepmd_model* model) {
  const double positions[9] = {0, 0, 0, 2.4, 0, 0, 0, 2.5, 0};
  const double cell[9] = {12, 0, 0, 0, 12, 0, 0, 0, 12};
  const int types[3] = {0, 1, 0}, bad_types[3] = {0, 1, 2};
  double energy = 0, forces[9], virial[9], atom_energy[3], worst = 1;
  deepmd_input input;
  deepmd_output output;
  deepmd_neighbors* neighbors = NULL;
  deepmd_list list;
  int rebuilt = 0;

  deepmd_input_init(&input);
  deepmd_output_init(&output);
  input.n_local = 3, input.positions = positions, input.types = types, input.cell = cell;
  output.energy = &energy, output.forces = forces, output.virial = virial, output.atom_energy = atom_energy;
  EXPECT(deepmd_evaluate(model, &input, &output) == DEEPMD_OK);
  EXPECT(energy < 0 && fabs(energy - atom_energy[0] - atom_energy[1] - atom_energy[2]) < 1e-14);
  EXPECT(fabs(forces[0] + forces[3] + forces[6]) < 1e-14);
  EXPECT(strcmp(deepmd_last_error(), "") == 0);

  EXPECT(deepmd_neighbors_new(5.0, 1.0, &neighbors) == DEEPMD_OK);
  EXPECT(deepmd_neighbors_update(neighbors, 3, positions, cell, NULL, &list, &rebuilt) == DEEPMD_OK && rebuilt);
  EXPECT(deepmd_neighbors_update(neighbors, 3, positions, cell, NULL, &list, NULL) == DEEPMD_OK);
  input.list = &list;
  {
    const double before = energy;
    EXPECT(deepmd_evaluate(model, &input, &output) == DEEPMD_OK && fabs(energy - before) < 1e-14);
  }
  EXPECT_FAILS(deepmd_neighbors_update(neighbors, -1, positions, cell, NULL, &list, NULL), DEEPMD_ERROR_ARGUMENT,
               "n_atoms is -1");
  deepmd_neighbors_free(neighbors);
  EXPECT_FAILS(deepmd_neighbors_new(-1.0, 1.0, &neighbors), DEEPMD_ERROR_ARGUMENT, "positive cutoff");
  EXPECT(neighbors == NULL);

  input.list = NULL;
  memset(&output, 0, sizeof(output));
  output.size = sizeof(output);
  EXPECT(deepmd_evaluate(model, &input, &output) == DEEPMD_OK); /* nothing wanted */
  input.types = bad_types;
  EXPECT_FAILS(deepmd_evaluate(model, &input, &output), DEEPMD_ERROR_ARGUMENT, "atom 3 has type 2");
  input.types = NULL;
  EXPECT_FAILS(deepmd_evaluate(model, &input, &output), DEEPMD_ERROR_ARGUMENT, "types are missing");
  input.types = types, input.n_local = -3;
  EXPECT_FAILS(deepmd_evaluate(model, &input, &output), DEEPMD_ERROR_ARGUMENT, "n_local is -3");
  input.n_local = 3, input.size = 0;
  EXPECT_FAILS(deepmd_evaluate(model, &input, &output), DEEPMD_ERROR_ARGUMENT, "size of input");
  EXPECT_FAILS(deepmd_evaluate(model, NULL, &output), DEEPMD_ERROR_ARGUMENT, "input is a null pointer");
  EXPECT(deepmd_selftest(model, &worst) == DEEPMD_OK && worst < 1e-8);
  EXPECT(deepmd_selftest(model, NULL) == DEEPMD_OK);
}

static void test_ensemble(deepmd_model* model) {
  deepmd_model* models[2];
  deepmd_ensemble* ensemble = NULL;
  deepmd_info info;
  deepmd_input input;
  deepmd_output outputs[2];
  double positions[6] = {0, 0, 0, 2.5, 0.1, 0};
  int types[2] = {0, 1};
  deepmd_deviation deviation;
  deepmd_list list;
  double energy[2] = {1, 2}, forces[2][6], alone[6], atoms[2] = {-1, -1}, largest = -1;
  int k;
  models[0] = models[1] = model;
  EXPECT_FAILS(deepmd_ensemble_new(0, models, &ensemble), DEEPMD_ERROR_ARGUMENT, "n_models is 0");
  EXPECT_FAILS(deepmd_ensemble_new(2, NULL, &ensemble), DEEPMD_ERROR_ARGUMENT, "models is a null pointer");
  EXPECT(deepmd_ensemble_new(2, models, &ensemble) == DEEPMD_OK);
  info.size = sizeof(info);
  EXPECT(deepmd_ensemble_info(ensemble, &info) == DEEPMD_OK && info.rcut == 5.0 && info.n_types == 2);
  deepmd_input_init(&input);
  input.n_local = 2;
  input.positions = positions;
  input.types = types;
  for (k = 0; k < 2; ++k) {
    deepmd_output_init(&outputs[k]);
    outputs[k].energy = &energy[k];
    outputs[k].forces = forces[k];
  }
  EXPECT(deepmd_ensemble_evaluate(ensemble, &input, 1, outputs) == DEEPMD_OK && energy[1] == 2);
  EXPECT(deepmd_ensemble_evaluate(ensemble, &input, 2, outputs) == DEEPMD_OK && energy[1] == energy[0]);
  deepmd_deviation_init(&deviation);
  deviation.atoms = atoms;
  energy[0] = 1;
  EXPECT(deepmd_ensemble_compare(ensemble, &input, 0.5, -1, outputs, &deviation, &largest) == DEEPMD_OK && energy[0] == energy[1]);
  EXPECT(largest == 0 && atoms[1] == 0 && deviation.force.max == 0 && deviation.virial.avg == 0 && deviation.energy == 0);
  memset(&list, 0, sizeof(list));
  list.size = sizeof(list);
  list.n_centers = input.n_local = input.n_ghost = 1;
  list.radius = 5.0;
  input.list = &list;
  EXPECT_FAILS(deepmd_ensemble_compare(ensemble, &input, -1, -1, outputs, &deviation, NULL), DEEPMD_ERROR_ARGUMENT,
               "1 ghosts whose owners are not known");
  input.list = NULL;
  input.n_local = 2, input.n_ghost = 0;
  outputs[0].forces = alone;
  EXPECT(deepmd_evaluate(model, &input, outputs) == DEEPMD_OK && memcmp(alone, forces[1], sizeof(alone)) == 0);
  EXPECT_FAILS(deepmd_ensemble_evaluate(ensemble, &input, 3, outputs), DEEPMD_ERROR_ARGUMENT, "the ensemble has 2");
  types[0] = 7;
  EXPECT_FAILS(deepmd_ensemble_evaluate(ensemble, &input, 2, outputs), DEEPMD_ERROR_ARGUMENT, "atom 1 has type 7");
  deepmd_ensemble_free(ensemble);
  deepmd_ensemble_free(NULL);
}

static void test_deviation(void) {
  const double a[6] = {1, 2, 3, 0, 0, 0}, b[6] = {3, 2, -1, 0, 0, 4};
  const double* forces[2];
  const double virials[18] = {2, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0}, energies[2] = {1, 3};
  const double truth[6] = {1, 2, 3, 0, 0, 0};
  double atoms[2];
  deepmd_deviation_input input;
  deepmd_deviation result;
  forces[0] = a;
  forces[1] = b;
  deepmd_deviation_input_init(&input);
  deepmd_deviation_init(&result);
  EXPECT_FAILS(deepmd_deviation_compute(&input, &result), DEEPMD_ERROR_ARGUMENT, "n_models is 0");
  input.n_models = input.n_atoms = 2;
  input.forces = forces;
  result.atoms = atoms;
  EXPECT(deepmd_deviation_compute(&input, &result) == DEEPMD_OK);
  EXPECT(fabs(atoms[0] - sqrt(5.0)) < 1e-15 && atoms[1] == 2 && result.force.max == atoms[0]);
  EXPECT(result.virial.max != result.virial.max && result.energy != result.energy); /* unknown: NaN */
  input.virials = virials;
  input.energies = energies;
  EXPECT(deepmd_deviation_compute(&input, &result) == DEEPMD_OK && result.energy == 0.5);
  EXPECT(result.virial.max == 1 && result.virial.min == 0 && fabs(result.virial.avg - 1 / 3.0) < 1e-15);
  input.relative = 0;
  input.relative_v = 2;
  EXPECT(deepmd_deviation_compute(&input, &result) == DEEPMD_OK);
  EXPECT(fabs(atoms[0] - sqrt(5.0) / 3) < 1e-15 && atoms[1] == 1 && result.virial.max == 0.25);
  input.relative = -1;
  input.true_forces = truth;
  EXPECT(deepmd_deviation_compute(&input, &result) == DEEPMD_OK && fabs(atoms[0] - sqrt(10.0)) < 1e-15);
  input.relative = 0; /* no force and no deviation is still no deviation */
  input.true_forces = NULL;
  forces[1] = a;
  EXPECT(deepmd_deviation_compute(&input, &result) == DEEPMD_OK && atoms[0] == 0 && atoms[1] == 0);
}

int main(int argc, char** argv) {
  deepmd_model* model = NULL;
  if (argc != 2) return 2;
  test_strings();
  test_open_failures(argv[1]);
  if (deepmd_model_open(argv[1], NULL, &model) != DEEPMD_OK) {
    fprintf(stderr, "%s\n", deepmd_last_error());
    return 1;
  }
  test_info(model);
  test_evaluate(model);
  test_ensemble(model);
  test_deviation();
  deepmd_model_free(model);
  printf("%d failures\n", n_failed);
  return n_failed ? 1 : 0;
}
