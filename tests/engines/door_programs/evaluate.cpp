// usage: evaluate MODEL FRAMES - evaluates every frame through deepmd/DeepPot.h, which knows open and periodic boxes.
#include "deepmd/DeepPot.h"

#include <exception>
#include <vector>

#include "frames.h"

static void evaluate(deepmd::DeepPot& dp, const frame& f) {
  const std::vector<double> coord(f.positions, f.positions + 3 * f.n_atoms);
  const std::vector<int> types(f.types, f.types + f.n_atoms);
  const std::vector<double> box(f.cell, f.cell + (f.has_cell ? 9 : 0));
  const std::vector<double> fparam(f.fparam, f.fparam + f.n_fparam), aparam(f.aparam, f.aparam + f.n_aparam);
  double energy = 0.0;
  std::vector<double> force, virial, atom_energy, atom_virial;
  dp.compute(energy, force, virial, atom_energy, atom_virial, coord, types, box, fparam, aparam);
  print_doubles(&energy, 1);
  for (const std::vector<double>* values : {&force, &virial, &atom_energy, &atom_virial}) {
    print_doubles(values->data(), values->size());
  }
}

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: evaluate MODEL FRAMES");
  try {
    deepmd::DeepPot dp(argv[1]);
    FILE* file = std::fopen(argv[2], "r");
    if (file == nullptr) fail("the file of frames cannot be read");
    const int n_frames = read_int(file);
    for (int k = 0; k < n_frames; ++k) {
      frame f = read_frame(file);
      evaluate(dp, f);
      free_frame(&f);
    }
    std::fclose(file);
  } catch (const std::exception& error) {
    fail(error.what());
  }
  return 0;
}
