/* usage: evaluate MODEL FRAMES - evaluates every frame through deepmd.h; the list is built for each call. */
#include "deepmd/deepmd.h"

#include "frames.h"

static void check(deepmd_status status) {
  if (status != DEEPMD_OK) fail(deepmd_last_error());
}

static void evaluate(deepmd_model* model, const frame* f) {
  const size_t n = (size_t)f->n_atoms;
  double energy, virial[9];
  double* forces = (double*)calloc(n * 3, sizeof(double));
  double* atom_energy = (double*)calloc(n, sizeof(double));
  double* atom_virial = (double*)calloc(n * 9, sizeof(double));
  deepmd_input input;
  deepmd_output output;
  deepmd_input_init(&input);
  deepmd_output_init(&output);
  input.n_local = f->n_atoms;
  input.positions = f->positions;
  input.types = f->types;
  input.cell = f->has_cell ? f->cell : NULL;
  input.pbc = f->has_cell ? f->pbc : NULL;
  input.fparam = f->n_fparam ? f->fparam : NULL;
  input.aparam = f->n_aparam ? f->aparam : NULL;
  output.energy = &energy;
  output.forces = forces;
  output.virial = virial;
  output.atom_energy = atom_energy;
  output.atom_virial = atom_virial;
  check(deepmd_evaluate(model, &input, &output));
  print_doubles(&energy, 1);
  print_doubles(forces, n * 3);
  print_doubles(virial, 9);
  print_doubles(atom_energy, n);
  print_doubles(atom_virial, n * 9);
  free(forces);
  free(atom_energy);
  free(atom_virial);
}

int main(int argc, char** argv) {
  deepmd_model* model = NULL;
  FILE* file;
  int k, n_frames;
  if (argc != 3) fail("usage: evaluate MODEL FRAMES");
  check(deepmd_model_open(argv[1], NULL, &model));
  file = fopen(argv[2], "r");
  if (file == NULL) fail("the file of frames cannot be read");
  n_frames = read_int(file);
  for (k = 0; k < n_frames; ++k) {
    frame f = read_frame(file);
    evaluate(model, &f);
    free_frame(&f);
  }
  fclose(file);
  deepmd_model_free(model);
  return 0;
}
