#!/usr/bin/env bash
# Sets up an environment as examples/lmp/run.sh does and runs every test: C++ (with sanitizers where torch is not
# involved) and Python, the engines included. Words after the name go to pytest: tests/run.sh -k virial
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
logs="$root/build/logs"
# shellcheck source=tests/env.sh
source "$root/tests/env.sh"

say "1/4 environment: a virtual environment, torch and the package with its engines (about 5 minutes the first time)"
need_compiler
enter_environment
install_torch
install_package lmp,ipi,test,dev
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(number_of_cores)}"

# cxx_tests FOLDER OPTIONS...: configure, build and run the C++ tests in build/FOLDER.
cxx_tests() {
  local name="$1" folder="$root/build/$1"
  shift
  run_logged "$name-configure" cmake -S "$root" -B "$folder" -G Ninja -DDEEPMD_BUILD_TESTS=ON "$@"
  run_logged "$name-build" cmake --build "$folder" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(number_of_cores)}"
  run_logged "$name" ctest --test-dir "$folder" --output-on-failure
  tail -n 3 "$logs/$name.log" | sed 's/^/   /'
}

begin=$SECONDS
say "2/4 C++ tests of the parts without torch, with the address and undefined-behaviour sanitizers (about 2 minutes)"
cxx_tests sanitized -DDEEPMD_BUILD_ENGINE=OFF -DDEEPMD_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug
say "   done in $(minutes_since "$begin")"

begin=$SECONDS
say "3/4 C++ tests of the engine (about 3 minutes)"
cxx_tests engine -DDEEPMD_BUILD_LAMMPS=OFF -DDEEPMD_BUILD_IPI=OFF -DDEEPMD_CUDA=OFF  # the installation has compiled it
say "   done in $(minutes_since "$begin")"

begin=$SECONDS
say "4/4 Python tests, with LAMMPS and i-PI (about 10 minutes)"
# The installed package is tested, from outside the tree, so that a file missing from the installation is noticed.
# One process for each core, and one thread in each; the tests of a file stay together, since they share what they made.
cd "$root/tests"
workers="$(number_of_cores)"
OMP_NUM_THREADS=1 python -m pytest -q -rs -n "$((workers < 8 ? workers : 8))" --dist loadfile "$@"
say "   done in $(minutes_since "$begin")"
say "every test passed after $(minutes_since 0)"
