#include "kernels/messages.hpp"

#include <algorithm>
#include <vector>

#include "kernels/lanes.hpp"

namespace deepmd {
namespace {

constexpr std::int64_t kBlock = 64;  // rows, so that a block stays in the nearest cache

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

template <class Real>
DEEPMD_INLINE void sums_body(const Messages& m, int n_rows, const Real* h, const Real* g, Real* d) {
  for (std::int64_t k = 0; k < m.n; ++k) {
    const Real* values = g + (m.second ? m.second[k] : k) * m.width;
    for (int a = 0; a < n_rows; ++a) {
      const Real factor = h[k * n_rows + a];
      Real* __restrict to = d + (m.first[k] * n_rows + a) * m.width;
      for (std::int64_t c = 0; c < m.width; ++c) to[c] += factor * values[c];
    }
  }
}

template <class Real>
DEEPMD_INLINE void rows_body(const Messages& m, int n_rows, const Real* d, const Real* g, Real* h) {
  constexpr int kSums = 64 / sizeof(Real);
  for (std::int64_t k = 0; k < m.n; ++k) {
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
DEEPMD_INLINE void values_body(const Messages& m, int n_rows, const Real* d, const Real* h, Real* g) {
  for (std::int64_t k = 0; k < m.n; ++k) {
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
DEEPMD_INLINE void product_body(const Messages& m, const Indices& i, const Real* left, const Real* right, Real* target) {
  for (std::int64_t k = 0; k < m.n; ++k) {
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
  DEEPMD_CLONES void sums(const Messages& m, int n_rows, const Real* h, const Real* g, Real* d) {                     \
    sums_body(m, n_rows, h, g, d);                                                                                    \
  }                                                                                                                   \
  DEEPMD_CLONES void rows(const Messages& m, int n_rows, const Real* d, const Real* g, Real* h) {                     \
    rows_body(m, n_rows, d, g, h);                                                                                    \
  }                                                                                                                   \
  DEEPMD_CLONES void values(const Messages& m, int n_rows, const Real* d, const Real* h, Real* g) {                   \
    values_body(m, n_rows, d, h, g);                                                                                  \
  }                                                                                                                   \
  DEEPMD_CLONES void product(const Messages& m, const Indices& i, const Real* left, const Real* right,                \
                             Real* target) {                                                                          \
    product_body(m, i, left, right, target);                                                                          \
  }
DEEPMD_MESSAGES(double)
DEEPMD_MESSAGES(float)

template <class Real>
void clear(const Messages& m, Real* p, Real* q) {
  std::fill(p, p + m.n_first * m.width, Real(0));
  std::fill(q, q + m.n_second * m.width, Real(0));
}

}  // namespace

template <class Real>
void message_values(const Curve& curve, const Messages& m, const Real* own, const Real* p, const Real* q, Real* x,
                    Real* y) {
  for (std::int64_t begin = 0; begin < m.n; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, m.n);
    Real* target = (x ? x : y) + begin * m.width;
    gather(m, begin, end, own, p, q, target);
    curve_values(curve, (end - begin) * m.width, target, y + begin * m.width);
  }
}

template <class Real>
void message_slopes(const Curve& curve, const Messages& m, const Real* state, const Real* d, Real* d_x, Real* d_p,
                    Real* d_q) {
  clear(m, d_p, d_q);
  for (std::int64_t begin = 0; begin < m.n; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, m.n), at = begin * m.width;
    curve_slopes(curve, (end - begin) * m.width, state + at, d + at, d_x + at);
    scatter(m, begin, end, d_x, d_p, d_q);
  }
}

template <class Real>
void message_bends(const Curve& curve, const Messages& m, const Real* state, const Real* d,
                   const MessageTangent<Real>& t, Real* d_d, Real* d_x, Real* d_p, Real* d_q) {
  clear(m, d_p, d_q);
  std::vector<Real> u(static_cast<std::size_t>(kBlock * m.width));
  for (std::int64_t begin = 0; begin < m.n; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, m.n), at = begin * m.width;
    gather(m, begin, end, t.x, t.p, t.q, u.data());
    curve_bends(curve, (end - begin) * m.width, state + at, d + at, static_cast<const Real*>(u.data()), d_d + at,
                d_x + at);
    scatter(m, begin, end, d_x, d_p, d_q);
  }
}

template <class Real>
void form_by_sums(const Messages& m, int n_rows, const Real* h, const Real* g, Real* d) {
  std::fill(d, d + m.n_first * n_rows * m.width, Real(0));
  sums(m, n_rows, h, g, d);
}

template <class Real>
void form_by_rows(const Messages& m, int n_rows, const Real* d, const Real* g, Real* h) {
  rows(m, n_rows, d, g, h);
}

template <class Real>
void form_by_values(const Messages& m, int n_rows, const Real* d, const Real* h, Real* g) {
  std::fill(g, g + m.n_second * m.width, Real(0));
  values(m, n_rows, d, h, g);
}

template <class Real>
void product_by_first(const Messages& m, const Real* a, const Real* b, Real* u) {
  std::fill(u, u + m.n_first * m.width, Real(0));
  product(m, {m.first, nullptr, m.second}, a, b, u);
}

template <class Real>
void product_by_row(const Messages& m, const Real* u, const Real* b, Real* a) {
  std::fill(a, a + m.n * m.width, Real(0));
  product(m, {nullptr, m.first, m.second}, u, b, a);
}

template <class Real>
void product_by_second(const Messages& m, const Real* u, const Real* a, Real* b) {
  std::fill(b, b + m.n_second * m.width, Real(0));
  product(m, {m.second, m.first, nullptr}, u, a, b);
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
