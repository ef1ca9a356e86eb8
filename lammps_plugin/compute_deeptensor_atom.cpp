#include "compute_deeptensor_atom.h"

#include <string>

#include "atom.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace deepmd {

ComputeDeepTensorAtom::ComputeDeepTensorAtom(LAMMPS_NS::LAMMPS* lmp, int narg, char** arg)
    : Compute(lmp, narg, arg), model_(lmp, "compute deeptensor/atom") {
  if (narg < 4) model_.fail("no model file given; write 'compute ID group deeptensor/atom model.pth'");
  if (narg > 4) {
    if (std::string(arg[4]) != "elements") {
      model_.fail("unknown keyword '" + std::string(arg[4]) + "'; the only one is 'elements' with a name for each type");
    }
    model_.set_elements(std::vector<std::string>(arg + 5, arg + narg));
  }
  model_.open(arg[3], "");
  peratom_flag = 1;
  size_peratom_cols = model_.width();
  timeflag = 1;
}

ComputeDeepTensorAtom::~ComputeDeepTensorAtom() { memory->destroy(tensor_); }

void ComputeDeepTensorAtom::init() {
  model_.prepare();
  neighbor->add_request(this, LAMMPS_NS::NeighConst::REQ_FULL | LAMMPS_NS::NeighConst::REQ_OCCASIONAL);
}

void ComputeDeepTensorAtom::init_list(int, LAMMPS_NS::NeighList* list) { list_ = list; }

void ComputeDeepTensorAtom::compute_peratom() {
  invoked_peratom = update->ntimestep;
  const int width = model_.width();
  if (atom->nmax > n_max_) {
    memory->destroy(tensor_);
    n_max_ = atom->nmax;
    memory->create(tensor_, n_max_, width, "deeptensor/atom:tensor");
    array_atom = tensor_;
  }
  for (int i = 0; i < atom->nlocal; ++i) {
    for (int c = 0; c < width; ++c) tensor_[i][c] = 0.0;
  }
  neighbor->build_one(list_);
  model_.gather(*list_, true);
  const LmpAdapter& atoms = model_.atoms();
  if (atoms.n_local() == 0) return;
  values_.resize(static_cast<size_t>(atoms.n_local()) * width);
  OutputRequest request;
  request.atom_output = values_.data();
  model_.evaluate(request);
  for (int k = 0; k < atoms.n_local(); ++k) {
    const int i = atoms.lammps_index(k);
    if (!(atom->mask[i] & groupbit)) continue;
    for (int c = 0; c < width; ++c) tensor_[i][c] = values_[static_cast<size_t>(k) * width + c] * model_.length_unit();
  }
}

double ComputeDeepTensorAtom::memory_usage() {
  return static_cast<double>(n_max_) * model_.width() * sizeof(double) + model_.atoms().memory_usage();
}

}  // namespace deepmd
