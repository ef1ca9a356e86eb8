// usage: outputs KIND MODEL FRAMES - evaluates every frame through deepmd/DeepTensor.h: the frame's output, the atoms', and for
// tensors force, virial and atomic virials. Spins are read as fparam: energy, force, force_mag, virial, atomic parts.
#include "deepmd/DeepSpin.h"
#include "deepmd/DeepTensor.h"

#include <exception>
#include <string>
#include <vector>

#include "frames.h"

typedef std::vector<double> Doubles;

static void print(const Doubles& values) { print_doubles(values.data(), values.size()); }

template <class Model>
static void tensors(Model& model, const Doubles& coord, const std::vector<int>& types, const Doubles& box) {
  Doubles global, force, virial, atoms, atom_virial, again;
  model.compute(global, force, virial, atoms, atom_virial, coord, types, box);
  model.compute(again, coord, types, box);
  if (again != atoms) fail("the two calls differ");
  for (const Doubles* values : {&global, &atoms, &force, &virial, &atom_virial}) print(*values);
}

template <class Model>
static void scalars(Model& model, const Doubles& coord, const std::vector<int>& types, const Doubles& box) {
  Doubles global, atoms;
  model.compute(global, atoms, coord, types, box);
  print(global);
  print(atoms);
}

static void spins(deepmd::DeepSpin& model, const Doubles& coord, const Doubles& spin, const std::vector<int>& types,
                  const Doubles& box) {
  double energy = 0.0;
  Doubles force, force_mag, virial, atom_energy, atom_virial;
  model.compute(energy, force, force_mag, virial, atom_energy, atom_virial, coord, spin, types, box);
  for (const Doubles& values : {Doubles(1, energy), force, force_mag, virial, atom_energy, atom_virial}) print(values);
}

static void run(const std::string& kind, const std::string& model, const frame& f) {
  const Doubles coord(f.positions, f.positions + 3 * f.n_atoms), box(f.cell, f.cell + (f.has_cell ? 9 : 0));
  const std::vector<int> types(f.types, f.types + f.n_atoms);
  if (kind == "dipole") {
    deepmd::DeepDipole opened(model);
    if (opened.output_dim() != 3 || opened.sel_types() != std::vector<int>(1, 0)) fail("the facts are wrong");
    tensors(opened, coord, types, box);
  } else if (kind == "polar") {
    deepmd::DeepTensor opened(model);
    tensors(opened, coord, types, box);
  } else if (kind == "dos") {
    deepmd::DeepDOS opened(model);
    scalars(opened, coord, types, box);
  } else if (kind == "spin") {
    deepmd::DeepSpin opened(model);
    spins(opened, coord, Doubles(f.fparam, f.fparam + f.n_fparam), types, box);
  } else {
    deepmd::DeepProperty opened(model);
    scalars(opened, coord, types, box);
  }
}

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: outputs KIND MODEL FRAMES");
  try {
    FILE* file = std::fopen(argv[3], "r");
    if (file == nullptr) fail("the file of frames cannot be read");
    const int n_frames = read_int(file);
    for (int k = 0; k < n_frames; ++k) {
      frame f = read_frame(file);
      run(argv[1], argv[2], f);
      free_frame(&f);
    }
    std::fclose(file);
  } catch (const std::exception& error) {
    fail(error.what());
  }
  return 0;
}
