#!/usr/bin/env bash
# One command for a machine with an NVIDIA GPU, with the package installed in the active environment: the agreement tables on
# the GPU, training there, compute-sanitizer over both, equal bits in repeated runs, then the speed rows. Words after the name
# go to benchmarks/gpu.py.
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

say "1/4 agreement on the GPU: random models against the judge, every door on the path cuda"
unset DEEPMD_GPU
export DEVICE=gpu
cd "$root/tests"
python -m pytest -q -rs python/test_device.py 2>&1 | tee "$out/device.log"
python -m pytest -q -rs engines/test_agreement.py -k cuda 2>&1 | tee "$out/agreement.log"
say "   LAMMPS: lists found on the GPU, runs, deviations"
python -m pytest -q -rs engines/test_lammps_gpu.py engines/test_lammps_deviation.py -k "gpu or cuda" 2>&1 | tee "$out/lammps.log"

say "2/4 training on the GPU: gradients against the CPU, two runs with equal bits, several processes by NCCL"
cd "$root"
python benchmarks/gpu_training.py --agreement 2>&1 | tee "$out/training.log"
runs="$(mktemp -d)"
trap 'rm -rf "$runs"' EXIT
python - "$root" "$runs/input.json" <<'PYTHON'
import json, sys
from pathlib import Path
root, to = map(Path, sys.argv[1:])
given = json.loads((root / "examples/lmp/input.json").read_text())
data = str(root / "examples/lmp/data/train")
given["training"] = {"training_data": {"systems": data, "batch_size": 1}, "numb_steps": 200, "disp_freq": 50, "seed": 1}
to.write_text(json.dumps(given))
PYTHON
for name in one two; do
  mkdir "$runs/$name"
  (cd "$runs/$name" && dp train ../input.json 2>&1 | tee -a "$out/training.log")
done
grep -q "data set resident" "$out/training.log" || say "   NOT TRAINED ON THE GPU: see the log"
python - "$runs" <<'PYTHON'
import sys
from deepmd.train import checkpoint
one, two = (checkpoint.load(f"{sys.argv[1]}/{name}/model.ckpt.pt")["model"] for name in ("one", "two"))
print("equal bits twice:", all(bool((one[k] == two[k]).all()) for k in one))
PYTHON
n_gpus="$(python -c 'import torch; print(torch.cuda.device_count())')"
mkdir "$runs/several"
(cd "$runs/several" && torchrun --nproc_per_node="$((n_gpus > 1 ? n_gpus : 2))" --no-python dp train ../input.json 2>&1 | tee -a "$out/training.log")

cd "$root/tests"
say "3/4 compute-sanitizer: memory errors and races in every kernel"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
      python "$root/benchmarks/gpu.py" --sanitize 2>&1 | tee "$out/$tool.log"
    DEEPMD_GPU_PRODUCTS="split" compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
      python "$root/benchmarks/gpu.py" --sanitize 2>&1 | tee -a "$out/$tool.log"
    compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
      python "$root/benchmarks/gpu_training.py" --agreement --quick 2>&1 | tee -a "$out/$tool.log"
  done
else
  say "   compute-sanitizer is not installed: skipped"
fi

say "4/4 speed, with the errors beside it, for each kind of product in mixed precision"
cd "$root"
for products in plain split tf32; do
  say "   products: $products"
  DEEPMD_GPU_PRODUCTS="$products" python benchmarks/gpu.py "$@" 2>&1 | tee -a "$out/speed.log"
done
python benchmarks/gpu_training.py 2>&1 | tee -a "$out/speed.log"
say "logs are in $out"
