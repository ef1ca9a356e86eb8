// What dp_ipi says without a run: usage, --help, --version.
#pragma once

namespace deepmd::ipi {

// Answers a command line that asks for no run (or is wrong) and returns the exit status; -1: argv[1] is a file to run.
int answer_command_line(int argc, char** argv);

}  // namespace deepmd::ipi
