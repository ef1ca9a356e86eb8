#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "kernels/activation.hpp"
#include "kernels/contraction.hpp"
#include "kernels/environment.hpp"
#include "kernels/filter.hpp"
#include "kernels/gemm.hpp"
#include "kernels/products.hpp"
#include "small_models.hpp"

using namespace deepmd;

namespace {

const double kTolerance[2] = {3e-6, 1e-14};  // float, double

template <class Real>
double tolerance() {
  return kTolerance[sizeof(Real) == sizeof(double)];
}

std::vector<Isa> instruction_sets() {
  std::vector<Isa> sets;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa <= best_isa()) sets.push_back(isa);
  }
  return sets;
}

template <class Real>
aligned_vector<Real> numbers(small::Random& random, std::size_t n, double width = 1.0) {
  aligned_vector<Real> made(n);
  for (Real& x : made) x = static_cast<Real>(random.normal(width));
  return made;
}

template <class Real>
void check_gemm(Isa isa, int m, int k, int n) {
  small::Random random(static_cast<unsigned>(m + 31 * k + 1000 * n));
  const std::vector<double> w = random.normals(static_cast<std::size_t>(k) * n, 1.0);
  const int lda = padded(k), ldc = padded(n);
  const aligned_vector<Real> a = numbers<Real>(random, static_cast<std::size_t>(m) * lda);
  aligned_vector<Real> c = numbers<Real>(random, static_cast<std::size_t>(m) * ldc), bias = numbers<Real>(random, ldc);
  const aligned_vector<Real> before = c;
  for (const bool transposed : {false, true}) {
    std::vector<double> turned(w.size());
    for (int i = 0; i < k; ++i) {
      for (int j = 0; j < n; ++j) turned[static_cast<std::size_t>(j) * k + i] = w[static_cast<std::size_t>(i) * n + j];
    }
    const PackedMatrix<Real> packed = transposed ? pack<Real>(isa, k, n, turned.data(), 1, k) : pack<Real>(isa, k, n, w.data(), n, 1);
    for (const bool add : {false, true}) {
      c = before;
      choose_gemm<Real>(isa)({m, &packed, a.data(), lda, c.data(), ldc, add ? nullptr : bias.data(), add});
      for (int i = 0; i < m; ++i) {
        for (int j = 0; j < n; ++j) {
          double sum = add ? before[static_cast<std::size_t>(i) * ldc + j] : bias[j];
          for (int l = 0; l < k; ++l) {
            sum += static_cast<double>(a[static_cast<std::size_t>(i) * lda + l]) * static_cast<double>(static_cast<Real>(w[static_cast<std::size_t>(l) * n + j]));
          }
          CHECK_NEAR(c[static_cast<std::size_t>(i) * ldc + j], sum, tolerance<Real>() * (10 + k));
        }
      }
    }
  }
}

// Neighbours at given places of a random table.
template <class Real>
struct Neighbourhood {
  Neighbourhood(int n_, int width_, unsigned seed) : n(n_), width(width_) {
    small::Random random(seed);
    table = numbers<Real>(random, static_cast<std::size_t>(kIntervals) * 6 * width);
    for (auto& each : row) each = numbers<Real>(random, padded(n));
    u = numbers<Real>(random, padded(n), 0.0);
    for (int k = 0; k < n; ++k) {
      u[k] = static_cast<Real>(random.uniform(0.0, 1.0));
      offset.push_back(static_cast<int>(random.uniform(0.0, kIntervals)) * 6 * width);
    }
    g = numbers<Real>(random, 4 * static_cast<std::size_t>(width));
    view = {n, offset.data(), u.data(), {row[0].data(), row[1].data(), row[2].data(), row[3].data()}};
  }

  void at(int k, int m, double& value, double& slope) const {
    value = slope = 0;
    for (int d = 5; d >= 0; --d) {
      slope = slope * u[k] + value;
      value = value * u[k] + table[offset[k] + d * width + m];
    }
  }

  static constexpr int kIntervals = 5;
  int n, width;
  aligned_vector<Real> table, row[4], u, g;
  std::vector<int> offset;
  RowView<Real> view;
};

template <class Real>
void check_contraction(Isa isa, int n, int width) {
  const Neighbourhood<Real> some(n, width, static_cast<unsigned>(n + 100 * width));
  aligned_vector<Real> sums(4 * static_cast<std::size_t>(width), Real(0.5));
  choose_contract<Real>(isa)({some.view, RowKind::angular, some.table.data(), width, sums.data(), width});
  aligned_vector<Real> d_row[4];
  Project<Real> project;
  project.rows = some.view, project.table = some.table.data(), project.width = width;
  project.inverse_step = 3;
  project.g = some.g.data(), project.stride = width;
  for (int b = 0; b < 4; ++b) {
    d_row[b].resize(padded(n), Real(-1));
    project.d_row[b] = d_row[b].data();
  }
  choose_project<Real>(isa)(project);
  std::vector<double> expected(sums.size(), 0.5);
  const double close = tolerance<Real>() * 20 * (n + width);
  for (int k = 0; k < n; ++k) {
    double back[4] = {};
    for (int m = 0; m < width; ++m) {
      double value, slope;
      some.at(k, m, value, slope);
      for (int b = 0; b < 4; ++b) {
        expected[static_cast<std::size_t>(b) * width + m] += some.row[b][k] * value;
        back[b] += some.g[static_cast<std::size_t>(b) * width + m] * value;
        back[0] += 3 * slope * some.row[b][k] * some.g[static_cast<std::size_t>(b) * width + m];
      }
    }
    for (int b = 0; b < 4; ++b) CHECK_NEAR(d_row[b][k], back[b], close * 5);
  }
  for (int b = 0; b < 4; ++b) {
    for (int k = n; k < padded(n); ++k) CHECK(d_row[b][k] == 0);
  }
  for (std::size_t k = 0; k < sums.size(); ++k) CHECK_NEAR(sums[k], expected[k], close);
}

template <class Real>
void check_products(Isa isa, int n, int axis) {
  small::Random random(static_cast<unsigned>(n * axis));
  const int stride = padded(n);
  aligned_vector<Real> t(4 * static_cast<std::size_t>(stride) + kPad, Real(0)), x(n_products(n, axis) + kPad), g_t(t.size());
  for (int b = 0; b < 4; ++b) {
    for (int q = 0; q < n; ++q) t[static_cast<std::size_t>(b) * stride + q] = static_cast<Real>(random.normal(1.0));
  }
  const Products<Real> forward = {n, axis, t.data(), stride, x.data()};
  choose_products<Real>(isa)(forward);
  const aligned_vector<Real> g_x = numbers<Real>(random, x.size());
  aligned_vector<Real> spread(static_cast<std::size_t>(axis) * stride);
  choose_products_backward<Real>(isa)({forward, g_x.data(), g_t.data(), spread.data()});
  std::vector<double> back(t.size(), 0.0);
  std::size_t entry = 0;
  for (int a = 0; a < axis; ++a) {
    for (int q = a; q < n; ++q, ++entry) {
      double sum = 0;
      for (std::size_t b = 0; b < 4; ++b) {
        sum += static_cast<double>(t[b * stride + a]) * t[b * stride + q];
        back[b * stride + a] += static_cast<double>(g_x[entry]) * t[b * stride + q];
        back[b * stride + q] += static_cast<double>(g_x[entry]) * t[b * stride + a];
      }
      CHECK_NEAR(x[entry], sum, tolerance<Real>() * 10);
    }
  }
  for (std::size_t b = 0; b < 4; ++b) {
    for (int q = 0; q < n; ++q) CHECK_NEAR(g_t[b * stride + q], back[b * stride + q], tolerance<Real>() * 10 * n);
  }
}

template <class Real>
void check_tanh(Isa isa) {
  const int n = 1000;
  aligned_vector<Real> x(padded(n)), y(padded(n)), slope(padded(n));
  for (int k = 0; k < n; ++k) x[k] = static_cast<Real>((k % 2 ? -1 : 1) * std::pow(10.0, -9 + 11.0 * k / n));  // to 100
  Activate<Real> activate;
  activate.m = 1, activate.n = n, activate.x = x.data(), activate.y = y.data(), activate.slope = slope.data();
  activate.stride = padded(n);
  choose_activate<Real>(isa)(activate);
  const double ulp = std::numeric_limits<Real>::epsilon();
  for (int k = 0; k < n; ++k) {
    const double expected = std::tanh(static_cast<double>(x[k]));
    CHECK(std::abs(y[k] - expected) <= 3 * ulp * std::abs(expected));
    CHECK_NEAR(slope[k], 1 - expected * expected, 4 * ulp);
  }
  x[0] = std::numeric_limits<Real>::quiet_NaN(), x[1] = std::numeric_limits<Real>::infinity();
  choose_activate<Real>(isa)(activate);
  CHECK(std::isnan(y[0]));
  CHECK(y[1] == 1);
}

template <class Real>
void check_rows(Isa isa) {
  const int n = padded(40);
  PairGeometry pairs;
  PairRows<Real> made;
  pairs.reserve(n), made.reserve(n);
  small::Random random(5);
  for (int k = 0; k < n; ++k) {
    double r2 = 0;
    for (double* x : {&pairs.x[k], &pairs.y[k], &pairs.z[k]}) *x = random.uniform(0.4, 2.5), r2 += *x * *x;
    pairs.r2[k] = r2;
  }
  double beyond = 0;
  MakeRows<Real> rows;
  rows.pairs = &pairs, rows.rows = &made, rows.end = static_cast<std::size_t>(n), rows.cutoff = {4.0, 1.0, 0.0};
  rows.davg = 0.1, rows.inverse_std_r = 5, rows.inverse_std_a = 4;
  rows.lo = -0.6, rows.inverse_step = 10, rows.last = 39.999999, rows.stride = 48, rows.beyond = &beyond;
  choose_make_rows<Real>(isa)(rows);
  double expected_beyond = 0;
  const double ulp = std::numeric_limits<Real>::epsilon();
  for (int k = 0; k < n; ++k) {
    const double r[3] = {pairs.x[k], pairs.y[k], pairs.z[k]}, distance = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    const RawRow raw = raw_row(distance, rows.cutoff);
    const double e = (raw.s - 0.1) * 5, at = (e + 0.6) * 10, inside = std::min(std::max(at, 0.0), rows.last);
    expected_beyond += std::abs(at - inside);
    CHECK_NEAR(made.row[0][k], e, 8 * ulp);
    for (int b = 0; b < 3; ++b) CHECK_NEAR(made.row[1 + b][k], raw.angular * 4 * r[b], 8 * ulp);
    CHECK_NEAR(made.offset[k] / 48 + static_cast<double>(made.u[k]), inside, 1e-12 + 2 * ulp);
    CHECK(made.offset[k] % 48 == 0 && made.u[k] >= 0 && made.u[k] <= 1);
    CHECK_NEAR(made.inverse_r[k], 1 / distance, 1e-14);
    CHECK_NEAR(made.d_row0[k], raw.d_s_d_r * 5, 1e-13);
    CHECK_NEAR(made.d_angular[k], raw.d_angular_d_r * 4, 1e-12);
  }
  CHECK_NEAR(beyond, expected_beyond, 1e-9);
}

void check_filter(Isa isa, int n, bool is_shifted) {
  small::Random random(static_cast<unsigned>(n));
  const std::vector<double> positions = random.normals(60, 2.0);
  const double cell[9] = {3, 0.1, 0.2, 0.3, 4, 0.4, 0.5, 0.6, 5};
  std::vector<int> index, shift, neighbor(n + kFilterSlack), expected;
  for (int k = 0; k < n; ++k) {
    index.push_back(static_cast<int>(random.uniform(0, 20)));
    for (int a = 0; a < 3; ++a) shift.push_back(static_cast<int>(random.uniform(-2, 3)));
  }
  std::vector<double> x(n + kFilterSlack), y(x), z(x), r2(x);
  const Filter row = {n, index.data(), is_shifted ? shift.data() : nullptr, cell, positions.data(), {0.1, 0.2, 0.3}, 6.0,
                      neighbor.data(), x.data(), y.data(), z.data(), r2.data()};
  const Filtered found = choose_filter(isa)(row);
  double closest = 6.0;
  int next = 0;
  for (int k = 0; k < n; ++k) {
    double r[3], sum = 0;
    for (int a = 0; a < 3; ++a) {
      r[a] = positions[3 * index[k] + a] - row.center[a];
      for (int b = 0; is_shifted && b < 3; ++b) r[a] += shift[3 * k + b] * cell[3 * b + a];
      sum += r[a] * r[a];
    }
    if (sum >= 6.0) continue;
    closest = std::min(closest, sum);
    CHECK(neighbor[next] == index[k]);
    CHECK_NEAR(std::abs(x[next] - r[0]) + std::abs(y[next] - r[1]) + std::abs(z[next] - r[2]) + std::abs(r2[next] - sum), 0.0, 1e-13);
    ++next;
  }
  CHECK(found.n == next);
  CHECK_NEAR(found.closest2, closest, 1e-14);
}

}  // namespace

TEST(filter_keeps_what_is_inside_the_cutoff) {
  for (Isa isa : instruction_sets()) {
    for (int n : {0, 1, 7, 8, 9, 64, 203}) check_filter(isa, n, false), check_filter(isa, n, true);
  }
}

TEST(products_of_packed_matrices) {
  for (Isa isa : instruction_sets()) {
    for (int m : {1, 2, 3, 7, 8, 13}) {
      check_gemm<double>(isa, m, 5, 1), check_gemm<double>(isa, m, 40, 30);
      check_gemm<float>(isa, m, 17, 50), check_gemm<float>(isa, m, 1, 16);
    }
    check_gemm<double>(isa, 9, 300, 49), check_gemm<float>(isa, 9, 300, 97);
    check_gemm<double>(isa, 4, 0, 8), check_gemm<double>(isa, 0, 8, 8);
  }
}

TEST(contraction_agrees_with_plain_loops) {
  for (Isa isa : instruction_sets()) {
    for (int n : {0, 1, 5, 16, 35}) {
      for (int width : {16, 32, 48, 80, 112}) check_contraction<double>(isa, n, width), check_contraction<float>(isa, n, width);
    }
    for (int width : {8, 24, 40, 104}) check_contraction<double>(isa, 9, width);
  }
}

TEST(inputs_agree_with_plain_loops) {
  for (Isa isa : instruction_sets()) {
    for (int axis : {1, 3, 8, 16, 20}) {
      for (int n : {20, 33, 100}) check_products<double>(isa, n, axis), check_products<float>(isa, n, axis);
    }
  }
}

TEST(tanh_is_exact_to_rounding) {
  for (Isa isa : instruction_sets()) check_tanh<double>(isa), check_tanh<float>(isa);
}

TEST(rows_agree_with_the_formulas_of_a_pair) {
  for (Isa isa : instruction_sets()) check_rows<double>(isa), check_rows<float>(isa);
}
