// Checks of the driver's parts that need no server: order of matrix elements, units, the state machine, batches, the
// pool of neighbour lists. Prints the first failure and exits 1.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "atom_names.hpp"
#include "core/units.hpp"
#include "driver_error.hpp"
#include "list_pool.hpp"
#include "model_evaluator.hpp"
#include "protocol.hpp"

namespace {

using namespace deepmd::ipi;
using deepmd::kIpiBohrPerAngstrom;
using deepmd::kIpiHartreePerElectronvolt;

void require(bool holds, const char* sentence) {
  if (!holds) {
    std::fprintf(stderr, "dp_ipi_unit: failed: %s\n", sentence);
    std::exit(1);
  }
}

bool near(double got, double expected) { return std::fabs(got - expected) <= 1e-14 * (1.0 + std::fabs(expected)); }

class MemoryStream : public Stream {
 public:
  void read_exact(void* data, std::size_t size, const char* what, Wait) override {
    if (size > input.size() - place_) {
      throw DriverError(ExitCode::kDisconnected, what);
    }
    std::memcpy(data, input.data() + place_, size);
    place_ += size;
  }
  void write_all(const void* data, std::size_t size, const char*) override {
    output.append(static_cast<const char*>(data), size);
  }
  template <typename T>
  void put(const T& value) {
    input.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_text(const std::string& text) { input += text; }
  double number(std::size_t offset) const {
    double value = 0.0;
    std::memcpy(&value, output.data() + offset, sizeof value);
    return value;
  }

  std::string input, output;

 private:
  std::size_t place_ = 0;
};

// Keeps what it was asked and answers with numbers that tell their place.
class Recorder : public Evaluator {
 public:
  int n_atoms() const override { return 2; }
  void evaluate(const std::vector<Frame>& frames, std::vector<Evaluation>& results) override {
    seen = frames;
    results.resize(frames.size());
    for (std::size_t k = 0; k < frames.size(); ++k) {
      results[k].energy = 1.0 + static_cast<double>(k);
      results[k].forces = {1, 2, 3, 4, 5, 6};
      results[k].virial = {11, 12, 13, 21, 22, 23, 31, 32, 33};
    }
  }
  std::vector<Frame> seen;
};

void put_cell(MemoryStream& stream) {
  // i-PI: cell vectors as columns, h[a][b] = component a of vector b.
  const double columns[9] = {10, 1, 2, 0, 11, 3, 0, 0, 12};
  for (const double value : columns) {
    stream.put(value);
  }
  for (int k = 0; k < 9; ++k) {
    stream.put(0.0);
  }
}

void check_order_and_units() {
  MemoryStream stream;
  stream.put_text("STATUS      INIT        ");
  stream.put(std::int32_t{7});
  stream.put(std::int32_t{4});
  stream.put_text("abcdSTATUS      POSDATA     ");
  put_cell(stream);
  stream.put(std::int32_t{2});
  for (int k = 0; k < 6; ++k) {
    stream.put(static_cast<double>(k));
  }
  stream.put_text("STATUS      GETFORCE    STATUS      EXIT        ");
  Recorder recorder;
  Protocol(stream, recorder, nullptr).serve();
  require(stream.output.substr(0, 36) == "NEEDINIT    READY       HAVEDATA    ", "answers to STATUS");
  const double rows[9] = {10, 0, 0, 1, 11, 0, 2, 3, 12};
  for (std::size_t k = 0; k < 9; ++k) {
    require(near(recorder.seen[0].cell[k], rows[k] / kIpiBohrPerAngstrom), "cell vectors as rows in Angstrom");
  }
  require(near(recorder.seen[0].positions[5], 5.0 / kIpiBohrPerAngstrom), "positions in Angstrom");
  const std::size_t start = 36;
  require(stream.output.substr(start, 12) == "FORCEREADY  ", "header of the forces");
  require(near(stream.number(start + 12), kIpiHartreePerElectronvolt), "energy in hartree");
  require(near(stream.number(start + 24 + 16), 3.0 * kIpiHartreePerElectronvolt / kIpiBohrPerAngstrom), "forces");
  require(near(stream.number(start + 24 + 48 + 8), 21.0 * kIpiHartreePerElectronvolt), "virial transposed");
  require(stream.output.substr(start + 24 + 48 + 72 + 4) == "nothingREADY       ", "remark and the state after it");
}

void check_batch() {
  MemoryStream stream;
  stream.put_text("INIT        ");
  stream.put(std::int32_t{0});
  stream.put(std::int32_t{20});
  stream.put_text("x : 1, batch_size:3 POSDATA     ");
  stream.put(std::int32_t{2});
  for (int k = 0; k < 3; ++k) {
    put_cell(stream);
  }
  for (int k = 0; k < 18; ++k) {
    stream.put(static_cast<double>(k));
  }
  stream.put_text("GETFORCE    EXIT        ");
  Recorder recorder;
  Protocol(stream, recorder, nullptr).serve();
  require(recorder.seen.size() == 3, "three structures in the batch");
  require(near(recorder.seen[2].positions[0], 12.0 / kIpiBohrPerAngstrom), "positions of the third structure");
  require(near(stream.number(12 + 16), 3.0 * kIpiHartreePerElectronvolt), "energy of the third structure");
  require(stream.output.size() == 12 + 24 + 4 + 3 * (48 + 72 + 4 + 7), "length of the batch reply");
}

void check_pool() {
  const int n_beads = 8;
  const double cell[9] = {12, 0, 0, 0, 12, 0, 0, 0, 12};
  ListPool pool(4.0, 1.0);
  for (int step = 0; step < 10; ++step) {
    for (int bead = 0; bead < n_beads; ++bead) {
      // Beads far apart, moving a little with each step.
      const double x = 0.8 * bead + 0.01 * step;
      const double positions[6] = {x, 0, 0, 3.0 + x, 0.5, 0};
      deepmd_list list{};
      require(pool.update({2, positions, cell, nullptr}, &list) == DEEPMD_OK, "lists of beads");
    }
  }
  require(pool.n_built() == n_beads, "one list a bead serves all steps");
}

void check_names() {
  const std::vector<std::string> map = {"O", "H"};
  require(name_contradiction("O", 0, map).empty(), "same name");
  require(!name_contradiction("O", 1, map).empty(), "swapped name");
  require(!name_contradiction("C", 0, map).empty(), "another element");
  require(name_contradiction("OW", 0, map).empty(), "a name that is no symbol");
  require(name_contradiction("D", 1, map).empty(), "an isotope");
  require(name_contradiction("O17", 0, map).empty(), "an isotope with a number");
  require(!name_contradiction("O17", 1, map).empty(), "an isotope of another element");
}

}  // namespace

int main() {
  check_order_and_units();
  check_batch();
  check_pool();
  check_names();
  std::printf("dp_ipi_unit: all passed\n");
  return 0;
}
