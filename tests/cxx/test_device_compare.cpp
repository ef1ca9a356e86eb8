// Deviations of several models as a GPU computes them, run on the host, against model/deviation.
#include <algorithm>
#include <limits>
#include <memory>

#include "model/deviation.hpp"
#include "small_device.hpp"
#include "small_ghosts.hpp"

using namespace deepmd;
using device::HostBackend;
using device::HostBackendOptions;
using small::Answers;

namespace {

using Call = device::ForceCall<double, HostBackend>;

device::ModelImage<double> image_of(const EnergyTree& tree) {
  return device::make_image(FusedPlan<double>(tree, build_pair_basis(tree, nullptr), Isa::baseline));
}

// Models on one backend, and what they answer together.
struct Several {
  Several(const std::vector<EnergyTree>& trees, const HostBackendOptions& options = {})
      : backend(options), frame(backend, trees[0].n_types), comparer(backend) {
    for (const EnergyTree& tree : trees) calls.push_back(std::make_unique<Call>(backend, image_of(tree), device::CallOptions()));
    for (const auto& call : calls) members.push_back(call.get());
  }
  void run(const Frame& given, const std::vector<Result>& results, device::Comparison* comparison) {
    std::vector<device::FrameStatus> status(members.size());
    device::ComparedPass<HostBackend> compared;
    if (comparison) compared = {&comparer, comparison};
    device::evaluate_pass(frame, members.data(), static_cast<int>(members.size()), given, results.data(), status.data(), compared);
  }
  HostBackend backend;
  device::DeviceFrame<HostBackend> frame;
  device::Comparer<HostBackend> comparer;
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<device::PassMember<HostBackend>*> members;
};

void check_comparison(const std::vector<EnergyTree>& trees, const small::Box& box, const Frame& frame, const std::vector<int>& owner,
                      double level) {
  std::vector<std::vector<double>> forces;
  std::vector<const double*> of_model;
  for (const EnergyTree& tree : trees) {
    Answers answers = small::on_cpu(tree, box.frame);  // periodic: nothing to be folded
    forces.push_back(answers.forces);
  }
  for (const auto& each : forces) of_model.push_back(each.data());
  std::vector<double> expected(static_cast<std::size_t>(frame.n_local)), found(expected.size(), -1.0);
  FrameOpinions opinions;
  opinions.n_models = static_cast<int>(trees.size()), opinions.n_atoms = expected.size(), opinions.forces = of_model.data();
  const double absolute = frame_deviation(opinions, expected.data()).force.max;
  opinions.relative = level;
  const Spread spread = frame_deviation(opinions, expected.data()).force;

  Several several(trees);
  Frame given = frame;
  given.list.owners = owner.data();
  device::Comparison comparison;
  comparison.level = level, comparison.atoms = found.data();
  std::vector<double> energies(trees.size()), first(3 * frame.n_all());
  std::vector<Result> results(trees.size());
  for (std::size_t k = 0; k < trees.size(); ++k) results[k].energy = &energies[k];
  results[0].forces = first.data();
  several.run(given, results, &comparison);
  CHECK(small::largest(found, expected) < 1e-10);
  CHECK_NEAR(comparison.most, spread.max, 1e-10);
  CHECK_NEAR(comparison.least, spread.min, 1e-10);
  CHECK_NEAR(comparison.mean, spread.avg, 1e-10);
  CHECK_NEAR(comparison.most_absolute, absolute, 1e-10);
}

}  // namespace

TEST(device_comparison_equals_the_formulas) {
  const std::vector<EnergyTree> trees = {small::tree({}, 41), small::tree({}, 42), small::tree({}, 43)};
  for (const auto& [n, edge] : {std::pair{1, 4.0}, std::pair{13, 5.0}, std::pair{300, 14.0}}) {
    small::Box box(n, edge, trees[0], 41);
    const small::WithImages images(box, trees[0].rcut(), n < 100 ? 2 : 1);
    for (const double level : {-1.0, 0.5}) {
      check_comparison(trees, box, box.frame, images.owner, level);     // periodic, without ghosts
      check_comparison(trees, box, images.frame, images.owner, level);  // ghosts give their shares back
    }
  }
}

// Equal models deviate by exactly zero, in the relative form too; a single model as well.
TEST(device_comparison_of_equal_models_is_zero) {
  const EnergyTree tree = small::tree({}, 44);
  small::Box box(20, 6.0, tree, 44);
  const small::WithImages images(box, tree.rcut(), 2);
  for (const std::size_t n : {1, 4}) {
    Several several(std::vector<EnergyTree>(n, tree));
    device::Comparison comparison;
    comparison.level = 0.0;
    std::vector<Result> results(n);
    several.run(images.frame, results, &comparison);
    CHECK(comparison.most == 0 && comparison.least == 0 && comparison.mean == 0 && comparison.most_absolute == 0);
  }
}

// Only what is asked for comes down, calls with and without comparison take turns, and forces that are not a number show.
TEST(device_comparison_among_other_calls) {
  const std::vector<EnergyTree> trees = {small::tree({}, 45), small::tree({}, 46)};
  small::Box box(12, 5.0, trees[0], 45);
  Several several(trees);
  Answers a(box.frame), b(box.frame);
  const std::vector<Result> all = {a.result(), b.result()};
  device::Comparison first, again, reversed;
  several.run(box.frame, all, &first);
  std::vector<double> forces = a.forces;
  Result one;
  one.forces = a.forces.data();
  several.run(box.frame, {one, Result()}, nullptr);
  several.run(box.frame, {Result(), Result()}, &again);
  CHECK(first.most > 0 && first.most == again.most && first.mean == again.mean && forces == a.forces);
  HostBackendOptions options;
  options.is_reversed = true, options.most_blocks = 1000;
  Several other(trees, options);
  other.run(box.frame, all, &reversed);
  CHECK(first.most == reversed.most && first.least == reversed.least && first.mean == reversed.mean);
  EnergyTree broken = trees[1];
  broken.energy_scale[0] = std::numeric_limits<double>::quiet_NaN();
  Several with_nan({trees[0], broken});
  with_nan.run(box.frame, {Result(), Result()}, &first);
  CHECK(std::isnan(first.mean));
}
