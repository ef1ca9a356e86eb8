// Descriptors of couples of neighbours (se_e3) on the fused engine.
#include <cmath>
#include <cstdlib>

#include "core/error.hpp"
#include "fused_checks.hpp"
#include "kernels/couples.hpp"
#include "model/curve_table.hpp"
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

small::Shape couples_alone() {
  small::Shape shape;
  shape.kinds.clear();
  shape.n_couples = 1;
  return shape;
}

small::Shape hybrid() {
  small::Shape shape;
  shape.kinds = {RowKind::angular, RowKind::radial};
  shape.n_couples = 2;
  return shape;
}

const small::Shape kShapes[] = {couples_alone(), hybrid()};

void check_shape(const small::Shape& shape, unsigned seed) {
  const EnergyTree tree = small::tree(shape, seed);
  small::Box box(11, 5.0, tree, seed);
  check_model(tree, *make(tree), box, 1e-9);
}

// Tables that end at this distance.
CompressionRecord until(double shortest, double table_tolerance) {
  CompressionRecord record;
  record.tolerance = 1e-6, record.table_tolerance = table_tolerance, record.shortest = shortest;
  return record;
}

}  // namespace

TEST(couples_of_one_to_three_types) {
  unsigned seed = 40;
  for (small::Shape shape : kShapes) {
    for (const int n_types : {1, 2, 3}) {
      shape.n_types = n_types;
      check_shape(shape, seed++);
    }
  }
}

TEST(couples_with_parameters_constants_and_skips) {
  unsigned seed = 50;
  for (small::Shape shape : kShapes) {
    shape.dim_fparam = 2, shape.dim_aparam = 1, shape.n_constants = 2, shape.fitting = {};
    check_shape(shape, seed++);
    const int n_in = small::tree(shape, 1).fitting[0].n_in();
    shape.fitting = {n_in, 5};  // the first layer has a skip
    check_shape(shape, seed++);
    shape.fitting = {2 * n_in}, shape.embedding = {3, 20};
    check_shape(shape, seed++);
  }
}

TEST(couples_with_exclusions_and_without_slots) {
  for (const small::Shape& shape : kShapes) {
    EnergyTree tree = small::tree(shape, 60);
    tree.couples[0].keep = {1, 0, 0, 1};
    small::Box box(11, 5.0, tree, 60);
    check_model(tree, *make(tree), box, 1e-9);
    tree.pair_keep = {0, 1, 1, 1};
    check_model(tree, *make(tree), box, 1e-9);
    tree.couples[0].keep = {1, 1, 1, 1};
    tree.couples[0].sel = {0, 2};
    check_model(tree, *make(tree), box, 1e-9);
    tree.pair_keep = {0, 0, 0, 0};
    check_model(tree, *make(tree), box, 1e-9);
  }
}

TEST(couples_outside_their_tables_are_exact) {
  for (const small::Shape& shape : kShapes) {
    const EnergyTree tree = small::tree(shape, 61);
    const CompressionRecord record = until(2.2, 1e-12);
    small::Box box(11, 5.0, tree, 61, 1.0);
    const auto exact = make(tree), potential = make(tree, 2, Precision::float64, &record);
    check_model(tree, *potential, box, 1e-9);
    CHECK(potential->n_outside() > 0);
    check_same(evaluate(*exact, box.frame), evaluate(*potential, box.frame), 1e-9);
    check_same(evaluate(*exact, box.frame), evaluate(*make(tree, 1, Precision::mixed, &record), box.frame), 2e-3);
  }
}

TEST(couples_with_threads_and_in_mixed_precision) {
  for (const small::Shape& shape : kShapes) {
    const EnergyTree tree = small::tree(shape, 62);
    small::Box box(150, 13.0, tree, 62, 1.6);
    const Answers exact = evaluate(*make(tree), box.frame);
    for (const Precision precision : {Precision::float64, Precision::mixed}) {
      const Answers one = evaluate(*make(tree, 1, precision), box.frame);
      check_same(exact, one, precision == Precision::mixed ? 5e-4 : 0);
      for (int n = 2; n <= 4; ++n) {
        const auto potential = make(tree, n, precision);
        const Answers first = evaluate(*potential, box.frame), second = evaluate(*potential, box.frame);
        check_same(one, first, 1e-12);
        CHECK(is_identical(one.atom_energy, first.atom_energy) && is_identical(first, second));
      }
    }
  }
}

TEST(couples_by_every_instruction_set) {
  const EnergyTree tree = small::tree(hybrid(), 63);
  small::Box box(40, 8.0, tree, 63);
  const CompressionRecord record = until(2.2, 1e-12);
  const Answers best = evaluate(*make(tree), box.frame), mixed = evaluate(*make(tree, 1, Precision::mixed), box.frame);
  for (const char* isa : {"baseline", "avx2", "avx512"}) {
    setenv("DEEPMD_ISA", isa, 1);
    check_same(best, evaluate(*make(tree), box.frame), 1e-10);
    check_same(best, evaluate(*make(tree, 1, Precision::float64, &record), box.frame), 1e-9);
    check_same(mixed, evaluate(*make(tree, 1, Precision::mixed), box.frame), 5e-4);
  }
  unsetenv("DEEPMD_ISA");
}

TEST(couples_beside_a_basis_of_pairs) {
  const EnergyTree tree = small::tree(hybrid(), 64);
  small::Box box(11, 5.0, tree, 64);
  CompressionRecord record = spectral::record(tree, 8, 0.5);  // all channels: the model itself
  record.table_tolerance = 1e-12, record.shortest = 1.0;
  check_model(tree, *make(tree, 1, Precision::float64, &record), box, 1e-8);
  const EnergyTree alone = small::tree(couples_alone(), 64);
  CompressionRecord empty = spectral::record(alone, 8, 1.0);  // of no pairs
  check_same(evaluate(*make(alone), box.frame), evaluate(*make(alone, 1, Precision::float64, &empty), box.frame), 1e-5);
}

TEST(couples_of_models_that_share_a_pass) {
  const EnergyTree tree = small::tree(hybrid(), 65), other = small::tree(hybrid(), 66);
  small::Box box(60, 9.0, tree, 65);
  const auto a = make(tree, 2), b = make(other, 2, Precision::mixed);
  FusedPotential* const models[] = {a.get(), b.get()};
  Answers together[] = {Answers(box.frame), Answers(box.frame)};
  const Result results[] = {together[0].result(), together[1].result()};
  CHECK(can_share(*a, *b));
  evaluate_together(box.frame, models, 2, results);
  for (int k = 0; k < 2; ++k) CHECK(is_identical(together[k], evaluate(*models[k], box.frame)));
}

// Three atoms, one of which comes closer: past the borders of a coarse table and past its end, where the network takes over.
TEST(couples_have_no_kink_at_borders_and_ends_of_tables) {
  const EnergyTree tree = small::tree(couples_alone(), 67);
  const CompressionRecord record = until(1.5, 1e-7);
  const auto coarse = make(tree, 1, Precision::float64, &record), exact = make(tree);
  const std::int64_t first[4] = {0, 2, 4, 6};
  const int index[6] = {1, 2, 0, 2, 0, 1}, types[3] = {0, 1, 0};
  double positions[9] = {0, 0, 0, 0, 0, 0, 0.3, 1.6, 0.2};
  Frame frame;
  frame.n_local = 3, frame.positions = positions, frame.types = types;
  frame.list = ListView(3, first, index, nullptr);
  const auto force = [&](FusedPotential& potential, double r) {
    positions[3] = r;
    return evaluate(potential, frame).forces[3];
  };
  const double h = 1e-4;
  double worst = 0, worst_slope = 0, largest_slope = 0;
  for (int k = 0; k < 600; ++k) {
    const double r = 1.0 + 4e-3 * k;
    const double f[2] = {force(*coarse, r - h), force(*coarse, r + h)}, e[2] = {force(*exact, r - h), force(*exact, r + h)};
    worst = std::max(worst, std::abs(f[0] - e[0]));
    worst_slope = std::max(worst_slope, std::abs((f[1] - f[0]) - (e[1] - e[0])) / (2 * h));
    largest_slope = std::max(largest_slope, std::abs(e[1] - e[0]) / (2 * h));
  }
  CHECK(coarse->n_outside() > 0 && exact->n_outside() == 0 && worst > 0);
  CHECK(worst < 1e-4);
  CHECK(worst_slope < 1e-3 * largest_slope);
}

TEST(couples_of_lone_atoms_and_of_one_neighbour) {
  for (const small::Shape& shape : kShapes) {
    const EnergyTree tree = small::tree(shape, 68);
    const double positions[] = {0, 0, 0, 2, 0.1, 0, 100, 0, 0};
    const int types[] = {0, 1, 1}, index[] = {1, 0};
    const std::int64_t first[] = {0, 1, 2, 2};
    Frame frame;
    frame.n_local = 3, frame.positions = positions, frame.types = types;
    frame.list = ListView(3, first, index, nullptr);
    const auto potential = make(tree, 2);
    const Answers answers = evaluate(*potential, frame);
    for (int i = 0; i < 3; ++i) CHECK_NEAR(answers.atom_energy[i], small::plain_energy(tree, frame, i), 1e-10);
    frame.n_local = 0, frame.n_ghost = 3, frame.list = ListView(0, first, index, nullptr);
    const Answers none = evaluate(*potential, frame);
    CHECK(none.energy == 0 && none.forces == std::vector<double>(9, 0.0) && none.virial == std::vector<double>(9, 0.0));
  }
}

// A crowd around one atom, and other frames before and after: what a frame leaves behind must not be seen.
TEST(couples_of_many_neighbours_and_of_changing_frames) {
  for (const small::Shape& shape : kShapes) {
    const EnergyTree tree = small::tree(shape, 69);
    const CompressionRecord record = until(1.0, 1e-11);
    small::Box few(11, 5.0, tree, 69), crowd(90, 5.0, tree, 70, 0.6), none(1, 30.0, tree, 71);
    for (const Precision precision : {Precision::float64, Precision::mixed}) {
      const auto potential = make(tree, 2, precision, &record);
      const Answers first = evaluate(*potential, few.frame), crowded = evaluate(*potential, crowd.frame);
      CHECK(potential->n_outside() > 0);
      evaluate(*potential, none.frame);
      CHECK(is_identical(first, evaluate(*potential, few.frame)));
      CHECK(is_identical(crowded, evaluate(*potential, crowd.frame)));
      CHECK(is_identical(crowded, evaluate(*make(tree, 2, precision, &record), crowd.frame)));
      if (precision == Precision::mixed) continue;
      for (int i = 0; i < 90; i += 30) {
        const double expected = small::plain_energy(tree, crowd.frame, i);
        CHECK_NEAR(crowded.atom_energy[i], expected, 1e-9 * std::max(1.0, std::abs(expected)));
      }
    }
  }
}

// One local atom; all others are ghosts, hundreds of them within the cutoff.
TEST(couples_among_hundreds_of_ghosts) {
  const EnergyTree tree = small::tree(hybrid(), 72);
  small::Random random(72);
  std::vector<double> positions(3, 0.0);
  std::vector<int> types = {1}, index;
  while (index.size() < 400) {
    double r[3], length2 = 0;
    for (double& x : r) x = random.uniform(-4.2, 4.2), length2 += x * x;
    if (length2 < 1.3) continue;
    positions.insert(positions.end(), r, r + 3);
    index.push_back(static_cast<int>(types.size()));
    types.push_back(static_cast<int>(random.uniform(0.0, 2.0)));
  }
  const std::int64_t first[2] = {0, 400};
  Frame frame;
  frame.n_local = 1, frame.n_ghost = 400, frame.positions = positions.data(), frame.types = types.data();
  frame.list = ListView(1, first, index.data(), nullptr);
  const auto potential = make(tree, 3);
  const Answers answers = evaluate(*potential, frame);
  const double expected = small::plain_energy(tree, frame, 0);
  CHECK_NEAR(answers.energy, expected, 1e-9 * std::max(1.0, std::abs(expected)));
  for (std::size_t a = 0; a < 3; ++a) {  // nothing pulls on the whole
    double total = 0;
    for (std::size_t k = a; k < answers.forces.size(); k += 3) total += answers.forces[k];
    CHECK_NEAR(total, 0.0, 1e-8);
  }
}
