#include "model/fused_potential.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"
#include "model/fused_block.hpp"

namespace deepmd {
namespace {

// Centres in a block: the more, the less often weights are fetched; but the inputs of a block shall stay in the
// second-level cache, and 64 make the matrix products run at nearly full speed.
constexpr int kFewestCenters = 64, kMostCenters = 128;
constexpr std::size_t kInputBytes = 600 << 10;

template <class Real>
int block_size(const CenterPlan<Real>& center) {
  const auto fitting = static_cast<int>(kInputBytes / (center.x_stride * sizeof(Real)));
  return std::min(kMostCenters, std::max(kFewestCenters, fitting));
}

template <class Buffer>
void grow(Buffer& buffer, std::size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

// A thread adds forces into an array of its own (the first one into the result); these are added up in the order of
// threads. So a run gives the same bits whenever it has the same number of threads, and an atom's energy does not depend
// on that either.
template <class Real>
class FusedPotentialOf : public FusedPotential, private LoopMember {
 public:
  FusedPotentialOf(EnergyTree tree, PairBasis basis, int n_threads)
      : plan_(std::move(tree), std::move(basis), best_isa()),
        loop_(plan_.rules, plan_.kernels.filter, n_threads),
        shares_(loop_.n_threads()) {
    for (int k = 0; k < loop_.n_threads(); ++k) blocks_.emplace_back(new FusedBlock<Real>(plan_));
    for (const CenterPlan<Real>& center : plan_.centers) block_sizes_.push_back(block_size(center));
  }

  void evaluate(const Frame& frame, const Result& result) override {
    FusedPotential* const self = this;
    evaluate_together(frame, &self, 1, &result);
  }
  LoopMember& member() override { return *this; }
  FusedLoop& loop() override { return loop_; }
  const int* block_sizes() const override { return block_sizes_.data(); }

  const char* name() const override { return "fused"; }
  std::string description() const override {
    return text(plan_.basis.description, ", ", precision() == Precision::mixed ? "mixed" : "float64", ", ",
                instruction_set(), ", ", n_threads(), n_threads() == 1 ? " thread, " : " threads, ", bytes_per_atom(),
                " bytes per atom");
  }
  Precision precision() const override { return sizeof(Real) == sizeof(double) ? Precision::float64 : Precision::mixed; }
  const char* instruction_set() const override { return isa_name(plan_.kernels.isa); }
  int n_threads() const override { return loop_.n_threads(); }
  std::size_t bytes_per_atom() const override;
  std::size_t bytes_per_thread() const override;
  std::size_t bytes_of_model() const override { return plan_.bytes(); }
  std::int64_t n_outside() const override;

 private:
  struct Share {
    aligned_vector<double> forces, atom_virial;  // [n_all][3], [n_all][9]; the first thread's stay empty
    double virial[9 * 8] = {};
  };

  void begin(const Frame& frame, const Result& result) override;
  void clear(int part) override;
  void evaluate_block(int part, const int* atoms, const BlockPairs* pairs) override;
  void add_up(int part) override;
  void finish() override;
  BlockSums sums_of(int part);

  FusedPlan<Real> plan_;
  FusedLoop loop_;
  std::vector<int> block_sizes_;
  std::vector<Share> shares_;
  std::vector<std::unique_ptr<FusedBlock<Real>>> blocks_;  // per thread
  std::vector<double> energy_;  // [n_local], if the caller does not want it
  const Frame* frame_ = nullptr;
  Result result_;
  std::size_t most_atoms_ = 0;
};

template <class Real>
void FusedPotentialOf<Real>::begin(const Frame& frame, const Result& result) {
  frame_ = &frame;
  result_ = result;
  const std::size_t n_all = frame.n_all();
  most_atoms_ = std::max(most_atoms_, n_all);
  if (!result.atom_energy) grow(energy_, static_cast<std::size_t>(frame.n_local));
  for (std::size_t k = 1; k < shares_.size(); ++k) {
    if (result.forces) grow(shares_[k].forces, 3 * n_all);
    if (result.atom_virial) grow(shares_[k].atom_virial, 9 * n_all);
  }
}

template <class Real>
BlockSums FusedPotentialOf<Real>::sums_of(int part) {
  Share& share = shares_[part];
  BlockSums sums;
  sums.atom_energy = result_.atom_energy ? result_.atom_energy : energy_.data();
  if (result_.forces) sums.forces = part == 0 ? result_.forces : share.forces.data();
  if (result_.atom_virial) sums.atom_virial = part == 0 ? result_.atom_virial : share.atom_virial.data();
  if (result_.virial) sums.virial = share.virial;
  return sums;
}

template <class Real>
void FusedPotentialOf<Real>::clear(int part) {
  const std::size_t n_all = frame_->n_all();
  const BlockSums sums = sums_of(part);
  if (sums.forces) std::fill_n(sums.forces, 3 * n_all, 0.0);
  if (sums.atom_virial) std::fill_n(sums.atom_virial, 9 * n_all, 0.0);
  std::fill_n(shares_[part].virial, 9 * 8, 0.0);
}

template <class Real>
void FusedPotentialOf<Real>::evaluate_block(int part, const int* atoms, const BlockPairs* pairs) {
  blocks_[part]->evaluate(*frame_, atoms, pairs, sums_of(part));
}

template <class Real>
void FusedPotentialOf<Real>::add_up(int part) {
  const std::size_t n_all = frame_->n_all(), n_parts = loop_.n_threads();
  const std::size_t begin = n_all * part / n_parts, end = n_all * (part + 1) / n_parts;
  for (std::size_t other = 1; other < n_parts; ++other) {
    if (result_.forces) {
      for (std::size_t k = 3 * begin; k < 3 * end; ++k) result_.forces[k] += shares_[other].forces[k];
    }
    if (result_.atom_virial) {
      for (std::size_t k = 9 * begin; k < 9 * end; ++k) result_.atom_virial[k] += shares_[other].atom_virial[k];
    }
  }
}

template <class Real>
void FusedPotentialOf<Real>::finish() {
  if (result_.energy) {
    const double* energy = result_.atom_energy ? result_.atom_energy : energy_.data();
    *result_.energy = 0;
    for (int i = 0; i < frame_->n_local; ++i) *result_.energy += energy[i];
  }
  if (result_.virial) {
    for (int k = 0; k < 9; ++k) {
      result_.virial[k] = 0;
      for (const Share& share : shares_) {
        for (int l = 0; l < 8; ++l) result_.virial[k] += share.virial[8 * k + l];
      }
    }
  }
}

template <class Real>
std::size_t FusedPotentialOf<Real>::bytes_per_atom() const {
  if (most_atoms_ == 0) return 0;
  std::size_t bytes = loop_.bytes_of_order() + energy_.size() * sizeof(double);
  for (const Share& share : shares_) bytes += (share.forces.size() + share.atom_virial.size()) * sizeof(double);
  return (bytes + most_atoms_ - 1) / most_atoms_;
}

template <class Real>
std::size_t FusedPotentialOf<Real>::bytes_per_thread() const {
  std::size_t most = 0;
  for (const auto& block : blocks_) most = std::max(most, block->bytes());
  return most + loop_.bytes_per_thread();
}

template <class Real>
std::int64_t FusedPotentialOf<Real>::n_outside() const {
  std::int64_t n = 0;
  for (const auto& block : blocks_) n += block->n_outside();
  return n;
}

}  // namespace

bool can_share(FusedPotential& a, FusedPotential& b) {
  return a.loop().n_threads() == b.loop().n_threads() && a.loop().rules() == b.loop().rules();
}

void evaluate_together(const Frame& frame, FusedPotential* const* models, int n, const Result* results) {
  constexpr int kMost = 64;  // in one go: enough for any ensemble, and no allocation
  for (; n > kMost; n -= kMost, models += kMost, results += kMost) evaluate_together(frame, models, kMost, results);
  LoopMember* members[kMost];
  std::int64_t n_before[kMost];
  for (int k = 0; k < n; ++k) {
    members[k] = &models[k]->member();
    n_before[k] = models[k]->member_n_outside();
    members[k]->begin(frame, results[k]);
  }
  if (n > 0) models[0]->loop().run(frame, members, n, models[0]->block_sizes());
  for (int k = 0; k < n; ++k) models[k]->amend(frame, results[k], models[k]->member_n_outside() - n_before[k]);
}

std::unique_ptr<FusedPotential> make_fused_potential(EnergyTree tree, PairBasis basis, const FusedOptions& options) {
  const int n_threads = choose_thread_count(options.n_threads);
  if (options.precision == Precision::mixed) {
    return std::make_unique<FusedPotentialOf<float>>(std::move(tree), std::move(basis), n_threads);
  }
  return std::make_unique<FusedPotentialOf<double>>(std::move(tree), std::move(basis), n_threads);
}

}  // namespace deepmd
