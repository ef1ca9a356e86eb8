// What can end the driver, and the exit status that tells which. --help prints the table; README.md has it too.
#pragma once

#include <stdexcept>
#include <string>

namespace deepmd::ipi {

enum class ExitCode : int {
  kSuccess = 0,
  kAtoms = 1,
  kConfig = 2,
  kModel = 3,
  kConnect = 4,
  kDisconnected = 5,
  kTimeout = 6,
  kProtocol = 7,
  kAtomCount = 8,
  kGeometry = 9,
  kEvaluation = 10,
  kInternal = 11
};

// Text of the table of exit codes, one line a code.
inline const char* exit_code_table() {
  return "  0   the server sent EXIT (or only help was asked for)\n"
         "  1   coord_file or atom_type is wrong: unreadable, malformed, an atom name without a type, a contradiction\n"
         "  2   the command line or the JSON file is wrong\n"
         "  3   the model file cannot be used\n"
         "  4   no connection to the server\n"
         "  5   the server closed the connection without EXIT\n"
         "  6   the server stopped in the middle of a message, or was silent for longer than idle_timeout\n"
         "  7   a message that is not i-PI's protocol\n"
         "  8   the number of atoms from the server differs from coord_file\n"
         "  9   a structure that cannot be evaluated: not finite, degenerate cell, atoms on top of each other\n"
         "  10  the evaluation failed or gave a result that is not finite (it is not sent)\n"
         "  11  out of memory or an internal error\n";
}

class DriverError : public std::runtime_error {
 public:
  DriverError(ExitCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace deepmd::ipi
