#include "model/fused_potential.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"
#include "core/thread_team.hpp"
#include "model/fused_block.hpp"
#include "model/pair_blocks.hpp"

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

// Centres sorted by type are cut into one share per thread, and each share into blocks of one type. A thread adds forces
// into an array of its own (the first one into the result); these are added up in the order of threads. So a run gives
// the same bits whenever it has the same number of threads, and an atom's energy does not depend on that either.
template <class Real>
class FusedPotentialOf : public FusedPotential {
 public:
  FusedPotentialOf(EnergyTree tree, PairBasis basis, int n_threads)
      : plan_(std::move(tree), std::move(basis), best_isa()), team_(n_threads), shares_(team_.size()) {
    for (int k = 0; k < team_.size(); ++k) blocks_.emplace_back(new FusedBlock<Real>(plan_));
  }

  void evaluate(const Frame& frame, const Result& result) override {
    frame_ = &frame;
    result_ = &result;
    sort_centers();
    make_room();
    is_adding_up_ = false;
    team_.run(*this);
    if (team_.size() > 1 && (result.forces || result.atom_virial)) {
      is_adding_up_ = true;
      team_.run(*this);
    }
    finish();
  }

  void operator()(int part) {
    if (is_adding_up_) return add_up(part);
    evaluate_share(part);
  }

  const char* name() const override { return "fused"; }
  std::string description() const override {
    return text(plan_.basis.description, ", ", precision() == Precision::mixed ? "mixed" : "float64", ", ",
                instruction_set(), ", ", n_threads(), n_threads() == 1 ? " thread, " : " threads, ", bytes_per_atom(),
                " bytes per atom");
  }
  Precision precision() const override { return sizeof(Real) == sizeof(double) ? Precision::float64 : Precision::mixed; }
  const char* instruction_set() const override { return isa_name(plan_.kernels.isa); }
  int n_threads() const override { return team_.size(); }
  std::size_t bytes_per_atom() const override;
  std::size_t bytes_per_thread() const override;
  std::size_t bytes_of_model() const override { return plan_.bytes(); }
  std::int64_t n_outside() const override;

 private:
  struct Share {
    aligned_vector<double> forces, atom_virial;  // [n_all][3], [n_all][9]; the first thread's stay empty
    double virial[9 * 8] = {};
  };

  void sort_centers();
  void make_room();
  void evaluate_share(int part);
  void add_up(int part);
  void finish();

  FusedPlan<Real> plan_;
  ThreadTeam team_;
  std::vector<Share> shares_;
  std::vector<std::unique_ptr<FusedBlock<Real>>> blocks_;  // per thread
  std::vector<int> order_;      // [n_local] local atoms by type
  std::vector<int> first_;      // [n_types + 1] in order_
  std::vector<double> energy_;  // [n_local], if the caller does not want it
  const Frame* frame_ = nullptr;
  const Result* result_ = nullptr;
  bool is_adding_up_ = false;
  std::size_t most_atoms_ = 0;
};

template <class Real>
void FusedPotentialOf<Real>::sort_centers() {
  const int n_types = plan_.tree.n_types, n = frame_->n_local;
  grow(order_, static_cast<std::size_t>(n));
  first_.assign(n_types + 1, 0);
  for (int i = 0; i < n; ++i) ++first_[frame_->types[i] + 1];
  for (int t = 0; t < n_types; ++t) first_[t + 1] += first_[t];
  for (int i = 0; i < n; ++i) order_[first_[frame_->types[i]]++] = i;
  for (int t = n_types; t > 0; --t) first_[t] = first_[t - 1];
  first_[0] = 0;
}

template <class Real>
void FusedPotentialOf<Real>::make_room() {
  const std::size_t n_all = frame_->n_all();
  most_atoms_ = std::max(most_atoms_, n_all);
  if (!result_->atom_energy) grow(energy_, static_cast<std::size_t>(frame_->n_local));
  for (std::size_t k = 1; k < shares_.size(); ++k) {
    if (result_->forces) grow(shares_[k].forces, 3 * n_all);
    if (result_->atom_virial) grow(shares_[k].atom_virial, 9 * n_all);
  }
}

template <class Real>
void FusedPotentialOf<Real>::evaluate_share(int part) {
  const std::size_t n_all = frame_->n_all();
  Share& share = shares_[part];
  BlockSums sums;
  sums.atom_energy = result_->atom_energy ? result_->atom_energy : energy_.data();
  if (result_->forces) sums.forces = part == 0 ? result_->forces : share.forces.data();
  if (result_->atom_virial) sums.atom_virial = part == 0 ? result_->atom_virial : share.atom_virial.data();
  if (result_->virial) sums.virial = share.virial;
  if (sums.forces) std::fill_n(sums.forces, 3 * n_all, 0.0);
  if (sums.atom_virial) std::fill_n(sums.atom_virial, 9 * n_all, 0.0);
  std::fill_n(share.virial, 9 * 8, 0.0);
  const std::int64_t n = frame_->n_local, n_parts = team_.size();
  const int begin = static_cast<int>(n * part / n_parts), end = static_cast<int>(n * (part + 1) / n_parts);
  for (int t = 0; t < plan_.tree.n_types; ++t) {
    const int from = std::max(begin, first_[t]), to = std::min(end, first_[t + 1]);
    if (from >= to) continue;
    const std::int64_t n_centers = to - from, most = block_size(plan_.centers[t]), n_blocks = (n_centers + most - 1) / most;
    for (std::int64_t b = 0; b < n_blocks; ++b) {  // of nearly equal size
      const int first = from + static_cast<int>(n_centers * b / n_blocks);
      const int last = from + static_cast<int>(n_centers * (b + 1) / n_blocks);
      blocks_[part]->evaluate(*frame_, order_.data() + first, last - first, sums);
    }
  }
}

template <class Real>
void FusedPotentialOf<Real>::add_up(int part) {
  const std::size_t n_all = frame_->n_all(), n_parts = team_.size();
  const std::size_t begin = n_all * part / n_parts, end = n_all * (part + 1) / n_parts;
  for (std::size_t other = 1; other < n_parts; ++other) {
    if (result_->forces) {
      for (std::size_t k = 3 * begin; k < 3 * end; ++k) result_->forces[k] += shares_[other].forces[k];
    }
    if (result_->atom_virial) {
      for (std::size_t k = 9 * begin; k < 9 * end; ++k) result_->atom_virial[k] += shares_[other].atom_virial[k];
    }
  }
}

template <class Real>
void FusedPotentialOf<Real>::finish() {
  if (result_->energy) {
    const double* energy = result_->atom_energy ? result_->atom_energy : energy_.data();
    *result_->energy = 0;
    for (int i = 0; i < frame_->n_local; ++i) *result_->energy += energy[i];
  }
  if (result_->virial) {
    for (int k = 0; k < 9; ++k) {
      result_->virial[k] = 0;
      for (const Share& share : shares_) {
        for (int l = 0; l < 8; ++l) result_->virial[k] += share.virial[8 * k + l];
      }
    }
  }
}

template <class Real>
std::size_t FusedPotentialOf<Real>::bytes_per_atom() const {
  if (most_atoms_ == 0) return 0;
  std::size_t bytes = order_.size() * sizeof(int) + energy_.size() * sizeof(double);
  for (const Share& share : shares_) bytes += (share.forces.size() + share.atom_virial.size()) * sizeof(double);
  return (bytes + most_atoms_ - 1) / most_atoms_;
}

template <class Real>
std::size_t FusedPotentialOf<Real>::bytes_per_thread() const {
  std::size_t most = 0;
  for (const auto& block : blocks_) most = std::max(most, block->bytes());
  return most;
}

template <class Real>
std::int64_t FusedPotentialOf<Real>::n_outside() const {
  std::int64_t n = 0;
  for (const auto& block : blocks_) n += block->n_outside();
  return n;
}

}  // namespace

std::unique_ptr<FusedPotential> make_fused_potential(EnergyTree tree, PairBasis basis, const FusedOptions& options) {
  const int n_threads = choose_thread_count(options.n_threads);
  if (options.precision == Precision::mixed) {
    return std::make_unique<FusedPotentialOf<float>>(std::move(tree), std::move(basis), n_threads);
  }
  return std::make_unique<FusedPotentialOf<double>>(std::move(tree), std::move(basis), n_threads);
}

}  // namespace deepmd
