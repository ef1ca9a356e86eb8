// Neighbour lists as a GPU sorts, finds and turns them around, run on the host, against the CPU's.
#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.hpp"
#include "device/scan_bodies.hpp"
#include "small_device.hpp"
#include "small_ghosts.hpp"

using namespace deepmd;
using device::HostBackend;
using device::HostBackendOptions;
using small::OnHost;

namespace {

// Atoms without a list; the first n_local of them are centres.
struct Cloud {
  Cloud(std::vector<double> r, int n_types, int n_local) : positions(std::move(r)) {
    for (std::size_t k = 0; k < positions.size() / 3; ++k) types.push_back(static_cast<int>(k * 7 % static_cast<std::size_t>(n_types)));
    frame.n_local = n_local, frame.n_ghost = static_cast<int>(types.size()) - n_local;
    frame.positions = positions.data(), frame.types = types.data();
  }
  Cloud(const Cloud&) = delete;
  std::vector<double> positions;
  std::vector<int> types;
  Frame frame;
};

std::vector<double> random_positions(int n, double x, double y, double z, unsigned seed) {
  small::Random random(seed);
  std::vector<double> r;
  for (int k = 0; k < n; ++k) {
    for (const double length : {x, y, z}) r.push_back(random.uniform(-0.5 * length, 0.5 * length));
  }
  return r;
}

using Rows = std::vector<std::vector<int>>;

Rows sorted_rows(const std::int64_t* first, const int* index, int n) {
  Rows rows;
  for (int i = 0; i < n; ++i) {
    rows.emplace_back(index + first[i], index + first[i + 1]);
    std::sort(rows.back().begin(), rows.back().end());
  }
  return rows;
}

// The list in `frame` has the CPU's pairs, is sorted by type, and knows of each atom the entries in which it is the neighbour.
void check_list(const device::DeviceFrame<HostBackend>& found, const Frame& frame, int n_types) {
  const device::DeviceList list = found.list();
  NeighborList expected;
  build_cell_list(static_cast<int>(frame.n_all()), frame.positions, make_cell(nullptr, nullptr), frame.list.radius, expected);
  CHECK(sorted_rows(list.first, list.neighbor, frame.n_local) == sorted_rows(expected.first.data(), expected.index.data(), frame.n_local));
  CHECK(std::equal(list.first, list.first + frame.n_local + 1, found.host_first()));
  for (int i = 0; i < frame.n_local; ++i) {
    const int* run = list.run + i * (n_types + 1);
    CHECK(run[0] == 0 && run[n_types] == list.first[i + 1] - list.first[i]);
    for (int t = 0; t < n_types; ++t) {
      for (std::int64_t k = list.first[i] + run[t]; k < list.first[i] + run[t + 1]; ++k) CHECK(frame.types[list.neighbor[k]] == t);
    }
  }
  const device::TurnedList turned = found.turned();
  std::int64_t n = 0;
  for (std::size_t j = 0; j < frame.n_all(); ++j) {
    for (std::int64_t k = turned.first[j]; k < turned.first[j + 1]; ++k, ++n) {
      CHECK(list.neighbor[turned.entry[k]] == static_cast<int>(j));
      CHECK(k == turned.first[j] || turned.entry[k - 1] < turned.entry[k]);
    }
  }
  CHECK(n == list.first[frame.n_local]);
}

// Whatever the order of threads and the number of blocks, with the same order within rows.
void check_search(Cloud& cloud, int n_types, double radius) {
  cloud.frame.list.radius = radius, cloud.frame.list.n_centers = cloud.frame.n_local;
  std::vector<int> neighbors;
  for (const bool is_reversed : {false, true}) {
    HostBackendOptions options;
    options.is_reversed = is_reversed, options.most_blocks = is_reversed ? 1000 : 3;
    HostBackend backend(options);
    device::DeviceFrame<HostBackend> found(backend, n_types);
    found.take(cloud.frame);
    check_list(found, cloud.frame, n_types);
    const std::vector<int> order(found.list().neighbor, found.list().neighbor + found.host_first()[cloud.frame.n_local]);
    CHECK(!is_reversed || order == neighbors);
    neighbors = order;
  }
}

void check_search(std::vector<double> positions, int n_types, double radius, int n_local) {
  Cloud cloud(std::move(positions), n_types, n_local);
  check_search(cloud, n_types, radius);
}

}  // namespace

TEST(device_search_in_clouds) {
  for (const int n_types : {1, 2, 5}) {
    check_search(random_positions(400, 30, 25, 20, 1), n_types, 4.0, 400);
    check_search(random_positions(300, 30, 3, 0.5, 2), n_types, 4.0, 111);  // flat, with ghosts
    check_search(random_positions(200, 40, 0, 0, 3), n_types, 4.0, 200);    // on a line
  }
  check_search(random_positions(60, 9, 9, 9, 4), 100, 3.0, 60);  // more types than bins are worth
}

TEST(device_search_of_many_atoms_in_one_bin) {
  check_search(random_positions(700, 0.9, 0.9, 0.9, 5), 2, 1.0, 700);  // some rows are longer than a tile
  check_search(random_positions(300, 0.9, 0.9, 0.9, 6), 1, 50.0, 20);
  check_search(std::vector<double>(3 * 40, 1.5), 2, 1.0, 40);  // all in one place
}

TEST(device_search_of_lone_and_far_atoms) {
  check_search({0, 0, 0}, 2, 4.0, 1);
  check_search({0, 0, 0, 4.0000001, 0, 0, 100, 3, 2}, 2, 4.0, 3);  // no neighbours at all
  std::vector<double> far = random_positions(200, 15, 15, 15, 7);
  for (const double x : {1e6, -4e5, 3e8}) far.insert(far.end(), {x, -x, 0.5 * x, x + 1.0, -x, 0.5 * x});
  check_search(far, 2, 4.0, 206);
  std::vector<double> exactly;  // on the faces of bins
  for (int k = 0; k < 125; ++k) exactly.insert(exactly.end(), {2.0 * (k % 5), 2.0 * (k / 5 % 5), 2.0 * (k / 25)});
  check_search(exactly, 2, 4.0, 125);
}

TEST(device_search_among_images_of_slanted_cells) {
  const EnergyTree tree = small::tree({}, 31);
  for (const double edge : {2.6, 5.0, 9.0}) {
    small::Box box(edge < 3 ? 2 : 12, edge, tree, 31, 1.0);
    const small::WithImages images(box, tree.rcut() + 1.0, edge < 3 ? 3 : 2);
    HostBackend backend;
    device::DeviceFrame<HostBackend> found(backend, tree.n_types);
    found.take(images.frame);
    check_list(found, images.frame, tree.n_types);
  }
}

// A list that is found gives what a list that is given does, also where rows have ghosts and chunks are small.
TEST(device_search_gives_the_same_forces) {
  const EnergyTree tree = small::tree({}, 32);
  small::Box box(14, 5.5, tree, 32);
  const small::WithImages images(box, tree.rcut() + 0.5, 2);
  Frame with_rows = images.frame;
  NeighborList rows;
  build_cell_list(static_cast<int>(with_rows.n_all()), with_rows.positions, make_cell(nullptr, nullptr), tree.rcut(), rows);
  with_rows.list = ListView(with_rows.n_local, rows.first.data(), rows.index.data(), nullptr);
  const small::Answers expected = small::on_cpu(tree, with_rows);
  check_same(OnHost<double>(tree, nullptr).answer(images.frame), expected, 1e-10);
  device::CallOptions call;
  call.work_bytes = 40000;
  OnHost<double> in_chunks(tree, nullptr, {}, call);
  check_same(in_chunks.answer(images.frame), expected, 1e-10);
  CHECK(in_chunks.call().n_chunks() > 1);
}

// Larger and denser frames grow what is there; another radius, stamp or kind of list is another list.
TEST(device_search_grows_and_is_renewed) {
  HostBackend backend;
  device::DeviceFrame<HostBackend> found(backend, 2);
  std::uint64_t stamp = 0;
  for (const auto& [n, edge] : {std::pair{5, 4.0}, std::pair{900, 12.0}, std::pair{40, 9.0}, std::pair{900, 6.0}, std::pair{2500, 20.0}}) {
    Cloud cloud(random_positions(n, edge, edge, edge, static_cast<unsigned>(n)), 2, n - n / 3);
    cloud.frame.list.radius = 3.0, cloud.frame.list.stamp = ++stamp;
    found.take(cloud.frame);
    check_list(found, cloud.frame, 2);
  }
  Cloud cloud(random_positions(50, 8, 8, 8, 9), 2, 50);
  cloud.frame.list.radius = 3.0, cloud.frame.list.stamp = ++stamp;
  found.take(cloud.frame);
  const std::int64_t version = found.version();
  cloud.positions[0] += 0.1;
  found.take(cloud.frame);
  CHECK(found.version() == version);  // kept, and only the caller knows whether that is right
  cloud.frame.list.radius = 3.5;
  found.take(cloud.frame);
  check_list(found, cloud.frame, 2);
  cloud.frame.list.stamp = 0;
  found.take(cloud.frame);
  found.take(cloud.frame);
  CHECK(found.version() == version + 3);
  NeighborList rows;
  build_cell_list(50, cloud.positions.data(), make_cell(nullptr, nullptr), 3.5, rows);
  Frame given = cloud.frame;
  given.list = ListView(50, rows.first.data(), rows.index.data(), nullptr);
  found.take(given);
  CHECK(found.version() == version + 4);
  Frame as_found = given;
  as_found.list.radius = 3.5;
  check_list(found, as_found, 2);
}

TEST(device_search_says_when_memory_is_too_little) {
  Cloud cloud(random_positions(1500, 5, 5, 5, 8), 1, 1500);
  cloud.frame.list.radius = 20.0;
  HostBackendOptions options;
  options.most_bytes = 3000000;
  HostBackend backend(options);
  device::DeviceFrame<HostBackend> found(backend, 1);
  CHECK_THROWS(found.take(cloud.frame), Error, "too little memory for a list of 2248500 pairs of 1500 atoms");
}

TEST(device_list_is_turned_around) {
  const EnergyTree tree = small::tree({}, 20);
  small::Box box(30, 6.0, tree, 20);
  for (const bool is_reversed : {false, true}) {
    HostBackendOptions options;
    options.is_reversed = is_reversed;
    HostBackend backend(options);
    device::DeviceFrame<HostBackend> frame(backend, tree.n_types);
    frame.take(box.frame);
    const device::DeviceList list = frame.list();
    const device::TurnedList turned = frame.turned();
    std::int64_t n = 0;
    for (int j = 0; j < box.frame.n_local; ++j) {
      for (std::int64_t k = turned.first[j]; k < turned.first[j + 1]; ++k, ++n) {
        CHECK(list.neighbor[turned.entry[k]] == j);
        CHECK(k == turned.first[j] || turned.entry[k - 1] < turned.entry[k]);
      }
      for (int t = 0; t < tree.n_types; ++t) {
        const int* run = list.run + j * (tree.n_types + 1);
        for (std::int64_t k = list.first[j] + run[t]; k < list.first[j] + run[t + 1]; ++k) CHECK(box.types[list.neighbor[k]] == t);
      }
    }
    CHECK(n == list.first[box.frame.n_local]);
  }
}

TEST(device_scan) {
  for (const int n : {1, 2047, 2048, 2049, 5000, 300000}) {  // one tile, several, and several tiles of tiles
    HostBackend backend;
    std::vector<int> count(n);
    for (int k = 0; k < n; ++k) count[k] = static_cast<int>(k * 7LL % 11);
    std::vector<std::int64_t> expected(n + 1, 0), first(n + 1, -1);
    std::partial_sum(count.begin(), count.end(), expected.begin() + 1);
    device::Scanner<HostBackend> scanner(backend);
    scanner.scan(n, count.data(), first.data());
    CHECK(first == expected);
    CHECK(std::count(count.begin(), count.end(), 0) == n);
    std::vector<std::int64_t> counts(expected.begin(), expected.end() - 1), sums(n + 1);
    backend.launch(device::ScanCounts<std::int64_t>{n, counts.data(), sums.data()}, 1);
    std::partial_sum(expected.begin(), expected.end() - 1, expected.begin());
    CHECK(std::equal(sums.begin() + 1, sums.end(), expected.begin()) && sums[0] == 0);
  }
}

TEST(device_sort) {
  for (const int n : {0, 1, 2, 11, 12, 13, 100, 1000}) {
    std::vector<int> values(n);
    for (int k = 0; k < n; ++k) values[k] = k * 7919 % 101;
    std::vector<int> expected = values;
    std::sort(expected.begin(), expected.end());
    device::sort_ascending(values.data(), n);
    CHECK(values == expected);
  }
}
