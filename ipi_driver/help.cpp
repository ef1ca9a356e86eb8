#include "help.hpp"

#include <cstdio>
#include <string>

#include "deepmd/deepmd.h"
#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

constexpr const char* kUsage = "usage: dp_ipi input.json\n";

constexpr const char* kKeys =
    "\n"
    "Serves energies, forces and virials of a frozen model to i-PI.\n"
    "\n"
    "keys of input.json\n"
    "  use_unix         true: unix socket /tmp/ipi_<host>, false: internet socket\n"
    "  host             the address of i-PI's ffsocket\n"
    "  port             its port (internet sockets)\n"
    "  graph_file       the frozen model, such as graph.pth\n"
    "  coord_file       XYZ file; only the names of the atoms and their order are used\n"
    "  atom_type        type index of each name, such as {\"O\": 0, \"H\": 1}\n"
    "  verbose          true: a line for each message (false)\n"
    "and, optional,\n"
    "  pbc              false, or three flags: directions that are not periodic (true)\n"
    "  check_names      false: names in atom_type may contradict the model's elements (true)\n"
    "  connect_timeout  seconds to wait for i-PI to start (60; 0: for ever)\n"
    "  timeout          seconds without progress inside a message (120; 0: for ever)\n"
    "  idle_timeout     seconds without any message (0: for ever)\n"
    "  reconnect        seconds to look for i-PI again after it went away without EXIT (0: stop at once)\n"
    "  sockets_prefix   the option -S of i-PI (/tmp/ipi_)\n"
    "  skin             Angstrom added to the cutoff of the neighbour lists (1)\n"
    "  n_threads        threads of the model (0: as the framework decides)\n"
    "  gpu_rank         which GPU, counted from 0 and modulo their number (0); -1: the CPU\n"
    "  path             fused (the engine's own kernels), script (TorchScript) or auto (fused where the model allows it)\n"
    "  precision        float64, or mixed: float32 tables and networks of the fused path (float64)\n"
    "  fparam, aparam   frame parameters, and atomic parameters given to every atom, if the model has any\n"
    "Keys that begin with _comment are ignored; any other key is an error.\n"
    "\n"
    "exit status\n";

}  // namespace

int answer_command_line(int argc, char** argv) {
  if (argc < 2) {
    std::printf("%s       dp_ipi --help\n", kUsage);
    return 0;
  }
  const std::string word = argv[1];
  if (argc > 2) {
    std::fprintf(stderr, "dp_ipi: got %d arguments, expected one, the JSON file\n%s", argc - 1, kUsage);
    return static_cast<int>(ExitCode::kConfig);
  }
  if (word == "-h" || word == "--help") {
    std::printf("%s%s%s", kUsage, kKeys, exit_code_table());
    return 0;
  }
  if (word == "--version") {
    std::printf("dp_ipi %s\n", deepmd_version());
    return 0;
  }
  if (!word.empty() && word[0] == '-') {
    std::fprintf(stderr, "dp_ipi: unknown option '%s'\n%s", word.c_str(), kUsage);
    return static_cast<int>(ExitCode::kConfig);
  }
  return -1;
}

}  // namespace deepmd::ipi
