// fix ID group dplr model DIPOLE type_associate NR NW ... bond_type B ...: charges of electrons at the ends of dipoles.
//
// Site c of charge stands at r_i + mu_i(r) of its atom i. The fix puts it there before forces are computed; afterwards it
// takes the force on the site off and gives it to the atoms that the site moves with:
//   F_n += f_c (n = i) + sum_i f_i . d(mu_i)/dr_n,    W += sum_i f_i . d(mu_i)/d(strain) - sum_i f_i (x) mu_i
// since LAMMPS' virial takes sites for atoms that are strained with the box. Source: Zhang et al., J. Chem. Phys. 156, 124107
// (2022).
#ifndef DEEPMD_LAMMPS_FIX_DPLR_H
#define DEEPMD_LAMMPS_FIX_DPLR_H

#include <map>
#include <set>
#include <string>
#include <vector>

#include "fix.h"
#include "output_model.hpp"

namespace deepmd {

class FixDplr : public LAMMPS_NS::Fix {
 public:
  FixDplr(LAMMPS_NS::LAMMPS* lmp, int narg, char** arg);

  int setmask() override;
  void init() override;
  void init_list(int id, LAMMPS_NS::NeighList* list) override;
  void setup_pre_force(int vflag) override { pre_force(vflag); }
  void pre_force(int vflag) override;
  void setup(int vflag) override { post_force(vflag); }
  void post_force(int vflag) override;
  void min_setup(int vflag) override { post_force(vflag); }
  void min_pre_force(int vflag) override { pre_force(vflag); }
  void min_post_force(int vflag) override { post_force(vflag); }

  int pack_forward_comm(int n, int* list, double* buffer, int pbc_flag, int* pbc) override;
  void unpack_forward_comm(int n, int first, double* buffer) override;
  int pack_reverse_comm(int n, int first, double* buffer) override;
  void unpack_reverse_comm(int n, int* list, double* buffer) override;
  double memory_usage() override;

 private:
  struct Site {
    int owner, site;  // LAMMPS indices, at least one of them local
  };

  void read_words(int narg, char** arg);
  void check_surroundings() const;
  std::vector<Site> sites() const;
  bool is_site(int type) const { return site_types_.count(type) != 0; }
  void start_buffer() { buffer_.assign(3 * static_cast<size_t>(n_all()), 0.0); }
  int n_all() const;

  OutputModel model_;
  std::string file_;
  std::map<int, int> associates_;   // type of the atom -> type of its site
  std::set<int> site_types_, bond_types_;
  LAMMPS_NS::NeighList* list_ = nullptr;
  LAMMPS_NS::bigint last_build_ = -1;
  std::vector<double> buffer_;      // [LAMMPS n_all][3] what is communicated
  std::vector<double> dipoles_;     // [n_local of the model][3] Angstrom
  std::vector<double> weights_, forces_;
};

}  // namespace deepmd

#endif
