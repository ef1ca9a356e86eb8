#include "kernels/messages.hpp"

#include <algorithm>
#include <vector>

#include "kernels/lanes.hpp"
#include "kernels/parts.hpp"

namespace deepmd {
namespace {

constexpr std::int64_t kBlock = 64;  // rows, so that a block stays in the nearest cache
constexpr std::int64_t kLeast = 512, kLeastTargets = 16;  // rows and targets for a thread

template <class Real>
DEEPMD_INLINE void gather_body(const Messages& m, std::int64_t begin, std::int64_t end, const Real* own, const Real* p,
                               const Real* q, Real* __restrict x) {
  for (std::int64_t k = begin; k < end; ++k) {
    const Real *a = own + k * m.width, *b = p + m.first[k] * m.width, *c = q + m.second[k] * m.width;
    Real* __restrict to = x + (k - begin) * m.width;
    for (std::int64_t l = 0; l < m.width; ++l) to[l] = a[l] + b[l] + c[l];
  }
}

template <class Real>
DEEPMD_INLINE void scatter_body(const Messages& m, std::int64_t begin, std::int64_t end, const Real* x, Real* p,
                                Real* q) {
  for (std::int64_t k = begin; k < end; ++k) {
    const Real* from = x + k * m.width;
    Real *__restrict a = p + m.first[k] * m.width, *__restrict b = q + m.second[k] * m.width;
    for (std::int64_t l = 0; l < m.width; ++l) a[l] += from[l];
    for (std::int64_t l = 0; l < m.width; ++l) b[l] += from[l];
  }
}

// Rows of `targets` from begin to end, which belong to one thread.
struct Range {
  std::int64_t begin, end;
  DEEPMD_INLINE bool has(std::int64_t k) const { return k >= begin && k < end; }
};

template <class Real>
DEEPMD_INLINE void sums_body(const Messages& m, const Range& own, int n_rows, const Real* h, const Real* g, Real* d) {
  for (std::int64_t k = 0; k < m.n; ++k) {
    if (!own.has(m.first[k])) continue;
    const Real* values = g + (m.second ? m.second[k] : k) * m.width;
    for (int a = 0; a < n_rows; ++a) {
      const Real factor = h[k * n_rows + a];
      Real* __restrict to = d + (m.first[k] * n_rows + a) * m.width;
      for (std::int64_t c = 0; c < m.width; ++c) to[c] += factor * values[c];
    }
  }
}

template <class Real>
DEEPMD_INLINE void rows_body(const Messages& m, const Range& own, int n_rows, const Real* d, const Real* g, Real* h) {
  constexpr int kSums = 64 / sizeof(Real);
  for (std::int64_t k = own.begin; k < own.end; ++k) {
    const Real* values = g + (m.second ? m.second[k] : k) * m.width;
    for (int a = 0; a < n_rows; ++a) {
      const Real* from = d + (m.first[k] * n_rows + a) * m.width;
      Real sums[kSums] = {};
      std::int64_t c = 0;
      for (; c + kSums <= m.width; c += kSums) {
        for (int l = 0; l < kSums; ++l) sums[l] += from[c + l] * values[c + l];
      }
      Real sum = 0;
      for (; c < m.width; ++c) sum += from[c] * values[c];
      for (int l = 0; l < kSums; ++l) sum += sums[l];
      h[k * n_rows + a] = sum;
    }
  }
}

template <class Real>
DEEPMD_INLINE void values_body(const Messages& m, const Range& own, int n_rows, const Real* d, const Real* h, Real* g) {
  for (std::int64_t k = 0; k < m.n; ++k) {
    if (!own.has(m.second ? m.second[k] : k)) continue;
    Real* __restrict to = g + (m.second ? m.second[k] : k) * m.width;
    for (int a = 0; a < n_rows; ++a) {
      const Real factor = h[k * n_rows + a];
      const Real* from = d + (m.first[k] * n_rows + a) * m.width;
      for (std::int64_t c = 0; c < m.width; ++c) to[c] += factor * from[c];
    }
  }
}

// target[index[k]] += left[i_k] right[j_k] for rows; an index that is null counts.
struct Indices {
  const std::int64_t *target, *left, *right;
};

DEEPMD_INLINE std::int64_t at(const std::int64_t* index, std::int64_t k) { return index ? index[k] : k; }

template <class Real>
DEEPMD_INLINE void product_body(const Messages& m, const Range& own, const Indices& i, const Real* left,
                                const Real* right, Real* target) {
  for (std::int64_t k = 0; k < m.n; ++k) {
    if (!own.has(at(i.target, k))) continue;
    const Real *a = left + at(i.left, k) * m.width, *b = right + at(i.right, k) * m.width;
    Real* __restrict to = target + at(i.target, k) * m.width;
    for (std::int64_t c = 0; c < m.width; ++c) to[c] += a[c] * b[c];
  }
}

// One version for each number type and instruction set.
#define DEEPMD_MESSAGES(Real)                                                                                         \
  DEEPMD_CLONES void gather(const Messages& m, std::int64_t begin, std::int64_t end, const Real* own, const Real* p,  \
                            const Real* q, Real* x) {                                                                 \
    gather_body(m, begin, end, own, p, q, x);                                                                         \
  }                                                                                                                   \
  DEEPMD_CLONES void scatter(const Messages& m, std::int64_t begin, std::int64_t end, const Real* x, Real* p,         \
                             Real* q) {                                                                               \
    scatter_body(m, begin, end, x, p, q);                                                                             \
  }                                                                                                                   \
  DEEPMD_CLONES void sums(const Messages& m, const Range& own, int n_rows, const Real* h, const Real* g, Real* d) { \
    sums_body(m, own, n_rows, h, g, d); \
  }                                                                                                                   \
  DEEPMD_CLONES void rows(const Messages& m, const Range& own, int n_rows, const Real* d, const Real* g, Real* h) { \
    rows_body(m, own, n_rows, d, g, h); \
  }                                                                                                                   \
  DEEPMD_CLONES void values(const Messages& m, const Range& own, int n_rows, const Real* d, const Real* h, Real* g) { \
    values_body(m, own, n_rows, d, h, g); \
  }                                                                                                                   \
  DEEPMD_CLONES void product(const Messages& m, const Range& own, const Indices& i, const Real* left, \
                             const Real* right, Real* target) { \
    product_body(m, own, i, left, right, target);                                                                          \
  }
DEEPMD_MESSAGES(double)
DEEPMD_MESSAGES(float)

template <class Real>
void clear(const Messages& m, Real* p, Real* q) {
  std::fill(p, p + m.n_first * m.width, Real(0));
  std::fill(q, q + m.n_second * m.width, Real(0));
}

// Sums of rows over one of their ends, each thread for targets of its own.
template <class Real>
void sums_over(const Messages& m, const std::int64_t* ends, std::int64_t n_targets, const Real* x, Real* target) {
  Messages own = m;
  own.first = ends;
  own.second = nullptr;
  const std::vector<Real> ones(static_cast<std::size_t>(m.n), Real(1));
  in_parts(n_targets, kLeastTargets, [&](std::int64_t begin, std::int64_t end) {
    sums(own, Range{begin, end}, 1, static_cast<const Real*>(ones.data()), x, target);
  });
}

// Blocks of rows by `work`, which fills d_x, and the sums of d_x over both ends: at once on one thread.
template <class Real, class Work>
void blocks_and_sums(const Messages& m, const Work& work, const Real* d_x, Real* d_p, Real* d_q) {
  clear(m, d_p, d_q);
  const bool at_once = training_team() == nullptr;
  in_parts(m.n, kLeast, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t begin = from; begin < to; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, to);
      work(begin, end);
      if (at_once) scatter(m, begin, end, d_x, d_p, d_q);
    }
  });
  if (at_once) return;
  sums_over(m, m.first, m.n_first, d_x, d_p);
  sums_over(m, m.second, m.n_second, d_x, d_q);
}

}  // namespace

template <class Real>
void message_values(const Curve& curve, const Messages& m, const Real* own, const Real* p, const Real* q, Real* x,
                    Real* y) {
  in_parts(m.n, kLeast, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t begin = from; begin < to; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, to);
      Real* target = (x ? x : y) + begin * m.width;
      gather(m, begin, end, own, p, q, target);
      curve_values_here(curve, (end - begin) * m.width, static_cast<const Real*>(target), y + begin * m.width);
    }
  });
}

template <class Real>
void message_slopes(const Curve& curve, const Messages& m, const Real* state, const Real* d, Real* d_x, Real* d_p,
                    Real* d_q) {
  const auto work = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = begin * m.width;
    curve_slopes_here(curve, (end - begin) * m.width, state + row, d + row, d_x + row);
  };
  blocks_and_sums(m, work, static_cast<const Real*>(d_x), d_p, d_q);
}

template <class Real>
void message_bends(const Curve& curve, const Messages& m, const Real* state, const Real* d,
                   const MessageTangent<Real>& t, Real* d_d, Real* d_x, Real* d_p, Real* d_q) {
  const auto work = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = begin * m.width;
    std::vector<Real> u(static_cast<std::size_t>((end - begin) * m.width));
    gather(m, begin, end, t.x, t.p, t.q, u.data());
    curve_bends_here(curve, (end - begin) * m.width, state + row, d + row, static_cast<const Real*>(u.data()),
                     d_d + row, d_x + row);
  };
  blocks_and_sums(m, work, static_cast<const Real*>(d_x), d_p, d_q);
}

template <class Real>
void form_by_sums(const Messages& m, int n_rows, const Real* h, const Real* g, Real* d) {
  std::fill(d, d + m.n_first * n_rows * m.width, Real(0));
  in_parts(m.n_first, kLeastTargets, [&](std::int64_t a, std::int64_t b) { sums(m, Range{a, b}, n_rows, h, g, d); });
}

template <class Real>
void form_by_rows(const Messages& m, int n_rows, const Real* d, const Real* g, Real* h) {
  in_parts(m.n, kLeast, [&](std::int64_t a, std::int64_t b) { rows(m, Range{a, b}, n_rows, d, g, h); });
}

template <class Real>
void form_by_values(const Messages& m, int n_rows, const Real* d, const Real* h, Real* g) {
  std::fill(g, g + m.n_second * m.width, Real(0));
  in_parts(m.n_second, kLeastTargets, [&](std::int64_t a, std::int64_t b) {
    values(m, Range{a, b}, n_rows, d, h, g);
  });
}

template <class Real>
void product_by_first(const Messages& m, const Real* a, const Real* b, Real* u) {
  std::fill(u, u + m.n_first * m.width, Real(0));
  in_parts(m.n_first, kLeastTargets, [&](std::int64_t from, std::int64_t to) {
    product(m, Range{from, to}, Indices{m.first, nullptr, m.second}, a, b, u);
  });
}

template <class Real>
void product_by_row(const Messages& m, const Real* u, const Real* b, Real* a) {
  std::fill(a, a + m.n * m.width, Real(0));
  in_parts(m.n, kLeast, [&](std::int64_t from, std::int64_t to) {
    product(m, Range{from, to}, Indices{nullptr, m.first, m.second}, u, b, a);
  });
}

template <class Real>
void product_by_second(const Messages& m, const Real* u, const Real* a, Real* b) {
  std::fill(b, b + m.n_second * m.width, Real(0));
  in_parts(m.n_second, kLeastTargets, [&](std::int64_t from, std::int64_t to) {
    product(m, Range{from, to}, Indices{m.second, m.first, nullptr}, u, a, b);
  });
}

#define DEEPMD_INSTANCES(Real)                                                                                       \
  template void product_by_first(const Messages&, const Real*, const Real*, Real*);                                  \
  template void product_by_row(const Messages&, const Real*, const Real*, Real*);                                    \
  template void product_by_second(const Messages&, const Real*, const Real*, Real*);                                 \
  template void message_values(const Curve&, const Messages&, const Real*, const Real*, const Real*, Real*, Real*);   \
  template void message_slopes(const Curve&, const Messages&, const Real*, const Real*, Real*, Real*, Real*);         \
  template void message_bends(const Curve&, const Messages&, const Real*, const Real*, const MessageTangent<Real>&,   \
                              Real*, Real*, Real*, Real*);                                                           \
  template void form_by_sums(const Messages&, int, const Real*, const Real*, Real*);                                  \
  template void form_by_rows(const Messages&, int, const Real*, const Real*, Real*);                                  \
  template void form_by_values(const Messages&, int, const Real*, const Real*, Real*);
DEEPMD_INSTANCES(double)
DEEPMD_INSTANCES(float)

}  // namespace deepmd
