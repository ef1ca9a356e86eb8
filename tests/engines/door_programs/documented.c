/* usage: documented MODEL FRAMES - evaluates every frame through deepmd/c_api.h, which knows open and periodic boxes. */
#include <deepmd/c_api.h>

#include "frames.h"

static void check(DP_DeepPot* model) {
  const char* failure = DP_DeepPotCheckOK(model);
  if (failure[0] != '\0') fail(failure);
  DP_DeleteChar(failure);
}

static void evaluate(DP_DeepPot* model, const frame* f) {
  const size_t n = (size_t)f->n_atoms;
  double energy, virial[9];
  double* forces = (double*)calloc(n * 3, sizeof(double));
  double* atom_energy = (double*)calloc(n, sizeof(double));
  double* atom_virial = (double*)calloc(n * 9, sizeof(double));
  DP_DeepPotCompute2(model, 1, f->n_atoms, f->positions, f->types, f->has_cell ? f->cell : NULL,
                     f->n_fparam ? f->fparam : NULL, f->n_aparam ? f->aparam : NULL, &energy, forces, virial,
                     atom_energy, atom_virial);
  check(model);
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
  DP_DeepPot* model;
  FILE* file;
  int k, n_frames;
  if (argc != 3) fail("usage: documented MODEL FRAMES");
  model = DP_NewDeepPot(argv[1]);
  check(model);
  file = fopen(argv[2], "r");
  if (file == NULL) fail("the file of frames cannot be read");
  n_frames = read_int(file);
  for (k = 0; k < n_frames; ++k) {
    frame f = read_frame(file);
    evaluate(model, &f);
    free_frame(&f);
  }
  fclose(file);
  DP_DeleteDeepPot(model);
  return 0;
}
