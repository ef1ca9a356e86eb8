#include "model/fused_couples.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace deepmd {
namespace {

template <class Buffer>
void grow(Buffer& buffer, std::size_t n) {
  if (buffer.size() < n) buffer.resize(n + n / 4);
}

// Beyond this, in products, a couple counts as outside the table; less is rounding and changes nothing.
constexpr double kOutside = 1e-9;
constexpr std::size_t kWord = sizeof(std::uint64_t);

}  // namespace

template <class Real>
FusedCouples<Real>::FusedCouples(const FusedPlan<Real>& all, int number)
    : all_(all), number_(number), plan_(all.couples[static_cast<std::size_t>(number)]) {
  const auto n = static_cast<std::size_t>(plan_.most_intervals);
  moments_.assign(n * kBanks * kMoments, Real(0));
  polynomials_.assign(n * kMoments, Real(0));
  touched_.assign((n + kWord - 1) / kWord * kWord, 0);
}

// Angular parts of the rows of all neighbours of centre k. Those of the filling are zero, as its vectors are.
template <class Real>
void FusedCouples<Real>::make_rows(int k) {
  const CoupleDescriptor& descriptor = all_.tree.couples[static_cast<std::size_t>(number_)];
  const PairGeometry& pairs = pairs_->geometry;
  const std::size_t begin = pairs_->first[k], n = pairs_->first[k + 1] - begin;
  rows_.reserve(n);
  double beyond = 0;
  MakeRows<double> rows;
  rows.pairs = &pairs, rows.rows = &rows_;
  rows.first = rows.begin = begin, rows.end = begin + n;
  rows.kind = RowKind::radial, rows.cutoff = descriptor.cutoff;  // without a table: one of no length
  rows.inverse_std_a = 1.0 / descriptor.std_a[static_cast<std::size_t>(t_i_)];
  rows.inverse_step = 0.0;
  rows.beyond = &beyond;
  all_.kernels.couple_rows(rows);
  const double* const vectors[3] = {pairs.x.data() + begin, pairs.y.data() + begin, pairs.z.data() + begin};
  for (int b = 0; b < 3; ++b) {
    grow(row_[b], n);
    for (std::size_t p = 0; p < n; ++p) row_[b][p] = rows_.angular[p] * vectors[b][p];
  }
}

template <class Real>
CoupleRuns FusedCouples<Real>::runs(int k, const CoupleKind<Real>& kind) const {
  CoupleRuns runs;
  runs.is_same = kind.a == kind.b;
  runs.grid = kind.grid;
  runs.j.n = run(k, kind.a).n, runs.k.n = run(k, kind.b).n;
  for (int b = 0; b < 3; ++b) {
    runs.j.row[b] = row_[b].data() + start(k, kind.a);
    runs.k.row[b] = row_[b].data() + start(k, kind.b);
  }
  return runs;
}

// Appends the touched intervals to the list and forgets which they were.
template <class Real>
void FusedCouples<Real>::list_intervals(int n_intervals) {
  for (std::size_t word = 0; word < static_cast<std::size_t>(n_intervals); word += kWord) {
    std::uint64_t any;
    std::memcpy(&any, &touched_[word], kWord);
    if (any == 0) continue;
    for (std::size_t i = word; i < word + kWord; ++i) {
      intervals_[n_listed_] = static_cast<int>(i);
      n_listed_ += touched_[i];
    }
    std::memset(&touched_[word], 0, kWord);
  }
}

// What the couples of one kind of centre k add to its sums.
template <class Real>
void FusedCouples<Real>::sum_kind(int k, int number, Real* own) {
  const CoupleKind<Real>& kind = plan_.kinds[static_cast<std::size_t>(number)];
  const std::size_t first = n_listed_;
  outside_.j.clear();
  SumCouples<Real> sum;
  sum.runs = runs(k, kind);
  if (sum.runs.j.n > 0 && sum.runs.k.n > 0) {
    double beyond = 0;
    grow(intervals_, n_listed_ + static_cast<std::size_t>(kind.n_intervals) + 1);  // or moments could be left behind
    sum.moments = moments_.data(), sum.touched = touched_.data(), sum.beyond = &beyond;
    all_.kernels.sum_couples(sum);
    list_intervals(kind.n_intervals);
    all_.kernels.spend_moments({static_cast<int>(n_listed_ - first), intervals_.data() + first, kind.c.data(), kind.width,
                                moments_.data(), own});
    if (beyond > kOutside) {
      find_outside(k, number);
      add_outside(own);
    }
  }
  is_outside_[n_lists_] = outside_.size() > 0;
  first_[++n_lists_] = n_listed_;
}

template <class Real>
void FusedCouples<Real>::find_outside(int k, int number) {
  const CoupleKind<Real>& kind = plan_.kinds[static_cast<std::size_t>(number)];
  const CoupleRuns couples = runs(k, kind);
  outside_.j.clear(), outside_.k.clear(), outside_.times.clear(), outside_.at.clear();
  for (int j = 0; j < couples.j.n; ++j) {
    for (int l = couples.is_same ? j : 0; l < couples.k.n; ++l) {
      double product = 0;
      for (int b = 0; b < 3; ++b) product += couples.j.row[b][j] * couples.k.row[b][l];
      const double end = std::min(std::max(product, kind.grid.lo), kind.grid.hi);
      if (!(std::abs(product - end) > kOutside)) continue;
      outside_.j.push_back(start(k, kind.a) + static_cast<std::size_t>(j));
      outside_.k.push_back(start(k, kind.b) + static_cast<std::size_t>(l));
      outside_.times.push_back((couples.is_same && l != j ? 2.0 : 1.0) * kind.scale);
      outside_.at.insert(outside_.at.end(), {product, end});
    }
  }
  const std::size_t n_values = outside_.at.size() * static_cast<std::size_t>(plan_.width);
  grow(outside_.g, n_values);
  grow(outside_.g1, n_values);
  const CoupleDescriptor& descriptor = all_.tree.couples[static_cast<std::size_t>(number_)];
  evaluate_curve(descriptor.embedding[static_cast<std::size_t>(CoupleDescriptor::kind_of(kind.a, kind.b))],
                 static_cast<int>(outside_.at.size()), outside_.at.data(), outside_.g.data(), outside_.g1.data(), nullptr);
}

// The network itself instead of what the table said, whose end is the network's value there.
template <class Real>
void FusedCouples<Real>::add_outside(Real* own) {
  const auto width = static_cast<std::size_t>(plan_.width);
  for (std::size_t c = 0; c < outside_.size(); ++c) {
    const double *at = &outside_.at[2 * c], *g = &outside_.g[2 * c * width];
    for (std::size_t m = 0; m < width; ++m) {
      own[m] += static_cast<Real>(outside_.times[c] * (at[0] * g[m] - at[1] * g[width + m]));
    }
  }
  n_outside_ += static_cast<std::int64_t>(outside_.size());
}

template <class Real>
void FusedCouples<Real>::outside_back(const Real* g_own) {
  const auto width = static_cast<std::size_t>(plan_.width);
  for (std::size_t c = 0; c < outside_.size(); ++c) {
    const double *at = &outside_.at[2 * c], *g = &outside_.g[2 * c * width], *g1 = &outside_.g1[2 * c * width];
    double pull = 0;
    for (std::size_t m = 0; m < width; ++m) {
      const double slope = g[m] + at[0] * g1[m] - g[width + m] - at[1] * g1[width + m];
      pull += static_cast<double>(g_own[m]) * outside_.times[c] * slope;
    }
    for (int b = 0; b < 3; ++b) {
      d_row_[1 + b][outside_.j[c]] += pull * row_[b][outside_.k[c]];
      d_row_[1 + b][outside_.k[c]] += pull * row_[b][outside_.j[c]];
    }
  }
}

template <class Real>
void FusedCouples<Real>::forward(int t_i, const BlockPairs& pairs, Real* x, int x_stride) {
  t_i_ = t_i;
  pairs_ = &pairs;
  first_x_ = all_.centers[static_cast<std::size_t>(t_i)].couple_x[static_cast<std::size_t>(number_)];
  const int n_kinds = static_cast<int>(plan_.kinds.size());
  grow(first_, static_cast<std::size_t>(pairs.m * n_kinds) + 1);
  grow(is_outside_, first_.size());
  first_[0] = n_listed_ = n_lists_ = 0;
  for (int k = 0; k < pairs.m; ++k) {
    Real* own = x + static_cast<std::size_t>(k) * x_stride + first_x_;
    std::fill_n(own, padded(plan_.width), Real(0));
    make_rows(k);
    for (int number = 0; number < n_kinds; ++number) sum_kind(k, number, own);
  }
}

template <class Real>
void FusedCouples<Real>::push_kind(int k, int number, const Real* g) {
  const CoupleKind<Real>& kind = plan_.kinds[static_cast<std::size_t>(number)];
  const std::size_t list = static_cast<std::size_t>(k) * plan_.kinds.size() + static_cast<std::size_t>(number);
  PushCouples<Real> push;
  push.runs = runs(k, kind);
  if (push.runs.j.n == 0 || push.runs.k.n == 0) return;
  SlopePolynomials<Real> slopes;
  slopes.n = static_cast<int>(first_[list + 1] - first_[list]), slopes.interval = intervals_.data() + first_[list];
  slopes.table = kind.c.data(), slopes.width = kind.width, slopes.g = g;
  slopes.first = kind.grid.lo * kind.grid.inverse_step;
  slopes.polynomials = polynomials_.data();
  all_.kernels.slope_polynomials(slopes);
  push.polynomials = polynomials_.data();
  for (int b = 0; b < 3; ++b) {
    push.d_j[b] = d_row_[1 + b].data() + start(k, kind.a);
    push.d_k[b] = d_row_[1 + b].data() + start(k, kind.b);
  }
  all_.kernels.push_couples(push);
  if (!is_outside_[list]) return;
  find_outside(k, number);
  outside_back(g);
}

template <class Real>
void FusedCouples<Real>::backward(const Real* x, int x_stride, const int* atoms, const BlockSums& sums) {
  for (int k = 0; k < pairs_->m; ++k) {
    const Real* g = x + static_cast<std::size_t>(k) * x_stride + first_x_;
    const std::size_t n = pairs_->first[k + 1] - pairs_->first[k];
    for (auto& each : d_row_) {
      grow(each, n);
      std::fill_n(each.data(), n, 0.0);
    }
    make_rows(k);
    for (int number = 0; number < static_cast<int>(plan_.kinds.size()); ++number) push_kind(k, number, g);
    ChainRule<double> chain;
    chain.rows = &rows_;
    for (int b = 0; b < 4; ++b) chain.d_row[b] = d_row_[b].data();
    chain_.run(all_.kernels.couple_chain, chain, *pairs_, all_.tree.n_types, k, atoms[k], sums);
  }
}

template <class Real>
std::size_t FusedCouples<Real>::bytes() const {
  return rows_.bytes() + chain_.bytes() + (3 * row_[0].size() + 4 * d_row_[0].size()) * sizeof(double) +
         (moments_.size() + polynomials_.size()) * sizeof(Real) + touched_.size() + intervals_.size() * sizeof(int) +
         first_.size() * (sizeof(std::size_t) + 1) + (outside_.g.size() + outside_.g1.size()) * sizeof(double);
}

template class FusedCouples<float>;
template class FusedCouples<double>;

}  // namespace deepmd
