// The documented C++ calls, compared with each other. argv[1]: toy model.
#include <deepmd/deepmd.hpp>
#include <numeric>

#include "check.hpp"

namespace {

std::string model_path;

// Atoms on a jittered grid in a cuboid cell, and the same with all images within 6 Angstrom as ghosts.
template <class V>
struct System {
  System() {
    for (int i = 0; i < 8; ++i) {
      coord.push_back(V(0.1 * i + 3.0 * (i & 1)));
      coord.push_back(V(0.05 * i + 3.1 * ((i >> 1) & 1)));
      coord.push_back(V(3.2 * ((i >> 2) & 1)));
      atype.push_back(i % 2);
    }
    box = {V(6.5), 0, 0, V(0.4), V(6.8), 0, 0, V(-0.3), V(7.0)};
  }
  std::vector<V> coord, box;
  std::vector<int> atype;
};

struct Ghosts {
  explicit Ghosts(const System<double>& s) : coord(s.coord), atype(s.atype) {
    for (std::size_t i = 0; i < s.atype.size(); ++i) owner.push_back(i);
    for (int x = -2; x <= 2; ++x) {
      for (int y = -2; y <= 2; ++y) {
        for (int z = -2; z <= 2; ++z) {
          if (x || y || z) add(s, x, y, z);
        }
      }
    }
    nghost = static_cast<int>(atype.size() - s.atype.size());
    rows.resize(s.atype.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < atype.size(); ++j) {
        double distance2 = 0;
        for (std::size_t b = 0; b < 3; ++b) distance2 += std::pow(coord[3 * i + b] - coord[3 * j + b], 2);
        if (i != j && distance2 < 6.0 * 6.0) rows[i].push_back(static_cast<int>(j) | 1 << 30);  // a flag of the caller
      }
    }
    ilist.resize(rows.size()), numneigh.resize(rows.size()), firstneigh.resize(rows.size());
    list = deepmd::InputNlist(static_cast<int>(rows.size()), ilist.data(), numneigh.data(), firstneigh.data());
    deepmd::convert_nlist(list, rows);
    list.set_mask((1 << 30) - 1);
  }
  void add(const System<double>& s, int x, int y, int z) {
    for (std::size_t i = 0; i < s.atype.size(); ++i) {
      for (std::size_t b = 0; b < 3; ++b) {
        coord.push_back(s.coord[3 * i + b] + x * s.box[b] + y * s.box[3 + b] + z * s.box[6 + b]);
      }
      atype.push_back(s.atype[i]);
      owner.push_back(i);
    }
  }
  std::vector<double> coord;
  std::vector<int> atype;
  std::vector<std::size_t> owner;
  int nghost = 0;
  std::vector<std::vector<int>> rows;
  std::vector<int> ilist, numneigh;
  std::vector<int*> firstneigh;
  deepmd::InputNlist list;
};

template <class V>
void check_near(const std::vector<V>& values, const std::vector<V>& expected, double tolerance, int line) {
  if (values.size() != expected.size()) {
    check::fail(__FILE__, line, "lengths " + std::to_string(values.size()) + " and " + std::to_string(expected.size()));
    return;
  }
  for (std::size_t k = 0; k < values.size(); ++k) {
    if (!(std::abs(values[k] - expected[k]) <= tolerance)) {
      check::fail(__FILE__, line, std::to_string(values[k]) + ", expected " + std::to_string(expected[k]));
    }
  }
}

}  // namespace

TEST(properties) {
  deepmd::DeepPot dp;
  CHECK_THROWS(dp.cutoff(), deepmd::deepmd_exception, "call init first");
  dp.init(model_path);
  CHECK(dp.cutoff() == 5.0 && dp.numb_types() == 2 && dp.dim_fparam() == 0 && dp.dim_aparam() == 0);
  CHECK(dp.numb_types_spin() == 0 && !dp.is_aparam_nall() && !dp.has_default_fparam());
  std::string names;
  dp.get_type_map(names);
  CHECK(names == "Ar Ne");
  dp.print_summary("  ");
  CHECK_THROWS(deepmd::DeepPot("missing.pth"), deepmd::deepmd_exception, "DP_ERROR_FILE");
}

TEST(float_and_double_and_content_agree) {
  std::string content;
  deepmd::read_file_to_string(model_path, content);
  deepmd::hpp::DeepPot dp("from memory", 0, content);
  double e, ef;
  System<double> s;
  System<float> sf;
  std::vector<double> f, v, ae, av;
  std::vector<float> ff, vf;
  dp.compute(e, f, v, ae, av, s.coord, s.atype, s.box);
  dp.compute(ef, ff, vf, sf.coord, sf.atype, sf.box);
  CHECK_NEAR(ef, e, 1e-5);
  CHECK(ff.size() == 24 && vf.size() == 9 && ae.size() == 8 && av.size() == 72);
  CHECK_NEAR(std::accumulate(ae.begin(), ae.end(), 0.0), e, 1e-13);
  for (std::size_t k = 0; k < 24; ++k) CHECK_NEAR(double(ff[k]), f[k], 1e-4);
  for (std::size_t a = 0; a < 9; ++a) {
    double sum = 0;
    for (std::size_t i = 0; i < 8; ++i) sum += av[9 * i + a];
    CHECK_NEAR(sum, v[a], 1e-13);
  }
}

TEST(ghosts_and_list_agree_with_the_box) {
  deepmd::DeepPot dp(model_path);
  System<double> s;
  Ghosts g(s);
  double e, eg;
  std::vector<double> f, v, fg, vg, aeg, avg;
  dp.compute(e, f, v, s.coord, s.atype, s.box);
  for (int ago : {0, 1, 2}) {
    dp.compute(eg, fg, vg, aeg, avg, g.coord, g.atype, s.box, g.nghost, g.list, ago);
    CHECK_NEAR(eg, e, 1e-12);
    check_near(vg, v, 1e-12, __LINE__);
    CHECK(aeg.size() == g.atype.size() && avg.size() == 9 * g.atype.size());
    std::vector<double> folded(24, 0.0);
    for (std::size_t k = 0; k < fg.size(); ++k) folded[3 * g.owner[k / 3] + k % 3] += fg[k];
    check_near(folded, f, 1e-12, __LINE__);
  }
  dp.compute(eg, fg, vg, g.coord, g.atype, s.box, g.nghost, g.list, 0);
  CHECK_NEAR(eg, e, 1e-12);
}

TEST(atoms_without_an_element_are_left_out) {
  deepmd::DeepPot dp(model_path);
  System<double> s, rest;
  s.atype[3] = -1;
  rest.coord.erase(rest.coord.begin() + 9, rest.coord.begin() + 12);
  rest.atype.erase(rest.atype.begin() + 3);
  double e, er, eg;
  std::vector<double> f, v, fr, vr, fg, vg;
  dp.compute(e, f, v, s.coord, s.atype, s.box);
  dp.compute(er, fr, vr, rest.coord, rest.atype, rest.box);
  CHECK_NEAR(e, er, 1e-13);
  CHECK(f[9] == 0 && f[10] == 0 && f[11] == 0);
  f.erase(f.begin() + 9, f.begin() + 12);
  check_near(f, fr, 1e-13, __LINE__);
  Ghosts g(s);
  dp.compute(eg, fg, vg, g.coord, g.atype, s.box, g.nghost, g.list, 0);
  CHECK_NEAR(eg, er, 1e-12);
  check_near(vg, vr, 1e-12, __LINE__);
}

TEST(frames_are_computed_one_by_one) {
  deepmd::DeepPot dp(model_path);
  System<double> s;
  std::vector<double> coord = s.coord, box = s.box, e, f, v, em;
  for (double x : s.coord) coord.push_back(1.01 * x);
  for (double x : s.box) box.push_back(1.01 * x);
  double e0, e1;
  std::vector<double> f0, v0, f1, v1;
  dp.compute(e, f, v, coord, s.atype, box);
  dp.compute(e0, f0, v0, s.coord, s.atype, s.box);
  dp.compute(e1, f1, v1, std::vector<double>(coord.begin() + 24, coord.end()), s.atype,
             std::vector<double>(box.begin() + 9, box.end()));
  check_near(e, {e0, e1}, 1e-14, __LINE__);
  f0.insert(f0.end(), f1.begin(), f1.end());
  check_near(f, f0, 1e-14, __LINE__);
  std::vector<int> types = s.atype;
  types.insert(types.end(), s.atype.begin(), s.atype.end());
  dp.compute_mixed_type(em, f, v, 2, coord, types, box);
  check_near(em, e, 0, __LINE__);
  CHECK_THROWS(dp.compute(e0, f, v, coord, s.atype, box), deepmd::deepmd_exception, "several frames");
}

TEST(wrong_arguments_are_refused) {
  deepmd::DeepPot dp(model_path);
  System<double> s;
  double e;
  std::vector<double> f, v, few(s.coord.begin(), s.coord.end() - 1);
  CHECK_THROWS(dp.compute(e, f, v, few, s.atype, s.box), deepmd::deepmd_exception, "coord has 23 numbers");
  CHECK_THROWS(dp.compute(e, f, v, s.coord, s.atype, std::vector<double>(6)), deepmd::deepmd_exception,
               "box has 6 numbers, expected 9");
  CHECK_THROWS(dp.compute(e, f, v, s.coord, s.atype, s.box, std::vector<double>(2)), deepmd::deepmd_exception,
               "fparam has 2 numbers, expected 0");
  s.coord[3] = s.coord[0], s.coord[4] = s.coord[1], s.coord[5] = s.coord[2];
  CHECK_THROWS(dp.compute(e, f, v, s.coord, s.atype, s.box), deepmd::deepmd_exception, "DP_ERROR_GEOMETRY: atom 1 and atom 2");
}

TEST(deviation_of_equal_models_is_zero) {
  deepmd::DeepPotModelDevi models({model_path, model_path});
  CHECK(models.numb_models() == 2 && models.cutoff() == 5.0);
  System<double> s;
  std::vector<double> e, avg, std;
  std::vector<std::vector<double>> f, v, ae, av;
  models.compute(e, f, v, ae, av, s.coord, s.atype, s.box);
  models.compute_avg(avg, f);
  check_near(avg, f[0], 1e-14, __LINE__);
  models.compute_std_f(std, avg, f);
  CHECK(std.size() == 8);
  check_near(std, std::vector<double>(8, 0.0), 1e-14, __LINE__);
  Ghosts g(s);
  models.compute(e, f, v, g.coord, g.atype, s.box, g.nghost, g.list, 0);
  CHECK_NEAR(e[0], e[1], 0);
  deepmd::DeepPot alone(model_path);
  double energy;
  std::vector<double> force, virial;
  alone.compute(energy, force, virial, g.coord, g.atype, s.box, g.nghost, g.list, 0);
  CHECK_NEAR(e[1], energy, 0);
  check_near(f[1], force, 0, __LINE__);
}

TEST(deviation_has_the_stated_formula) {
  deepmd::DeepPotModelDevi models({model_path});
  const std::vector<std::vector<double>> all = {{1, 2, 3}, {3, 2, -1}};
  std::vector<double> avg, std;
  models.compute_avg(avg, all);
  check_near(avg, {2, 2, 1}, 1e-15, __LINE__);
  models.compute_std(std, avg, all, 1);
  check_near(std, {1, 0, 2}, 1e-15, __LINE__);
  models.compute_std_f(std, avg, all);
  check_near(std, {std::sqrt(5.0)}, 1e-15, __LINE__);
  models.compute_relative_std_f(std, avg, 1.0);
  check_near(std, {std::sqrt(5.0) / 4.0}, 1e-15, __LINE__);
  CHECK_THROWS(models.compute_avg(avg, std::vector<std::vector<double>>{{1, 2}, {1}}), deepmd::deepmd_exception,
               "different lengths");
  double mean;
  models.compute_avg(mean, std::vector<double>{1.0, 2.0});
  CHECK_NEAR(mean, 1.5, 0);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  model_path = argv[1];
  return check::run_all();
}
