#include "model/close_pairs.hpp"

#include <algorithm>
#include <vector>

#include "model/pair_blocks.hpp"

namespace deepmd {
namespace {

// Some centres of a frame as a frame of its own: they come first, the other atoms follow as ghosts.
struct PartOfFrame {
  std::vector<int> atoms;  // [n_all] the number in the whole frame
  int n_local = 0;
  std::vector<double> positions, aparam;
  std::vector<int> types, index, shift;
  std::vector<std::int64_t> first;
  std::vector<double> forces, atom_energy, atom_virial;
  double energy = 0, virial[9] = {};
};

void take_rows(const Frame& whole, const std::vector<int>& number, PartOfFrame& part) {
  part.first.assign(1, 0);
  for (int k = 0; k < part.n_local; ++k) {
    const int i = part.atoms[static_cast<std::size_t>(k)];
    for (std::int64_t p = whole.list.first[i]; p < whole.list.first[i + 1]; ++p) {
      part.index.push_back(number[static_cast<std::size_t>(whole.list.index[p])]);
      for (int a = 0; whole.list.shift && a < 3; ++a) part.shift.push_back(whole.list.shift[3 * p + a]);
    }
    part.first.push_back(static_cast<std::int64_t>(part.index.size()));
  }
}

// The part of the centres i with is_member[i] == member.
PartOfFrame take_part(const Frame& whole, int dim_aparam, const std::vector<char>& is_member, char member) {
  PartOfFrame part;
  std::vector<int> others, number(whole.n_all());
  for (int i = 0; i < static_cast<int>(whole.n_all()); ++i) {
    const bool is_own = i < whole.n_local && is_member[static_cast<std::size_t>(i)] == member;
    (is_own ? part.atoms : others).push_back(i);
  }
  part.n_local = static_cast<int>(part.atoms.size());
  part.atoms.insert(part.atoms.end(), others.begin(), others.end());
  for (std::size_t k = 0; k < part.atoms.size(); ++k) {
    const auto i = static_cast<std::size_t>(part.atoms[k]);
    number[i] = static_cast<int>(k);
    part.types.push_back(whole.types[i]);
    part.positions.insert(part.positions.end(), whole.positions + 3 * i, whole.positions + 3 * i + 3);
  }
  for (int k = 0; whole.aparam && k < part.n_local; ++k) {
    const double* own = whole.aparam + static_cast<std::ptrdiff_t>(part.atoms[static_cast<std::size_t>(k)]) * dim_aparam;
    part.aparam.insert(part.aparam.end(), own, own + dim_aparam);
  }
  take_rows(whole, number, part);
  return part;
}

void evaluate_part(Potential& potential, const Frame& whole, const Result& wanted, PartOfFrame& part) {
  const std::size_t n_all = part.atoms.size();
  Frame frame = whole;
  frame.n_local = part.n_local;
  frame.n_ghost = static_cast<int>(n_all) - part.n_local;
  frame.positions = part.positions.data();
  frame.types = part.types.data();
  frame.aparam = whole.aparam ? part.aparam.data() : nullptr;
  frame.list = ListView(part.n_local, part.first.data(), part.index.data(),
                        whole.list.shift ? part.shift.data() : nullptr);
  part.forces.resize(3 * n_all);
  part.atom_energy.resize(static_cast<std::size_t>(part.n_local));
  part.atom_virial.resize(wanted.atom_virial ? 9 * n_all : 0);
  potential.evaluate(frame, {&part.energy, part.forces.data(), part.virial, part.atom_energy.data(),
                             wanted.atom_virial ? part.atom_virial.data() : nullptr});
}

void add_part(const PartOfFrame& part, const Result& result) {
  if (result.energy) *result.energy += part.energy;
  for (std::size_t c = 0; result.virial && c < 9; ++c) result.virial[c] += part.virial[c];
  for (std::size_t k = 0; k < part.atoms.size(); ++k) {
    const auto i = static_cast<std::size_t>(part.atoms[k]);
    if (result.atom_energy && k < part.atom_energy.size()) result.atom_energy[i] += part.atom_energy[k];
    for (std::size_t a = 0; result.forces && a < 3; ++a) result.forces[3 * i + a] += part.forces[3 * k + a];
    for (std::size_t c = 0; result.atom_virial && c < 9; ++c) result.atom_virial[9 * i + c] += part.atom_virial[9 * k + c];
  }
}

class ExactWhenClose : public FusedPotential {
 public:
  ExactWhenClose(std::unique_ptr<FusedPotential> spectral, EnergyTree tree, double shortest, const FusedOptions& options)
      : spectral_(std::move(spectral)), tree_(std::move(tree)), shortest_(shortest), options_(options) {}

  const char* name() const override { return spectral_->name(); }
  Precision precision() const override { return spectral_->precision(); }
  const char* instruction_set() const override { return spectral_->instruction_set(); }
  int n_threads() const override { return spectral_->n_threads(); }
  std::size_t bytes_per_atom() const override { return spectral_->bytes_per_atom(); }
  std::size_t bytes_per_thread() const override { return spectral_->bytes_per_thread(); }
  std::size_t bytes_of_model() const override { return spectral_->bytes_of_model(); }
  std::int64_t n_outside() const override { return n_outside_; }

  LoopMember& member() override { return spectral_->member(); }
  FusedLoop& loop() override { return spectral_->loop(); }
  const int* block_sizes() const override { return spectral_->block_sizes(); }
  std::int64_t member_n_outside() const override { return spectral_->n_outside(); }

  void evaluate(const Frame& frame, const Result& result) override {
    FusedPotential* const self = this;
    evaluate_together(frame, &self, 1, &result);
  }

  void amend(const Frame& frame, const Result& result, std::int64_t n_outside) override {
    if (n_outside == 0) return;
    n_outside_ += n_outside;
    if (!exact_) exact_ = make_fused_potential(tree_, build_pair_basis(tree_, nullptr), options_);
    const std::vector<char> is_close = find_close_centers(frame);
    clear_result(frame, result);
    for (const char side : {0, 1}) {
      PartOfFrame part = take_part(frame, tree_.dim_aparam, is_close, side);
      evaluate_part(side ? *exact_ : *spectral_, frame, result, part);
      add_part(part, result);
    }
  }

 private:
  // [n_local] 1 for centres with a neighbour closer than the range
  std::vector<char> find_close_centers(const Frame& frame) const {
    std::vector<char> is_close(static_cast<std::size_t>(frame.n_local), 0);
    for (int i = 0; i < frame.n_local; ++i) {
      for (std::int64_t p = frame.list.first[i]; p < frame.list.first[i + 1]; ++p) {
        const double* from = frame.positions + 3 * static_cast<std::ptrdiff_t>(i);
        const double* to = frame.positions + 3 * static_cast<std::ptrdiff_t>(frame.list.index[p]);
        double distance2 = 0;
        for (int a = 0; a < 3; ++a) {
          double r = to[a] - from[a];
          for (int b = 0; frame.list.shift && frame.cell && b < 3; ++b) {
            r += frame.list.shift[3 * p + b] * frame.cell[3 * b + a];
          }
          distance2 += r * r;
        }
        if (distance2 < shortest_ * shortest_) is_close[static_cast<std::size_t>(i)] = 1;
      }
    }
    return is_close;
  }

  std::unique_ptr<FusedPotential> spectral_, exact_;
  EnergyTree tree_;
  double shortest_;
  FusedOptions options_;
  std::int64_t n_outside_ = 0;
};

}  // namespace

std::unique_ptr<FusedPotential> make_exact_when_close(std::unique_ptr<FusedPotential> spectral, EnergyTree tree,
                                                      double shortest, const FusedOptions& options) {
  return std::make_unique<ExactWhenClose>(std::move(spectral), std::move(tree), shortest, options);
}

}  // namespace deepmd
