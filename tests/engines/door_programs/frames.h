/* Frames from a text file, for the programs that evaluate them through C and C++. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdio.h>
#include <stdlib.h>

typedef struct frame {
  int n_atoms, has_cell, n_fparam, n_aparam; /* numbers of values in all */
  int pbc[3];
  double cell[9];
  int* types;
  double *positions, *fparam, *aparam;
} frame;

static void fail(const char* words) {
  fprintf(stderr, "%s\n", words);
  exit(1);
}

static int read_int(FILE* file) {
  int value = 0;
  if (fscanf(file, "%d", &value) != 1) fail("the file of frames is cut short");
  return value;
}

static double* read_doubles(FILE* file, int n) {
  double* values = (double*)malloc(sizeof(double) * (size_t)(n > 0 ? n : 1));
  int k;
  for (k = 0; k < n; ++k) {
    if (fscanf(file, "%lf", &values[k]) != 1) fail("the file of frames is cut short");
  }
  return values;
}

/* n_atoms, has_cell, pbc [3], cell [9], types, positions, n_fparam, fparam, n_aparam, aparam */
static frame read_frame(FILE* file) {
  frame f;
  int k;
  double* cell;
  f.n_atoms = read_int(file);
  f.has_cell = read_int(file);
  for (k = 0; k < 3; ++k) f.pbc[k] = read_int(file);
  cell = read_doubles(file, 9);
  for (k = 0; k < 9; ++k) f.cell[k] = cell[k];
  free(cell);
  f.types = (int*)malloc(sizeof(int) * (size_t)(f.n_atoms > 0 ? f.n_atoms : 1));
  for (k = 0; k < f.n_atoms; ++k) f.types[k] = read_int(file);
  f.positions = read_doubles(file, 3 * f.n_atoms);
  f.n_fparam = read_int(file);
  f.fparam = read_doubles(file, f.n_fparam);
  f.n_aparam = read_int(file);
  f.aparam = read_doubles(file, f.n_aparam);
  return f;
}

static void free_frame(frame* f) {
  free(f->types);
  free(f->positions);
  free(f->fparam);
  free(f->aparam);
}

static void print_doubles(const double* values, size_t n) {
  size_t k;
  for (k = 0; k < n; ++k) printf("%.17g ", values[k]);
  printf("\n");
}

#endif
