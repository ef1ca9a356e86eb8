# Shell functions shared by examples/lmp/run.sh and tests/run.sh: the environment, torch and the package.
# The caller sets `root` (the repository) and `logs` (a folder for log files) and sources this file.
# shellcheck shell=bash
: "${root:?is set by the caller}" "${logs:?is set by the caller}"

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# run_logged NAME COMMAND...: the output goes to $logs/NAME.log; on failure its last lines and its path are shown.
run_logged() {
  local log="$logs/$1.log"
  shift
  mkdir -p "$logs"
  if ! "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "\"$(printf '%s ' "$@" | cut -c1-90)\" failed; the whole output is in $log"
  fi
}

minutes_since() { printf '%d min %02d s' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60)); }

# nproc alone would answer with OMP_NUM_THREADS where that is set.
number_of_cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 1; }

# One digest of all files below the given paths, in a fixed order; it tells whether something has to be made again.
digest_of() {
  find "$@" -type f -not -path '*/__pycache__/*' -not -name '*.so' -print0 2>/dev/null | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

need_compiler() {
  local compiler="${CXX:-c++}"
  command -v "$compiler" >/dev/null ||
    fail "no C++ compiler was found ($compiler), and the engine is built from source; on Debian and Ubuntu: apt install g++"
  echo 'int main() { if (int i = 0; i == 0) return i; }' | "$compiler" -std=c++17 -x c++ -fsyntax-only - ||
    fail "$compiler does not know C++17; set CXX to one that does (g++ 9 or newer)"
}

# Uses the active environment, or makes and activates $root/.venv.
enter_environment() {
  if [[ -n "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ]]; then
    environment="${VIRTUAL_ENV:-$CONDA_PREFIX}"
    say "   using the active environment $environment"
  else
    environment="$root/.venv"
    if [[ ! -x "$environment/bin/pip" ]]; then
      local python="${PYTHON:-python3}"
      command -v "$python" >/dev/null || fail "$python was not found; on Debian and Ubuntu: apt install python3 python3-venv"
      "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version) was found, expected Python 3.10 or newer; set PYTHON to a newer one"
      say "   making the virtual environment $environment"
      mkdir -p "$logs"
      if ! "$python" -m venv "$environment" >"$logs/venv.log" 2>&1; then
        # Debian ships the part of venv that installs pip as python3-venv; a pip outside can stand in for it.
        rm -rf "$environment"
        if ! { "$python" -m venv --without-pip "$environment" &&
          "$python" -m pip --python "$environment/bin/python" install --quiet pip; } >>"$logs/venv.log" 2>&1; then
          rm -rf "$environment"
          fail "this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv (see $logs/venv.log)"
        fi
      fi
    fi
    # shellcheck disable=SC1091
    source "$environment/bin/activate"
  fi
  python -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$(python --version) is active, expected Python 3.10 or newer; leave this environment or make a newer one"
}

# A CPU build is tried first: it is a tenth of the size. DEEPMD_TORCH_INDEX names a package index that offers one.
install_torch() {
  if python -c 'import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10))' 2>/dev/null; then
    return
  fi
  say "   installing torch (200 MB where a CPU build is on offer, 3 GB else; DEEPMD_TORCH_INDEX=<index of CPU builds> helps)"
  if [[ -n "${DEEPMD_TORCH_INDEX:-}" ]]; then
    run_logged torch python -m pip install 'torch>=2.10' --index-url "$DEEPMD_TORCH_INDEX"
    return
  fi
  mkdir -p "$logs"
  local wanted
  for wanted in 'torch==2.13.0+cpu' 'torch==2.13.0'; do
    if python -m pip install "$wanted" >"$logs/torch.log" 2>&1; then return; fi
  done
  run_logged torch python -m pip install 'torch>=2.10'
}

# install_package EXTRAS: builds and installs the package unless the same sources are installed already.
install_package() {
  local extras="$1" stamp="$environment/deepmd-engine.stamp" parts=(pyproject.toml CMakeLists.txt LICENSE README.md)
  parts+=(python cxx lammps_plugin ipi_driver)
  local digest
  digest="$(cd "$root" && digest_of "${parts[@]}") $(python -c 'import torch; print(torch.__version__)' 2>/dev/null)"
  if [[ ! -f "$stamp" || "$(head -n 1 "$stamp")" != "$digest" ]]; then
    say "   building and installing deepmd-engine (about 4 minutes on 2 cores; log: $logs/install.log)"
    CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(number_of_cores)}" \
      run_logged install python -m pip install "${root}[$extras]"
    printf '%s\n%s\n' "$digest" "$extras" >"$stamp"
  elif ! tail -n +2 "$stamp" | grep -qxF "$extras"; then
    # Only the extras are new: their requirements are read from the installed package, nothing is built.
    say "   installing the packages of the extras $extras"
    run_logged extras python -m pip install "deepmd-engine[$extras]"
    printf '%s\n' "$extras" >>"$stamp"
  fi
}
