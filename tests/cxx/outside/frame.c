/* Energy of two atoms in a box: frame_c graph.pth */
#include <deepmd/deepmd.h>
#include <stdio.h>

int main(int argc, char** argv) {
  const double positions[6] = {0.0, 0.0, 0.0, 2.4, 0.3, 0.0};
  const double cell[9] = {12.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 12.0};
  const int types[2] = {0, 1};
  double energy = 0.0, forces[6];
  deepmd_model* model = NULL;
  deepmd_input input;
  deepmd_output output;

  if (argc != 2) return 2;
  if (deepmd_model_open(argv[1], NULL, &model) != DEEPMD_OK) {
    fprintf(stderr, "%s\n", deepmd_last_error());
    return 1;
  }
  deepmd_input_init(&input);
  input.n_local = 2;
  input.positions = positions;
  input.types = types;
  input.cell = cell;
  deepmd_output_init(&output);
  output.energy = &energy;
  output.forces = forces;
  if (deepmd_evaluate(model, &input, &output) != DEEPMD_OK) {
    fprintf(stderr, "%s\n", deepmd_last_error());
    return 1;
  }
  printf("%.15g %.15g\n", energy, forces[0]);
  deepmd_model_free(model);
  return 0;
}
