// Feeds the driver's parsers with bytes that no honest server or user would write: streams of valid messages that are
// cut, flipped and spliced, and plain noise. Whatever comes, the parser ends with a DriverError or with EXIT, and what
// it sent is a sequence of legal replies with finite numbers. Meant to run under sanitizers.
//   dp_ipi_fuzz [n_streams] [seed]
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "atom_names.hpp"
#include "driver_config.hpp"
#include "driver_error.hpp"
#include "model_evaluator.hpp"
#include "protocol.hpp"

namespace {

using namespace deepmd::ipi;
using Bytes = std::string;
using Random = std::mt19937_64;

constexpr int kAtoms = 3;

std::size_t below(Random& random, std::size_t n) { return static_cast<std::size_t>(random() % n); }
double uniform(Random& random) { return std::uniform_real_distribution<double>(0.0, 1.0)(random); }

[[noreturn]] void complain(const std::string& sentence) {
  std::fprintf(stderr, "dp_ipi_fuzz: %s\n", sentence.c_str());
  std::abort();
}

// Reads from memory; judges every reply.
class MemoryStream : public Stream {
 public:
  explicit MemoryStream(Bytes input) : input_(std::move(input)) {}

  void read_exact(void* data, std::size_t size, const char* what, Wait) override {
    if (size > input_.size() - place_) {
      throw DriverError(ExitCode::kDisconnected, std::string("end of the stream: ") + what);
    }
    if (size > 0) {
      std::memcpy(data, input_.data() + place_, size);
    }
    place_ += size;
  }

  void write_all(const void* data, std::size_t size, const char*) override {
    const Bytes reply(static_cast<const char*>(data), size);
    const Bytes header = reply.substr(0, 12);
    if (header == "FORCEREADY  ") {
      judge_forces(reply);
    } else if (size != 12 || (header != "NEEDINIT    " && header != "READY       " && header != "HAVEDATA    ")) {
      complain("illegal reply of " + std::to_string(size) + " bytes");
    }
  }

 private:
  static void judge_forces(const Bytes& reply) {
    constexpr std::size_t each = 8 + 24 * kAtoms + 72 + 4 + 7;
    const std::size_t body = reply.size() - 12 - 4;
    if (reply.size() < 16 + each || body % each != 0) {
      complain("FORCEREADY of a wrong length");
    }
    const std::size_t n = body / each;
    const auto judge_doubles = [&](std::size_t start, std::size_t count) {
      for (std::size_t k = 0; k < count; ++k) {
        double value = 0.0;
        std::memcpy(&value, reply.data() + start + 8 * k, 8);
        if (!std::isfinite(value)) {
          complain("a number that is not finite was sent");
        }
      }
    };
    std::int32_t n_atoms = 0;
    std::memcpy(&n_atoms, reply.data() + 12 + 8 * n, 4);
    if (n_atoms != kAtoms) {
      complain("a wrong number of atoms was sent");
    }
    judge_doubles(12, n);
    judge_doubles(16 + 8 * n, n * (3 * kAtoms + 9));
  }

  Bytes input_;
  std::size_t place_ = 0;
};

template <typename T>
void put(Bytes& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A number, now and then one that a broken server might send.
double number(Random& random, double usual) {
  switch (below(random, 400)) {
    case 0: return std::nan("");
    case 1: return HUGE_VAL;
    case 2: return -1e308;
    case 3: return 1e9 * uniform(random);
    case 4: return 0.0;
    case 5: return 5e-324;
    default: return usual;
  }
}

void put_cell(Bytes& bytes, Random& random) {
  for (int k = 0; k < 18; ++k) {
    put(bytes, number(random, k % 4 == 0 && k < 9 ? 8.0 + 10.0 * uniform(random) : uniform(random) - 0.5));
  }
}

void put_positions(Bytes& bytes, Random& random) {
  for (int k = 0; k < 3 * kAtoms; ++k) {
    put(bytes, number(random, 5.0 * (k / 3) + 2.0 * uniform(random)));
  }
}

std::int32_t count(Random& random, std::int32_t usual) {
  static const std::int32_t odd[] = {-1, 0, 1, 2, 4, 200, 2000000000, -2147483647 - 1, 2147483647};
  return below(random, 60) == 0 ? odd[below(random, 9)] : usual;
}

// `batch` follows what the INIT messages announce, so that most streams stay in step.
void put_message(Bytes& bytes, Random& random, int& batch) {
  switch (below(random, 8)) {
    case 0:
      bytes += "STATUS      ";
      break;
    case 1: {
      static const char* texts[] = {"", "batch_size:1", " x : 3, batch_size:3", "batch_size:0", "batch_size: ,", ",:,:",
                                    "batch_size:99999999999", "batch_size:4"};
      const std::size_t choice = below(random, below(random, 10) == 0 ? 8 : 3);
      batch = choice == 2 ? 3 : choice == 7 ? 4 : 1;
      bytes += "INIT        ";
      put(bytes, count(random, 0));
      put(bytes, count(random, static_cast<std::int32_t>(std::strlen(texts[choice]))));
      bytes += texts[choice];
      break;
    }
    case 2:
      bytes += below(random, 20) == 0 ? "EXIT        " : "STATUS      ";
      break;
    default:
      bytes += "POSDATA     ";
      if (batch > 1) {
        put(bytes, count(random, kAtoms));
      }
      for (int k = 0; k < batch; ++k) {
        put_cell(bytes, random);
      }
      if (batch == 1) {
        put(bytes, count(random, kAtoms));
      }
      for (int k = 0; k < batch; ++k) {
        put_positions(bytes, random);
      }
      bytes += below(random, 30) == 0 ? "" : "GETFORCE    ";
  }
}

void mutate(Bytes& bytes, Random& random) {
  for (std::size_t n = below(random, 4); n > 0 && !bytes.empty(); --n) {
    const std::size_t place = below(random, bytes.size());
    const std::size_t length = std::min(below(random, 40), bytes.size() - place);
    switch (below(random, 6)) {
      case 0: bytes[place] = static_cast<char>(random()); break;
      case 1: bytes[place] = static_cast<char>(bytes[place] ^ (1 << below(random, 8))); break;
      case 2: bytes.resize(place); break;
      case 3: bytes.erase(place, length); break;
      case 4: bytes.insert(below(random, bytes.size()), bytes.substr(place, length)); break;
      default: bytes.insert(place, Bytes(length, static_cast<char>(random())));
    }
  }
}

Bytes noise(Random& random) {
  Bytes bytes(below(random, 600), '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(random());
  }
  return bytes;
}

Bytes make_stream(Random& random) {
  if (below(random, 10) == 0) {
    return noise(random);
  }
  Bytes bytes;
  int batch = 1;
  for (std::size_t n = 1 + below(random, 12); n > 0; --n) {
    put_message(bytes, random, batch);
  }
  if (below(random, 2) == 0) {
    mutate(bytes, random);
  }
  return bytes;
}

// Runs `parse`; returns the code it ended with.
template <typename Parse>
int outcome(const Parse& parse) {
  try {
    parse();
    return 0;
  } catch (const DriverError& error) {
    if (std::strlen(error.what()) < 10) {
      complain("an error without words");
    }
    return static_cast<int>(error.code());
  }
}

const char kConfig[] =
    "{\"verbose\": false, \"use_unix\": true, \"port\": 31415, \"host\": \"a\", \"graph_file\": \"m\", \"coord_file\": "
    "\"c\", \"atom_type\": {\"O\": 0, \"H\": 1}, \"_comment\": [1, {\"x\": null}], \"pbc\": [true, true, false], "
    "\"skin\": 0.5, \"timeout\": 1e1, \"fparam\": [1.0], \"n_threads\": 1}";
const char kXyz[] = "3\ncomment\nO 0 0 0\nH 0 0 1 0 0 0\nH 1 0 0 1 1 1 2 2 2\n";

}  // namespace

int main(int argc, char** argv) {
  const long n_streams = argc > 1 ? std::atol(argv[1]) : 10000;
  Random random(argc > 2 ? static_cast<std::uint64_t>(std::atoll(argv[2])) : 1);
  const std::string model = "dp_ipi_fuzz.standin";
  std::ofstream(model) << "standin type_map O H\n";
  DriverConfig config;
  config.graph_file = model;
  ModelEvaluator evaluator(config, {"O", "H", "H"}, {0, 1, 1});
  std::remove(model.c_str());
  std::FILE* log = std::fopen("/dev/null", "w");
  std::map<int, long> protocol_codes, config_codes, xyz_codes;
  for (long k = 0; k < n_streams; ++k) {
    MemoryStream stream(make_stream(random));
    Protocol protocol(stream, evaluator, k % 2 ? log : nullptr);
    ++protocol_codes[outcome([&] { protocol.serve(); })];
    Bytes text = kConfig;
    mutate(text, random);
    ++config_codes[outcome([&] { parse_config(text, "fuzz.json"); })];
    Bytes structure = kXyz;
    mutate(structure, random);
    std::istringstream lines(structure);
    ++xyz_codes[outcome([&] { types_of_names(read_atom_names(lines, "fuzz.xyz"), {{"O", 0}, {"H", 1}}); })];
  }
  std::fclose(log);
  const auto print = [](const char* name, const std::map<int, long>& codes) {
    std::printf("%s:", name);
    for (const auto& [code, n] : codes) {
      std::printf(" code %d: %ld", code, n);
    }
    std::printf("\n");
  };
  std::printf("%lld structures evaluated\n", static_cast<long long>(evaluator.n_evaluated()));
  print("protocol", protocol_codes);
  print("config", config_codes);
  print("xyz", xyz_codes);
  return 0;
}
