#!/usr/bin/env bash
# From first-principles frames to molecular dynamics: checks the data, trains a water model, freezes and tests it, runs
# it in LAMMPS and beside i-PI, and draws figures. Everything it makes lands in examples/lmp/run; a second call goes on
# from what stands there. README.md in this folder explains each file. With --quick it makes a few steps of everything,
# for a first look or a test of the installation, in examples/lmp/run/quick.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
quick=false
if [[ "${1:-}" == "--quick" ]]; then quick=true; shift; fi
if [[ $# -gt 0 ]]; then
  echo "run.sh: got \"$*\", expected nothing or --quick" >&2
  exit 2
fi
run="$here/run"
if $quick; then run="$here/run/quick"; fi
logs="$run/logs"
# shellcheck source=tests/env.sh
source "$root/tests/env.sh"

n_stages=9
stage_number=0
chain=""
children=()
stop_children() { for child in ${children[@]+"${children[@]}"}; do kill "$child" 2>/dev/null || true; done; }
trap stop_children EXIT

# stage NAME DURATION WHAT FILES...: runs the function stage_NAME unless it has run with the same files before.
stage() {
  local name="$1" duration="$2" what="$3" begin=$SECONDS
  shift 3
  stage_number=$((stage_number + 1))
  chain="$(printf '%s\n' "$chain" "$(declare -f "stage_$name")" "$(digest_of "$@")" | sha256sum | cut -d' ' -f1)"
  if [[ "$(cat "$run/done/$name" 2>/dev/null)" == "$chain" ]]; then
    say "$stage_number/$n_stages $name: stands from an earlier run"
    return
  fi
  say "$stage_number/$n_stages $name: $what ($duration on 2 cores)"
  "stage_$name"
  mkdir -p "$run/done"
  printf '%s\n' "$chain" >"$run/done/$name"
  say "   done in $(minutes_since "$begin")"
}

# fresh_folder NAME FILES...: an empty folder below run that holds copies of the files; it becomes the working directory.
fresh_folder() {
  local folder="$run/$1"
  shift
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$@" "$folder"
  cd "$folder"
  if $quick; then shorten; fi
}

# Few steps in the inputs of the working directory.
shorten() {
  local file
  for file in input.json in.lammps input.xml; do
    if [[ -f "$file" ]]; then
      sed -i -E 's/("numb_steps":) [0-9]+/\1 300/; s/("batch_size":) 4/\1 1/; s/(index) (800|1600)/\1 20/; s/(<total_steps>)[0-9]+/\13/' "$file"
    fi
  done
}

stage_check() {
  run_logged check dp check "$here/data"
  grep -E 'frames' "$logs/check.log" | sed "s|$here/|   |"
}

stage_train() {
  local options=()
  if [[ -f "$run/train/model.ckpt.pt" && "$(cat "$run/train/started" 2>/dev/null)" == "$chain" ]]; then
    cd "$run/train"
    options=(--restart model.ckpt)
    say "   going on from the last checkpoint"
  else
    fresh_folder train "$here/input.json"
    ln -s "$here/data" data
    printf '%s\n' "$chain" >started
    : >"$logs/train.log"
  fi
  if ! OMP_NUM_THREADS="$(number_of_cores)" dp train ${options[@]+"${options[@]}"} input.json 2>&1 |
    tee -a "$logs/train.log" | sed -u 's/^\[[^]]*\] DEEPMD //; s/^/   /'; then
    fail "the training failed; the whole output is in $logs/train.log"
  fi
}

stage_freeze() {
  fresh_folder freeze "$run/train/input.json"
  run_logged freeze dp freeze -c "$run/train" -o "$run/freeze/graph.pth"
}

stage_test() {
  fresh_folder test "$run/freeze/graph.pth"
  run_logged test dp test -m graph.pth -s "$here/data/valid" -d detail
  grep -E 'testing system|Energy RMSE/N|Force  RMSE|Virial RMSE/N' "$logs/test.log" | sed 's/^.*INFO */   /'
}

stage_compress() {
  fresh_folder compress "$run/freeze/graph.pth"
  run_logged compress dp compress -i graph.pth -o fast.pth --data "$here/data/valid"
  grep -o 'fast.pth: .* tolerance .* frames' "$logs/compress.log" | sed 's/^/   /'
}

stage_lammps() {
  local inputs=("$here/in.lammps" "$here/water.data" "$run/freeze/graph.pth" "$run/compress/fast.pth") ranks
  for ranks in 1 2; do
    fresh_folder "lammps_$ranks" "${inputs[@]}"
    run_logged "lammps_$ranks" mpirun -np "$ranks" lmp -in in.lammps -var equilibrate 60 -var produce 40
  done
  run_logged ranks python "$here/trajectory.py" "$run/lammps_1/water.dump" "$run/lammps_2/water.dump" 1e-6
  say "   1 and 2 MPI ranks: $(cat "$logs/ranks.log")"
  fresh_folder lammps "${inputs[@]}"
  run_logged lammps mpirun -np 2 lmp -in in.lammps -var model fast.pth
}

stage_pimd() {
  local socket="deepmd_water_$$" client
  fresh_folder pimd "$here/input.xml" "$here/water.json" "$here/water.xyz" "$run/freeze/graph.pth"
  # The socket lies in /tmp, which all users of a machine share: each run has a name of its own.
  sed -i "s/deepmd_water/$socket/" input.xml water.json
  i-pi input.xml >"$logs/i-pi.log" 2>&1 &
  children=($!)
  for client in 1 2; do
    dp_ipi water.json >"$logs/dp_ipi_$client.log" 2>&1 &
    children+=($!)
  done
  for client in "${children[@]}"; do
    wait -n || fail "i-PI or one of its clients failed; see $logs/i-pi.log, dp_ipi_1.log and dp_ipi_2.log beside it"
  done
  children=()
}

stage_figures() {
  run_logged figures python "$here/figures.py" "$run"
}

stage_summary() { python "$here/summary.py" "$run" >"$run/summary.txt"; }

mkdir -p "$logs"
say "0/$n_stages environment: a virtual environment, torch and the package (about 5 minutes the first time)"
need_compiler
enter_environment
install_torch
install_package lmp,ipi
export OMP_NUM_THREADS=1
chain="$(head -n 1 "$environment/deepmd-engine.stamp")"

stage check "10 seconds" "look through the frames in examples/lmp/data" "$here/data"
stage train "about 5 minutes" "fit the model of input.json to 200 frames" "$here/input.json"
stage freeze "10 seconds" "write the model and its self-test frames to graph.pth"
stage test "10 seconds" "compare the model with held-out frames"
stage compress "10 seconds" "tables for the embedding networks, to a stated force error: fast.pth"
stage lammps "about 1 minute" "32 molecules in LAMMPS, on 1 and 2 MPI ranks" \
  "$here/in.lammps" "$here/water.data" "$here/trajectory.py"
stage pimd "about 1 minute" "the same cell with quantum nuclei: i-PI, 8 beads, two dp_ipi clients" \
  "$here/input.xml" "$here/water.json" "$here/water.xyz"
stage figures "10 seconds" "draw the learning curve, parity plots, radial distributions and energies" \
  "$here/figures.py" "$here/trajectory.py"
stage summary "1 second" "gather the numbers" "$here/summary.py"
say
cat "$run/summary.txt"
say "finished after $(minutes_since 0)"
