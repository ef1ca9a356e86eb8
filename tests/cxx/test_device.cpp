// What a GPU runs, run on the host: the same bodies and the same order of launches against the CPU's engine.
#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.hpp"
#include "device/engine.hpp"
#include "device/recorded_calls.hpp"
#include "small_device.hpp"
#include "small_ghosts.hpp"
#include "small_plain.hpp"
#include "small_shapes.hpp"
#include "spectral_basis.hpp"

using namespace deepmd;
using device::HostBackend;
using device::HostBackendOptions;
using small::Answers;
using small::check_same;
using small::is_identical;
using small::on_cpu;
using small::OnHost;

namespace {

// In float64 to rounding, by own products and by a library's; in mixed precision as far as float32 goes.
void check_tree(const EnergyTree& tree, const Frame& frame, const CompressionRecord* record = nullptr) {
  const Answers expected = on_cpu(tree, frame, record);
  HostBackendOptions by_library;
  by_library.has_library = by_library.is_reversed = true;
  check_same(OnHost<double>(tree, record).answer(frame), expected, 1e-10);
  check_same(OnHost<double>(tree, record, by_library).answer(frame), expected, 1e-10);
  const Answers mixed = on_cpu(tree, frame, record, Precision::mixed);
  check_same(OnHost<float>(tree, record).answer(frame), mixed, 2e-4);
}

void check_shape(const small::Shape& shape, unsigned seed) {
  const EnergyTree tree = small::tree(shape, seed);
  small::Box box(11, 5.0, tree, seed);
  check_tree(tree, box.frame);
}

}  // namespace

TEST(device_one_and_two_sided) {
  for (const auto& [shape, seed] : small::sides_and_types()) check_shape(shape, seed);
}

TEST(device_widths_and_layers) {
  for (const auto& [shape, seed] : small::widths_and_layers()) check_shape(shape, seed);
  small::Shape wide;
  wide.embedding = {35, 140}, wide.axis = 4, wide.fitting = {70, 70};  // more than one tile of everything
  check_shape(wide, 10);
}

TEST(device_parameters_and_activations) {
  for (const auto& [shape, seed] : small::parameters_and_activations()) check_shape(shape, seed);
}

TEST(device_exclusions) {
  for (const EnergyTree& tree : small::exclusions()) {
    small::Box box(11, 5.0, tree, 12);
    check_tree(tree, box.frame);
  }
}

TEST(device_refuses_couples_by_name) {
  small::Shape shape;
  shape.n_couples = 1;
  const EnergyTree both = small::tree(shape, 13);
  CHECK_THROWS(OnHost<double>(both, nullptr), Error, "has the descriptor se_e3");
  shape.kinds = {};
  const EnergyTree alone = small::tree(shape, 13);
  CHECK_THROWS(OnHost<float>(alone, nullptr), Error, "has the descriptor se_e3");
}

TEST(device_one_type_only_and_many_neighbours) {
  EnergyTree tree = small::tree({}, 13);
  tree.descriptors[0].sel = {1, 2};
  small::Box box(60, 7.0, tree, 13);  // rows of more than one tile
  check_tree(tree, box.frame);
  std::fill(box.types.begin(), box.types.end(), 1);
  check_tree(tree, box.frame);
}

TEST(device_spectral_folded_and_expanded) {
  for (const bool one_side : {true, false}) {
    small::Shape shape;
    shape.one_side = one_side;
    const EnergyTree tree = small::tree(shape, 14);
    small::Box box(11, 5.0, tree, 14);
    for (const int ranks : {1, 3, 8}) {
      const CompressionRecord record = spectral::record(tree, ranks, 0.5);
      check_tree(tree, box.frame, &record);
    }
  }
}

// The plain evaluation itself, not only another engine.
TEST(device_energies_are_those_of_the_plain_evaluation) {
  const EnergyTree tree = small::tree({}, 15);
  small::Box box(11, 5.0, tree, 15);
  const Answers answers = OnHost<double>(tree, nullptr).answer(box.frame);
  for (int i = 0; i < box.frame.n_local; ++i) {
    CHECK_NEAR(answers.atom_energy[i], small::plain_energy(tree, box.frame, i), 1e-10);
  }
}

TEST(device_ghosts_instead_of_shifts) {
  const EnergyTree tree = small::tree({}, 16);
  small::Box box(11, 5.0, tree, 16);
  const small::WithGhosts ghosts(box);
  CHECK(ghosts.frame.n_ghost > 0);
  check_same(OnHost<double>(tree, nullptr).answer(ghosts.frame), on_cpu(tree, ghosts.frame), 1e-10);
}

// Threads in another order, other numbers of blocks, tables staged or not: the same bits.
TEST(device_answers_do_not_depend_on_the_launch) {
  const EnergyTree tree = small::tree({}, 17);
  const CompressionRecord record = spectral::record(tree, 3, 0.5);
  small::Box box(20, 6.0, tree, 17);
  HostBackendOptions other;
  other.is_reversed = true, other.most_blocks = 1000;
  device::CallOptions plain;
  plain.staged_bytes = 0;
  for (const CompressionRecord* each : {static_cast<const CompressionRecord*>(nullptr), &record}) {
    const Answers first = OnHost<double>(tree, each).answer(box.frame);
    CHECK(is_identical(first, OnHost<double>(tree, each, other).answer(box.frame)));
    CHECK(is_identical(first, OnHost<double>(tree, each, other, plain).answer(box.frame)));
  }
}

TEST(device_chunks_add_up) {
  const EnergyTree tree = small::tree({}, 18);
  small::Box box(40, 6.5, tree, 18);
  const Answers whole = OnHost<double>(tree, nullptr).answer(box.frame);
  for (const std::int64_t bytes : {1, 40000, 200000}) {
    device::CallOptions call;
    call.work_bytes = bytes;
    OnHost<double> small_chunks(tree, nullptr, {}, call);
    check_same(small_chunks.answer(box.frame), whole, 1e-11);
    CHECK(small_chunks.call().n_chunks() > 1);
    CHECK(bytes > 1 || small_chunks.call().n_chunks() == 40);
  }
}

TEST(device_chunk_plan) {
  const std::vector<int> types = {1, 0, 1, 1, 0};
  const std::vector<std::int64_t> first = {0, 10, 10, 25, 26, 30};
  const device::ChunkPlan plan = device::plan_chunks(5, types.data(), 2, first.data(), 100, 10, 360);
  CHECK(plan.chunks.size() == 3);
  CHECK(plan.chunks[0].begin == 0 && plan.chunks[0].end == 2 && plan.chunks[0].n_entries == 10);
  CHECK(plan.chunks[1].end == 4 && plan.chunks[1].n_entries == 16 && plan.chunks[2].end == 5);
  CHECK((plan.order == std::vector<int>{1, 0, 2, 3, 4}));
  CHECK((plan.chunks[0].first_row == std::vector<int>{0, 1, 2}));
  CHECK(device::plan_chunks(0, nullptr, 2, first.data(), 1, 1, 1).chunks.empty());
}

TEST(device_no_atoms_and_lone_atoms) {
  const EnergyTree tree = small::tree({}, 19);
  const double positions[] = {0, 0, 0, 100, 0, 0};
  const int types[] = {0, 1};
  const std::int64_t first[] = {0, 0, 0};
  Frame frame;
  frame.n_local = 2, frame.positions = positions, frame.types = types;
  frame.list = ListView(2, first, nullptr, nullptr);
  check_same(OnHost<double>(tree, nullptr).answer(frame), on_cpu(tree, frame), 1e-12);
  frame.n_local = 0, frame.n_ghost = 2, frame.list.n_centers = 0;
  const Answers none = OnHost<double>(tree, nullptr).answer(frame);
  CHECK(none.energy == 0 && none.forces == std::vector<double>(6, 0.0) && none.virial == std::vector<double>(9, 0.0));
}

// A list with a stamp is sent once; another stamp, other types or none make it new. Positions are always new.
TEST(device_list_is_kept_while_its_stamp_is) {
  const EnergyTree tree = small::tree({}, 21);
  small::Box box(15, 5.5, tree, 21);
  box.frame.list.stamp = 1;
  OnHost<double> potential(tree, nullptr);
  potential.answer(box.frame);
  const std::int64_t version = potential.frame().version(), generation = potential.backend().generation();
  for (double& x : box.positions) x += 0.01 * std::sin(17.0 * x);
  check_same(potential.answer(box.frame), on_cpu(tree, box.frame), 1e-10);
  CHECK(potential.frame().version() == version && potential.backend().generation() == generation);
  box.types[0] = 1 - box.types[0];
  check_same(potential.answer(box.frame), on_cpu(tree, box.frame), 1e-10);
  CHECK(potential.frame().version() == version + 1);
  box.frame.list.stamp = 2;
  potential.answer(box.frame);
  CHECK(potential.frame().version() == version + 2);
  box.frame.list.stamp = 0;
  potential.answer(box.frame);
  CHECK(potential.frame().version() == version + 3);
}

TEST(device_computes_what_is_wanted_only) {
  const EnergyTree tree = small::tree({}, 22);
  small::Box box(11, 5.0, tree, 22);
  const Answers all = OnHost<double>(tree, nullptr).answer(box.frame);
  OnHost<double> potential(tree, nullptr);
  double energy = 0;
  potential.evaluate(box.frame, {&energy, nullptr, nullptr, nullptr, nullptr});
  const std::int64_t n_for_energy = potential.backend().n_launches();
  CHECK(energy == all.energy);
  std::vector<double> forces(all.forces.size()), virial(9), atom_virial(all.atom_virial.size());
  potential.evaluate(box.frame, {nullptr, forces.data(), nullptr, nullptr, nullptr});
  CHECK(forces == all.forces);
  CHECK(potential.backend().n_launches() - n_for_energy > n_for_energy);
  potential.evaluate(box.frame, {nullptr, nullptr, virial.data(), nullptr, nullptr});
  CHECK(virial == all.virial);
  potential.evaluate(box.frame, {nullptr, nullptr, nullptr, nullptr, atom_virial.data()});
  CHECK(atom_virial == all.atom_virial);
}

TEST(device_reports_pairs_it_cannot_answer) {
  const EnergyTree tree = small::tree({}, 23);
  CompressionRecord record;
  record.tolerance = 1e-6, record.table_tolerance = 1e-12, record.shortest = 2.2;
  small::Box box(11, 5.0, tree, 23, 1.0);
  Answers answers(box.frame);
  CHECK(OnHost<double>(tree, &record).evaluate(box.frame, answers.result()).is_outside);
  CHECK(!OnHost<double>(tree, nullptr).evaluate(box.frame, answers.result()).is_outside);
  std::copy_n(box.positions.begin(), 3, box.positions.begin() + 3);
  CHECK(OnHost<double>(tree, nullptr).evaluate(box.frame, answers.result()).is_too_close);
}

TEST(device_out_of_memory_makes_chunks_smaller_and_then_says_so) {
  const EnergyTree tree = small::tree({}, 24);
  small::Box box(200, 11.0, tree, 24);
  const Answers expected = on_cpu(tree, box.frame);
  OnHost<double> roomy(tree, nullptr);
  roomy.answer(box.frame);
  HostBackendOptions tight;
  tight.most_bytes = roomy.backend().bytes() - roomy.call().work_bytes() / 2;
  OnHost<double> potential(tree, nullptr, tight);
  check_same(potential.answer(box.frame), expected, 1e-10);
  CHECK(potential.call().n_chunks() > 1);
  tight.most_bytes = roomy.backend().bytes() - roomy.call().work_bytes();
  OnHost<double> hopeless(tree, nullptr, tight);
  CHECK_THROWS(hopeless.answer(box.frame), Error, "too little memory for 200 atoms");
}

TEST(device_limits_are_checked_before_the_first_call) {
  const EnergyTree tree = small::tree({}, 28);
  HostBackendOptions options;
  options.most_shared = 4000;
  CHECK_THROWS(OnHost<double>(tree, nullptr, options), Error, "bytes of a GPU's shared memory for the kernel that is to sum over neighbours, "
                                                              "expected at most 4000");
  options.most_shared = 227 << 10;
  small::Box box(11, 5.0, tree, 28);
  check_same(OnHost<double>(tree, nullptr, options).answer(box.frame), on_cpu(tree, box.frame), 1e-10);
}

TEST(device_that_is_lost_fails_in_words_and_stays_lost) {
  const EnergyTree tree = small::tree({}, 29);
  small::Box box(11, 5.0, tree, 29);
  OnHost<double> sound(tree, nullptr);
  sound.answer(box.frame);
  HostBackendOptions options;
  options.fails_after = sound.backend().n_launches() + 3;  // in the middle of the second call
  OnHost<double> potential(tree, nullptr, options);
  check_same(potential.answer(box.frame), on_cpu(tree, box.frame), 1e-10);
  for (int k = 0; k < 2; ++k) CHECK_THROWS(potential.answer(box.frame), Error, "the GPU cannot start a kernel");
}

TEST(device_recorded_calls_are_few) {
  device::RecordedCalls<std::shared_ptr<int>> calls(3);
  std::weak_ptr<int> first;
  bool is_new = false;
  for (std::int64_t k = 0; k < 3; ++k) {
    std::shared_ptr<int>& made = calls.find({k, 7}, &is_new);
    CHECK(is_new && !made);
    made = std::make_shared<int>(static_cast<int>(k));
    if (k == 0) first = made;
  }
  CHECK(*calls.find({0, 7}, &is_new) == 0 && !is_new);  // used again: now the second one is the oldest
  CHECK(!calls.find({9}, &is_new) && is_new && calls.size() == 3);
  CHECK(*calls.find({2, 7}, &is_new) == 2 && !is_new);
  CHECK(*calls.find({0, 7}, &is_new) == 0 && !is_new);
  calls.find({1, 7}, &is_new);
  CHECK(is_new && calls.size() == 3);  // it had gone, and now the empty one of {9} has
  CHECK(!first.expired());
  calls.clear();
  CHECK(first.expired() && calls.size() == 0);
}

// Several models on one frame, of two precisions, give what each gives alone.
TEST(device_models_share_a_pass) {
  const EnergyTree trees[] = {small::tree({}, 25), small::tree({}, 26)};
  small::Box box(15, 5.5, trees[0], 25);
  HostBackend backend;
  const auto image = [](const EnergyTree& tree) { return FusedPlan<double>(tree, build_pair_basis(tree, nullptr), Isa::baseline); };
  device::DeviceFrame<HostBackend> frame(backend, 2);
  device::ForceCall<double, HostBackend> first(backend, device::make_image(image(trees[0])), {});
  device::ForceCall<float, HostBackend> second(
      backend, device::make_image(FusedPlan<float>(trees[1], build_pair_basis(trees[1], nullptr), Isa::baseline)), {});
  device::PassMember<HostBackend>* const members[] = {&first, &second};
  Answers a(box.frame), b(box.frame);
  const Result results[] = {a.result(), b.result()};
  device::FrameStatus status[2];
  device::evaluate_pass(frame, members, 2, box.frame, results, status);
  CHECK(is_identical(a, OnHost<double>(trees[0], nullptr).answer(box.frame)));
  CHECK(is_identical(b, OnHost<float>(trees[1], nullptr).answer(box.frame)));
}

// Each kind of product against float64: split ones are as good as float32, those of high parts alone are not.
TEST(device_split_products) {
  constexpr int m = 5, n = 7, k = 1600;
  HostBackendOptions options;
  options.has_library = true;
  HostBackend backend(options);
  std::vector<float> a(m * k), w(k * n), w_high(k * n), w_low(k * n), a_high(m * k), a_low(m * k);
  unsigned state = 1;
  const auto draw = [&state] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f; };
  for (float& x : a) x = draw();
  for (float& x : w) x = draw();
  backend.launch(device::SplitElements<float>{k * n, 1, 1, w.data(), w_high.data(), w_low.data()}, k * n);
  for (int e = 0; e < k * n; ++e) CHECK(std::abs(w[e] - w_high[e] - w_low[e]) <= std::ldexp(std::abs(w[e]), -22));
  const auto error = [&](const device::SplitRoom<float>& room, bool add) {
    std::vector<float> c(m * n, add ? 0.5f : NAN), scratch(m * n);
    backend.multiply(device::Product<float>{m, n, k, a.data(), k, w.data()}, device::Store<float>{c.data(), n, add}, scratch.data(), room);
    double most = 0;
    for (int i = 0; i < m; ++i) {
      for (int j = 0; j < n; ++j) {
        double sum = add ? 0.5 : 0.0, size = 0;
        for (int l = 0; l < k; ++l) {
          const double term = static_cast<double>(a[i * k + l]) * w[l * n + j];
          sum += term, size += term * term;
        }
        most = std::max(most, std::abs(c[i * n + j] - sum) / std::sqrt(size));
      }
    }
    return most;
  };
  for (const bool add : {false, true}) {
    const double plain = error({}, add);
    const double split = error({w_high.data(), w_low.data(), a_high.data(), a_low.data()}, add);
    const double high = error({w_high.data(), nullptr, a_high.data(), nullptr}, add);
    CHECK(plain < 5e-6);
    CHECK(split < 5e-6);
    CHECK(high > 1e-4 && high < 2e-3);
  }
  CHECK(device::high_part(INFINITY) == INFINITY && device::high_part(0.0f) == 0.0f);
}

TEST(device_mixed_by_split_products) {
  small::Shape shape;
  shape.fitting = {20, 20, 20}, shape.has_time_step = true;
  const EnergyTree tree = small::tree(shape, 27);
  small::Box box(30, 6.0, tree, 27);
  const Answers expected = on_cpu(tree, box.frame);
  HostBackendOptions options;
  options.has_library = true;
  double errors[3];
  for (const device::ProductKind kind : {device::ProductKind::plain, device::ProductKind::split, device::ProductKind::tf32}) {
    device::CallOptions call;
    call.products = kind;
    OnHost<float> potential(tree, nullptr, options, call);
    CHECK(potential.call().products() == kind);
    errors[static_cast<int>(kind)] = small::largest(potential.answer(box.frame).forces, expected.forces);
  }
  CHECK(errors[0] < 2e-4 && errors[1] < 2 * errors[0] && errors[2] > errors[1] && errors[2] < 0.05);
  device::CallOptions call;
  call.products = device::ProductKind::split;
  CHECK(OnHost<float>(tree, nullptr, {}, call).call().products() == device::ProductKind::plain);  // no library, nothing to split for
  CHECK(OnHost<double>(tree, nullptr, options, call).call().products() == device::ProductKind::plain);
}
