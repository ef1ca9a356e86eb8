// dp_ipi: serves energies, forces and virials of a frozen model to i-PI.
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "atom_names.hpp"
#include "driver_config.hpp"
#include "driver_error.hpp"
#include "help.hpp"
#include "model_evaluator.hpp"
#include "protocol.hpp"
#include "socket.hpp"

namespace deepmd::ipi {

// Serves one server after the other; there is a second one only with the key reconnect.
void run(const char* path) {
  const DriverConfig config = read_config(path);
  std::printf("# using data base\n%s\n", config.echo.c_str());
  std::vector<std::string> names = read_atom_names(config.coord_file);
  std::vector<int> types = types_of_names(names, config.atom_type);
  ModelEvaluator evaluator(config, std::move(names), std::move(types));
  std::printf("# %s\n# connecting to i-PI at %s\n", evaluator.description().c_str(), config.address.text().c_str());
  Patience patience = config.patience;
  while (true) {
    Socket socket = Socket::connect(config.address, patience);
    Protocol protocol(socket, evaluator, config.verbose ? stdout : nullptr);
    try {
      protocol.serve();
      break;
    } catch (const DriverError& error) {
      if (error.code() != ExitCode::kDisconnected || config.reconnect <= 0.0) {
        throw;
      }
      std::fprintf(stderr, "dp_ipi: %s; trying again for %g s (reconnect)\n", error.what(), config.reconnect);
      patience.connect = config.reconnect;
    }
  }
  std::printf("# EXIT received, %lld structures evaluated, %lld neighbour lists built\n",
              static_cast<long long>(evaluator.n_evaluated()), static_cast<long long>(evaluator.n_lists_built()));
}

}  // namespace deepmd::ipi

int main(int argc, char** argv) {
  using namespace deepmd::ipi;
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  if (const int answered = answer_command_line(argc, argv); answered >= 0) {
    return answered;
  }
  try {
    run(argv[1]);
    return 0;
  } catch (const DriverError& error) {
    std::fprintf(stderr, "dp_ipi: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dp_ipi: internal error: %s\n", error.what());
    return static_cast<int>(ExitCode::kInternal);
  }
}
