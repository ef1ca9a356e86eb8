// compute ID group deeptensor/atom MODEL [elements NAME ...]: dipoles or polarisabilities of the atoms.
#ifndef DEEPMD_LAMMPS_COMPUTE_DEEPTENSOR_ATOM_H
#define DEEPMD_LAMMPS_COMPUTE_DEEPTENSOR_ATOM_H

#include <vector>

#include "compute.h"
#include "output_model.hpp"

namespace deepmd {

class ComputeDeepTensorAtom : public LAMMPS_NS::Compute {
 public:
  ComputeDeepTensorAtom(LAMMPS_NS::LAMMPS* lmp, int narg, char** arg);
  ~ComputeDeepTensorAtom() override;

  void init() override;
  void init_list(int id, LAMMPS_NS::NeighList* list) override;
  void compute_peratom() override;
  double memory_usage() override;

 private:
  OutputModel model_;
  LAMMPS_NS::NeighList* list_ = nullptr;
  int n_max_ = 0;
  double** tensor_ = nullptr;       // [n_max][width] in units of the model, lengths in LAMMPS' units
  std::vector<double> values_;      // [n_local][width]
};

}  // namespace deepmd

#endif
