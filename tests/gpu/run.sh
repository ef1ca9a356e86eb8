#!/usr/bin/env bash
# One command for a machine with an NVIDIA GPU, with the package installed in the active environment: the agreement tables on
# the GPU, compute-sanitizer over the C++ force call, then the speed rows. Words after the name go to benchmarks/gpu.py.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${OUT:-$root/build/gpu}"
mkdir -p "$out"
say() { printf '%s\n' "$*"; }

python - <<'PYTHON'
from deepmd import core
words = core.describe_gpus()
print("GPUs of the core:", words)
raise SystemExit("no GPU can be used; this command is for a machine with one" if words.startswith("none") else 0)
PYTHON

say "1/3 agreement on the GPU: random models against the judge, every door on the path cuda"
unset DEEPMD_GPU
cd "$root/tests"
python -m pytest -q -rs python/test_device.py 2>&1 | tee "$out/device.log"
python -m pytest -q -rs engines/test_agreement.py -k cuda 2>&1 | tee "$out/agreement.log"

say "2/3 compute-sanitizer: memory errors and races in every kernel"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
      python "$root/benchmarks/gpu.py" --sanitize 2>&1 | tee "$out/$tool.log"
  done
else
  say "   compute-sanitizer is not installed: skipped"
fi

say "3/3 speed, with the errors beside it"
cd "$root"
python benchmarks/gpu.py "$@" 2>&1 | tee "$out/speed.log"
say "logs are in $out"
