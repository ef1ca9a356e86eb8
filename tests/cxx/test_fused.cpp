#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "check.hpp"
#include "core/error.hpp"
#include "core/thread_team.hpp"
#include "model/fused_potential.hpp"
#include "fused_checks.hpp"
#include "small_ghosts.hpp"
#include "small_shapes.hpp"
#include "spectral_basis.hpp"

using namespace deepmd;
using small::Answers;
using small::check_model;
using small::check_same;
using small::evaluate;
using small::is_identical;
using small::largest;
using small::make;

namespace {

void check_shape(const small::Shape& shape, unsigned seed) {
  const EnergyTree tree = small::tree(shape, seed);
  small::Box box(11, 5.0, tree, seed);
  check_model(tree, *make(tree), box, 1e-10);
}

// The model whose networks end in the projection on the basis.
EnergyTree projected(EnergyTree tree, const CompressionRecord& record) {
  for (int k = 0; k < tree.n_networks(); ++k) {
    const NumberedCurve curve = tree.curve(k);
    PairDescriptor& descriptor = tree.descriptors[curve.descriptor];
    const int width = descriptor.width;
    DenseLayer projection;
    projection.n_in = projection.n_out = width;
    projection.activation = Activation::none;
    projection.b.assign(width, 0.0);
    projection.w.assign(static_cast<std::size_t>(width) * width, 0.0);
    for (int p = 0; p < record.ranks[k]; ++p) {
      const double* v = &record.basis[k][static_cast<std::size_t>(p) * width];
      for (int m = 0; m < width; ++m) {
        for (int l = 0; l < width; ++l) projection.w[static_cast<std::size_t>(m) * width + l] += v[m] * v[l];
      }
    }
    descriptor.embedding[curve.network].layers.push_back(projection);
  }
  return tree;
}

}  // namespace

TEST(fused_one_and_two_sided) {
  for (const auto& [shape, seed] : small::sides_and_types()) check_shape(shape, seed);
}

TEST(fused_widths_and_layers) {
  for (const auto& [shape, seed] : small::widths_and_layers()) check_shape(shape, seed);
}

TEST(fused_parameters_and_activations) {
  for (const auto& [shape, seed] : small::parameters_and_activations()) check_shape(shape, seed);
  small::Shape kinked;
  kinked.activation = Activation::relu6;
  check_shape(kinked, 11);
}

TEST(fused_exclusions) {
  for (const EnergyTree& tree : small::exclusions()) {
    small::Box box(11, 5.0, tree, 12);
    check_model(tree, *make(tree), box, 1e-10);
  }
}

namespace {

using Kinds = std::vector<RowKind>;
const Kinds kAllKinds[] = {{RowKind::radial},
                           {RowKind::by_inverse},
                           {RowKind::angular, RowKind::radial},
                           {RowKind::radial, RowKind::by_inverse, RowKind::angular}};

small::Shape shape_of(const Kinds& kinds) {
  small::Shape shape;
  shape.kinds = kinds;
  return shape;
}

}  // namespace

TEST(fused_kinds_of_descriptors) {
  unsigned seed = 30;
  for (const Kinds& kinds : kAllKinds) {
    small::Shape shape = shape_of(kinds);
    check_shape(shape, seed++);
    shape.one_side = false, shape.n_types = 3, shape.dim_aparam = 2;
    check_shape(shape, seed++);
    shape.n_types = 2, shape.dim_aparam = 0, shape.joint_slots = true, shape.n_constants = 3, shape.fitting = {};
    check_shape(shape, seed++);
    const int n_in = small::tree(shape, 1).fitting[0].n_in();
    shape.fitting = {n_in, 5};  // the first layer has a skip
    check_shape(shape, seed++);
    shape.fitting = {2 * n_in};
    check_shape(shape, seed++);
  }
}

TEST(fused_kinds_of_descriptors_with_exclusions_and_few_slots) {
  for (const Kinds& kinds : kAllKinds) {
    for (const bool one_side : {true, false}) {
      small::Shape shape = shape_of(kinds);
      shape.one_side = one_side;
      EnergyTree tree = small::tree(shape, 12);
      for (PairDescriptor& each : tree.descriptors) each.keep = {1, 0, 0, 1};
      tree.descriptors.back().keep = {0, 1, 1, 1};
      small::Box box(11, 5.0, tree, 12);
      check_model(tree, *make(tree), box, 1e-10);
      tree.pair_keep = {0, 1, 1, 1};
      for (PairDescriptor& each : tree.descriptors) each.sel = {1, 2};
      check_model(tree, *make(tree), box, 1e-8);
      tree.pair_keep = {0, 0, 0, 0};
      check_model(tree, *make(tree), box, 1e-8);
    }
  }
}

TEST(fused_kinds_of_descriptors_outside_their_tables) {
  for (const Kinds& kinds : kAllKinds) {
    const EnergyTree tree = small::tree(shape_of(kinds), 15);
    CompressionRecord record;
    record.tolerance = 1e-6, record.table_tolerance = 1e-12, record.shortest = 2.2;
    small::Box box(11, 5.0, tree, 15, 1.0);
    const auto potential = make(tree, 2, Precision::float64, &record);
    check_model(tree, *potential, box, 1e-10);
    CHECK(potential->n_outside() > 0);
  }
}

TEST(fused_kinds_of_descriptors_with_threads_and_in_mixed_precision) {
  for (const Kinds& kinds : kAllKinds) {
    const EnergyTree tree = small::tree(shape_of(kinds), 17);
    small::Box box(150, 13.0, tree, 17, 1.6);
    const Answers exact = evaluate(*make(tree), box.frame);
    for (const Precision precision : {Precision::float64, Precision::mixed}) {
      const Answers one = evaluate(*make(tree, 1, precision), box.frame);
      check_same(exact, one, precision == Precision::mixed ? 1e-4 : 0);
      for (int n = 2; n <= 4; ++n) {
        const auto potential = make(tree, n, precision);
        const Answers first = evaluate(*potential, box.frame), second = evaluate(*potential, box.frame);
        check_same(one, first, 1e-12);
        CHECK(is_identical(one.atom_energy, first.atom_energy));
        CHECK(is_identical(first.forces, second.forces) && is_identical(first.atom_virial, second.atom_virial));
      }
    }
  }
}

TEST(fused_kinds_of_descriptors_with_a_basis) {
  for (const Kinds& kinds : {Kinds{RowKind::radial}, Kinds{RowKind::angular, RowKind::radial}}) {
    small::Shape shape = shape_of(kinds);
    shape.embedding = {4, 24}, shape.n_constants = 2;  // a radial descriptor folds a narrow basis into the weights
    const EnergyTree tree = small::tree(shape, 14);
    small::Box box(11, 5.0, tree, 14);
    for (const int ranks : {3, 16}) {
      CompressionRecord record = spectral::record(tree, ranks, 0.5);
      record.table_tolerance = 1e-12;
      const EnergyTree judged = projected(tree, record);
      check_model(tree, *make(tree, 1, Precision::float64, &record), box, 1e-9, &judged);
    }
  }
  for (const Kinds& kinds : {Kinds{RowKind::by_inverse}, Kinds{RowKind::by_inverse, RowKind::radial}}) {
    const EnergyTree tree = small::tree(shape_of(kinds), 14);
    small::Box box(11, 5.0, tree, 14);
    CompressionRecord record = spectral::record(tree, 8, 0.5);  // all channels: the model itself
    record.table_tolerance = 1e-12;
    check_model(tree, *make(tree, 1, Precision::float64, &record), box, 1e-9);
  }
}

TEST(fused_more_neighbours_than_sel_and_one_type_only) {
  EnergyTree tree = small::tree({}, 13);
  tree.descriptors[0].sel = {1, 2};
  small::Box box(14, 5.0, tree, 13);
  std::fill(box.types.begin(), box.types.end(), 1);
  check_model(tree, *make(tree), box, 1e-8);
}

// All channels, and fewer: then the judge has the projection as a last layer of its networks.
TEST(fused_spectral_folded_and_expanded) {
  for (const bool one_side : {true, false}) {
    small::Shape shape;
    shape.one_side = one_side;
    const EnergyTree tree = small::tree(shape, 14);
    small::Box box(11, 5.0, tree, 14);
    for (const int ranks : {1, 2, 3, 8}) {
      CompressionRecord record = spectral::record(tree, ranks, 0.5);
      record.table_tolerance = 1e-12;
      const EnergyTree judged = projected(tree, record);
      check_model(tree, *make(tree, 1, Precision::float64, &record), box, 1e-9, &judged);
    }
  }
}

TEST(fused_pairs_outside_the_table_are_exact) {
  const EnergyTree tree = small::tree({}, 15);
  CompressionRecord record;
  record.tolerance = 1e-6, record.table_tolerance = 1e-12, record.shortest = 2.2;
  small::Box box(11, 5.0, tree, 15, 1.0);
  for (const Precision precision : {Precision::float64, Precision::mixed}) {
    const auto potential = make(tree, 2, precision, &record);
    if (precision == Precision::float64) check_model(tree, *potential, box, 1e-10);
    check_same(evaluate(*potential, box.frame), evaluate(*make(tree), box.frame), precision == Precision::float64 ? 1e-10 : 2e-4);
    CHECK(potential->n_outside() > 0);
  }
}

TEST(fused_mixed_is_close_to_float64) {
  small::Shape shape;
  shape.embedding = {5, 10, 20}, shape.axis = 6, shape.fitting = {14, 14}, shape.dim_aparam = 1, shape.has_time_step = true;
  const EnergyTree tree = small::tree(shape, 16);
  small::Box box(30, 8.0, tree, 16, 1.8);
  const Answers exact = evaluate(*make(tree), box.frame), mixed = evaluate(*make(tree, 1, Precision::mixed), box.frame);
  check_same(exact, mixed, 1e-4);
  CHECK(largest(exact.forces, mixed.forces) > 0);
}

TEST(fused_threads_give_equal_results) {
  const EnergyTree tree = small::tree({}, 17);
  small::Box box(300, 16.0, tree, 17);  // several blocks of a type
  for (const Precision precision : {Precision::float64, Precision::mixed}) {
    const Answers one = evaluate(*make(tree, 1, precision), box.frame);
    for (int n = 1; n <= 4; ++n) {
      const auto potential = make(tree, n, precision);
      CHECK(potential->n_threads() == n);
      const Answers first = evaluate(*potential, box.frame), second = evaluate(*potential, box.frame);
      check_same(one, first, 1e-12);
      CHECK(is_identical(one.atom_energy, first.atom_energy));
      CHECK(is_identical(first.forces, second.forces) && is_identical(first.virial, second.virial));
      CHECK(is_identical(first.atom_virial, second.atom_virial) && first.energy == second.energy);
    }
  }
}

TEST(fused_instruction_sets_agree) {
  small::Shape shape;
  shape.embedding = {5, 10, 20}, shape.axis = 6, shape.fitting = {14, 14};
  const EnergyTree tree = small::tree(shape, 18);
  small::Box box(30, 8.0, tree, 18);
  const Answers best = evaluate(*make(tree), box.frame);
  for (const char* isa : {"baseline", "avx2", "avx512"}) {
    setenv("DEEPMD_ISA", isa, 1);
    const auto potential = make(tree);
    if (std::string(isa) == "baseline") CHECK(std::string(potential->instruction_set()) == isa);
    check_same(best, evaluate(*potential, box.frame), 1e-11);
  }
  setenv("DEEPMD_ISA", "sse9", 1);
  CHECK_THROWS(make(tree), Error, "expected baseline, avx2 or avx512");
  unsetenv("DEEPMD_ISA");
}

TEST(fused_ghosts_instead_of_shifts) {
  small::Shape with_couples;
  with_couples.n_couples = 1;
  for (const small::Shape& shape : {small::Shape{}, with_couples}) {
    const EnergyTree tree = small::tree(shape, 19);
    small::Box box(11, 5.0, tree, 19);
    const small::WithGhosts ghosts(box);
    check_same(evaluate(*make(tree), box.frame), ghosts.folded(evaluate(*make(tree, 3), ghosts.frame)), 1e-12);
  }
}

TEST(fused_frames_without_centres_or_neighbours) {
  const EnergyTree tree = small::tree({}, 20);
  const auto potential = make(tree, 2);
  Frame frame;
  const std::int64_t first[2] = {0, 0};
  frame.list = ListView(0, first, nullptr, nullptr);
  const double positions[6] = {0, 0, 0, 9, 0, 0};
  const int types[2] = {1, 0};
  frame.n_ghost = 2, frame.positions = positions, frame.types = types;
  Answers none = evaluate(*potential, frame);
  CHECK(none.energy == 0 && largest(none.forces, std::vector<double>(6, 0.0)) == 0);
  frame.n_local = 1, frame.n_ghost = 1;
  frame.list = ListView(1, first, nullptr, nullptr);
  Answers alone = evaluate(*potential, frame);
  CHECK_NEAR(alone.energy, small::plain_energy(tree, frame, 0), 1e-11);
  CHECK(largest(alone.virial, std::vector<double>(9, 0.0)) == 0);
}

TEST(fused_refuses_close_pairs_by_name) {
  const EnergyTree tree = small::tree({}, 21);
  small::Box box(11, 5.0, tree, 21);
  for (int a = 0; a < 3; ++a) box.positions[3 * 7 + a] = box.positions[3 * 3 + a] + (a == 0 ? 0.02 : 0.0);
  box.update();
  CHECK_THROWS(evaluate(*make(tree, 3), box.frame), Error, "atom 4 and atom 8 are 0.02 Angstrom apart");
}

// Models that share one pass, of any precision and kind of table, answer as each does alone.
TEST(fused_models_together_give_their_own_bits) {
  small::Shape shape;
  const EnergyTree tree = small::tree(shape, 23);
  shape.embedding = {3, 6, 12}, shape.fitting = {5, 5, 5}, shape.one_side = false;
  EnergyTree other = small::tree(shape, 24);
  other.descriptors[0].cutoff.rcut_smth = 0.5;
  const CompressionRecord record = spectral::record(tree, 3, 0.5);
  CompressionRecord narrow;
  narrow.tolerance = 1e-6, narrow.table_tolerance = 1e-12, narrow.shortest = 2.2;
  small::Box box(150, 12.0, tree, 23, 1.0);
  for (const int n_threads : {1, 3}) {
    std::vector<std::unique_ptr<FusedPotential>> models;
    models.push_back(make(tree, n_threads));
    models.push_back(make(tree, n_threads, Precision::mixed, &record));
    models.push_back(make(other, n_threads, Precision::mixed));
    models.push_back(make(tree, n_threads, Precision::float64, &narrow));  // has pairs outside
    std::vector<FusedPotential*> pointers;
    std::vector<Answers> answers(models.size(), Answers(box.frame));
    std::vector<Result> results;
    for (std::size_t k = 0; k < models.size(); ++k) {
      CHECK(can_share(*models[0], *models[k]));
      pointers.push_back(models[k].get());
      results.push_back(answers[k].result());
    }
    evaluate_together(box.frame, pointers.data(), 4, results.data());
    for (std::size_t k = 0; k < models.size(); ++k) {
      CHECK((models[k]->n_outside() > 0) == (k == 3));
      const Answers alone = evaluate(*models[k], box.frame);
      CHECK(is_identical(alone.forces, answers[k].forces) && is_identical(alone.virial, answers[k].virial));
      CHECK(is_identical(alone.atom_virial, answers[k].atom_virial) && alone.energy == answers[k].energy);
    }
  }
  EnergyTree longer = tree, excluded = tree;
  longer.descriptors[0].cutoff.rcut = 4.5;
  excluded.descriptors[0].keep = {1, 0, 0, 1};
  const auto first = make(tree);
  CHECK(!can_share(*first, *make(longer)) && !can_share(*first, *make(excluded)) && !can_share(*first, *make(tree, 2)));
}

// A pair from contact to beyond the cutoff, past the borders of a coarse table and past its end, where the network takes
// over: the slope of the force follows that of the exact one, so it has no jump.
TEST(fused_force_has_no_kink_at_borders_and_ends_of_tables) {
  const EnergyTree tree = small::tree({}, 25);
  CompressionRecord record;
  record.tolerance = 1e-6, record.table_tolerance = 1e-7, record.shortest = 1.5;
  const auto coarse = make(tree, 1, Precision::float64, &record), exact = make(tree);
  const std::int64_t first[3] = {0, 1, 2};
  const int index[2] = {1, 0}, types[2] = {0, 1};
  double positions[6] = {};
  Frame frame;
  frame.n_local = 2, frame.positions = positions, frame.types = types;
  frame.list = ListView(2, first, index, nullptr);
  const auto force = [&](FusedPotential& potential, double r) {
    positions[3] = r;
    return evaluate(potential, frame).forces[3];
  };
  const double h = 1e-4;
  double worst = 0, worst_slope = 0, largest_slope = 0;
  for (int k = 0; k < 3200; ++k) {
    const double r = 1.0 + 1e-3 * k;
    const double f[2] = {force(*coarse, r - h), force(*coarse, r + h)}, e[2] = {force(*exact, r - h), force(*exact, r + h)};
    worst = std::max(worst, std::abs(f[0] - e[0]));
    worst_slope = std::max(worst_slope, std::abs((f[1] - f[0]) - (e[1] - e[0])) / (2 * h));
    largest_slope = std::max(largest_slope, std::abs(e[1] - e[0]) / (2 * h));
  }
  CHECK(coarse->n_outside() > 0 && exact->n_outside() == 0 && worst > 0);
  CHECK(worst < 1e-5);
  CHECK(worst_slope < 1e-3 * largest_slope);
}

// One neighbour moves through the cutoff: energy and force go on smoothly.
TEST(fused_is_smooth_at_the_cutoff) {
  const EnergyTree tree = small::tree({}, 22);
  const auto potential = make(tree);
  const std::int64_t first[2] = {0, 1};
  const int index[1] = {1}, types[2] = {0, 1};
  double energy[3];
  for (int k = 0; k < 3; ++k) {
    const double positions[6] = {0, 0, 0, 4.0 + (k - 1) * 1e-5, 0, 0};
    Frame frame;
    frame.n_local = 1, frame.n_ghost = 1, frame.positions = positions, frame.types = types;
    frame.list = ListView(1, first, index, nullptr);
    const Answers answers = evaluate(*potential, frame);
    energy[k] = answers.energy;
    CHECK_NEAR(answers.forces[0], 0.0, 1e-8);
  }
  CHECK_NEAR(energy[0], energy[2], 1e-13);
}

TEST(team_passes_exceptions_on_and_goes_on) {
  ThreadTeam team(4);
  struct Work {
    int calls[4] = {};
    int bad = -1;
    void operator()(int part) {
      ++calls[part];
      if (part >= bad && bad >= 0) throw Error(DEEPMD_ERROR_INTERNAL, text("part ", part));
    }
  } work;
  for (int round = 0; round < 200; ++round) team.run(work);
  work.bad = 2;
  CHECK_THROWS(team.run(work), Error, "part 2");
  work.bad = -1;
  team.run(work);
  for (int calls : work.calls) CHECK(calls == 202);
  CHECK(choose_thread_count(3) == 3);
  setenv("DP_INTRA_OP_PARALLELISM_THREADS", "5", 1);
  CHECK(choose_thread_count(0) == 5);
  unsetenv("DP_INTRA_OP_PARALLELISM_THREADS");
}
