// Energy of two atoms in a box: frame_cxx graph.pth
#include <deepmd/DeepPot.h>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    deepmd::DeepPot dp(argv[1]);
    const std::vector<double> coord = {0.0, 0.0, 0.0, 2.4, 0.3, 0.0};
    const std::vector<double> box = {12.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 12.0};
    const std::vector<int> atype = {0, 1};
    double energy;
    std::vector<double> force, virial;
    dp.compute(energy, force, virial, coord, atype, box);
    std::printf("%.15g %.15g\n", energy, force[0]);
  } catch (const deepmd::deepmd_exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
