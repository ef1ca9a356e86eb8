#include "kernels/angle_basis.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/lanes.hpp"

namespace deepmd {
namespace {

// The polynomials through eight neighbouring places in powers of u, which counts steps from their middle.
struct Polynomials {
  Lanes power[8];

  Polynomials() {
    for (int k = 0; k < kLanes; ++k) {
      double c[8] = {1.0};
      int degree = 0;
      for (int other = 0; other < kLanes; ++other) {
        if (other == k) continue;
        const double root = other - 3.5, scale = 1.0 / (k - other);
        ++degree;
        for (int d = degree; d >= 0; --d) c[d] = ((d > 0 ? c[d - 1] : 0.0) - (d < degree ? root * c[d] : 0.0)) * scale;
      }
      for (int d = 0; d < 8; ++d) power[d][k] = c[d];
    }
  }
};

const Polynomials kPolynomials;

struct Grid {
  double lo, inverse_step;
  int last;  // the largest first place of eight
};

inline Grid grid_of(const AngleBasis& basis) {
  return {-basis.bound, (basis.n_nodes - 1) / (2.0 * basis.bound), basis.n_nodes - 8};
}

struct Local {
  int first;
  Lanes value;  // L_q(c) of q = first ... first + 7
  Lanes slope;  // dL_q/dc
};

DEEPMD_INLINE Local local(const Grid& grid, double c) {
  const double x = (c - grid.lo) * grid.inverse_step;
  Local found;
  found.first = std::min(std::max(static_cast<int>(x) - 3, 0), grid.last);
  const double u = x - found.first - 3.5;
  Lanes value = kPolynomials.power[7], slope = {};
  for (int d = 6; d >= 0; --d) {
    slope = slope * u + value;
    value = value * u + kPolynomials.power[d];
  }
  found.value = value;
  found.slope = slope * grid.inverse_step;
  return found;
}

// One neighbour: the angular part A = angular * vector of its row, and the switch.
struct Member {
  std::int64_t pair;
  int type;
  double v[3];
  double inverse_r;
  double angular, d_angular;
  double a[3];
  double w, d_w;
};

// The neighbours of a centre that have a row.
void collect(const AngleBasis& basis, const PairBatch& batch, int i, std::vector<Member>& members) {
  members.clear();
  const int t_i = batch.types[i];
  for (std::int64_t p = batch.first[i]; p < batch.first[i + 1]; ++p) {
    Member m;
    m.pair = p;
    m.type = batch.types[batch.neighbor[p]];
    if (basis.keep[t_i * basis.n_types + m.type] == 0.0) continue;
    for (int a = 0; a < 3; ++a) m.v[a] = batch.vectors[3 * p + a];
    const double r = std::sqrt(m.v[0] * m.v[0] + m.v[1] * m.v[1] + m.v[2] * m.v[2]);
    m.inverse_r = r > 0.0 ? 1.0 / r : 0.0;
    const RawRow raw = raw_row(r, basis.cutoff);
    m.angular = raw.angular * basis.inv_std_a[t_i];
    m.d_angular = raw.d_angular_d_r * basis.inv_std_a[t_i];
    for (int a = 0; a < 3; ++a) m.a[a] = m.angular * m.v[a];
    switch_function(r, basis.cutoff, m.w, m.d_w);
    members.push_back(m);
  }
}

DEEPMD_INLINE double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Where the columns of a couple begin, and how often it counts.
struct Place {
  std::int64_t column;
  double times;
};

DEEPMD_INLINE Place place(const AngleBasis& basis, const std::vector<Member>& members, std::size_t j, std::size_t k) {
  const int a = std::min(members[j].type, members[k].type), b = std::max(members[j].type, members[k].type);
  return {static_cast<std::int64_t>(b * (b + 1) / 2 + a) * basis.n_nodes, j != k && a == b ? 2.0 : 1.0};
}

DEEPMD_CLONES std::int64_t sum_couples(const AngleBasis& basis, const std::vector<Member>& members, double* b) {
  const Grid grid = grid_of(basis);
  const std::int64_t group = static_cast<std::int64_t>(basis.n_kinds()) * basis.n_nodes;
  std::int64_t outside = 0;
  for (std::size_t j = 0; j < members.size(); ++j) {
    for (std::size_t k = j; k < members.size(); ++k) {
      const double c = dot(members[j].a, members[k].a);
      if (!(std::abs(c) <= basis.bound)) {
        ++outside;
        continue;
      }
      const Place at = place(basis, members, j, k);
      const Local l = local(grid, c);
      double* own = b + at.column + l.first;
      store(own, load(own) + (at.times * c) * l.value);
      if (basis.switched) {
        own += group;
        store(own, load(own) + (at.times * c * members[j].w * members[k].w) * l.value);
      }
    }
  }
  return outside;
}

// Of each member: dE/dA and dE/dw.
struct Slope {
  double a[3];
  double w;
};

DEEPMD_CLONES void slope_couples(const AngleBasis& basis, const std::vector<Member>& members, const double* h,
                                 std::vector<Slope>& slopes) {
  const Grid grid = grid_of(basis);
  const std::int64_t group = static_cast<std::int64_t>(basis.n_kinds()) * basis.n_nodes;
  for (std::size_t j = 0; j < members.size(); ++j) {
    const Member& one = members[j];
    for (std::size_t k = j; k < members.size(); ++k) {
      const Member& other = members[k];
      const double c = dot(one.a, other.a);
      const Place at = place(basis, members, j, k);
      const Local l = local(grid, c);
      const double* own = h + at.column + l.first;
      double d_c = total(load(own) * (l.value + c * l.slope));
      if (basis.switched) {
        const Lanes second = load(own + group);
        d_c += one.w * other.w * total(second * (l.value + c * l.slope));
        const double d_ww = at.times * c * total(second * l.value);
        slopes[j].w += d_ww * other.w;
        slopes[k].w += d_ww * one.w;
      }
      d_c *= at.times;
      for (int a = 0; a < 3; ++a) {
        slopes[j].a[a] += d_c * other.a[a];
        slopes[k].a[a] += d_c * one.a[a];
      }
    }
  }
}

// d_h of the changes of A and w of each member.
DEEPMD_CLONES void tangent_couples(const AngleBasis& basis, const std::vector<Member>& members,
                                   const std::vector<Slope>& changes, double* d_h) {
  const Grid grid = grid_of(basis);
  const std::int64_t group = static_cast<std::int64_t>(basis.n_kinds()) * basis.n_nodes;
  for (std::size_t j = 0; j < members.size(); ++j) {
    const Member& one = members[j];
    for (std::size_t k = j; k < members.size(); ++k) {
      const Member& other = members[k];
      const double c = dot(one.a, other.a);
      const double d_c = dot(changes[j].a, other.a) + dot(one.a, changes[k].a);
      const Place at = place(basis, members, j, k);
      const Local l = local(grid, c);
      const Lanes along = d_c * (l.value + c * l.slope);
      double* own = d_h + at.column + l.first;
      store(own, load(own) + at.times * along);
      if (basis.switched) {
        own += group;
        const double d_ww = changes[j].w * other.w + one.w * changes[k].w;
        store(own, load(own) + at.times * (one.w * other.w * along + (c * d_ww) * l.value));
      }
    }
  }
}

}  // namespace

std::int64_t angle_sum(const AngleBasis& basis, const PairBatch& batch, double* b) {
  std::int64_t outside = 0;
  for (int i = 0; i < batch.n_centers; ++i) {
    double* own = b + i * basis.n_columns();
    std::fill(own, own + basis.n_columns(), 0.0);
    std::vector<Member> members;
    collect(basis, batch, i, members);
    outside += sum_couples(basis, members, own);
  }
  return outside;
}

void angle_gradient(const AngleBasis& basis, const PairBatch& batch, const double* h, double* gradient) {
  std::fill(gradient, gradient + 3 * batch.first[batch.n_centers], 0.0);
  for (int i = 0; i < batch.n_centers; ++i) {
    std::vector<Member> members;
    collect(basis, batch, i, members);
    std::vector<Slope> slopes(members.size(), Slope{});
    slope_couples(basis, members, h + i * basis.n_columns(), slopes);
    for (std::size_t j = 0; j < members.size(); ++j) {
      const Member& m = members[j];
      const double radial = (m.d_angular * dot(slopes[j].a, m.v) + m.d_w * slopes[j].w) * m.inverse_r;
      for (int a = 0; a < 3; ++a) gradient[3 * m.pair + a] = m.angular * slopes[j].a[a] + radial * m.v[a];
    }
  }
}

void angle_tangent(const AngleBasis& basis, const PairBatch& batch, const double* d_gradient, double* d_h) {
  for (int i = 0; i < batch.n_centers; ++i) {
    double* own = d_h + i * basis.n_columns();
    std::fill(own, own + basis.n_columns(), 0.0);
    std::vector<Member> members;
    collect(basis, batch, i, members);
    std::vector<Slope> changes(members.size());
    for (std::size_t j = 0; j < members.size(); ++j) {
      const Member& m = members[j];
      const double* d_g = d_gradient + 3 * m.pair;
      const double along = dot(d_g, m.v) * m.inverse_r;
      for (int a = 0; a < 3; ++a) changes[j].a[a] = m.angular * d_g[a] + m.d_angular * along * m.v[a];
      changes[j].w = m.d_w * along;
    }
    tangent_couples(basis, members, changes, own);
  }
}

}  // namespace deepmd
