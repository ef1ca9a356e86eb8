#pragma once

#include <cstdint>
#include <vector>

namespace deepmd {

// A full ragged list as deepmd_list describes it, with its storage.
struct NeighborList {
  std::vector<std::int64_t> first;  // [n_centers + 1]
  std::vector<int> index;           // [n_pairs]
  std::vector<int> shift;           // [n_pairs][3]
};

// The same list, owned by somebody else.
struct ListView {
  int n_centers = 0;
  const std::int64_t* first = nullptr;
  const int* index = nullptr;
  const int* shift = nullptr;  // null: index runs over local atoms and ghosts
  const int* owners = nullptr;  // [n_all] local atoms that ghosts are images of, or null
  std::uint64_t stamp = 0;      // equal numbers: the same list as in an earlier call; 0: nobody knows
  double radius = 0;            // without rows: who evaluates finds all neighbours of local atoms within it, without shifts

  ListView() = default;
  ListView(int n, const std::int64_t* first_, const int* index_, const int* shift_)
      : n_centers(n), first(first_), index(index_), shift(shift_) {}
  explicit ListView(const NeighborList& list)
      : ListView(static_cast<int>(list.first.size()) - 1, list.first.data(), list.index.data(), list.shift.data()) {}

  bool has_rows() const { return !(radius > 0); }
};

}  // namespace deepmd
