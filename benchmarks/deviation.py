"""What watching costs: an MD step with four models against one with a single model, runs interleaved."""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
from pathlib import Path

from lammps import INPUT
from peer import describe, machine, our_bin, run, shared

CASES = {
    "one model": "",
    "4 models, every step": "out_freq 1",
    "4 models, out_freq 10": "out_freq 10",
    "4 models, never": "out_freq 0",
}


def prepare(folder: Path) -> None:
    """One frozen model; a copy costs as much as a model of other weights."""
    model = shared("water").parents[1] / "peer" / "water_full.dp"
    shutil.copy(shared("water", "lmp", "water.lmp"), folder)
    run([our_bin() / "dp", "convert-backend", model, "g0.pth"], folder, 1)
    for k in range(1, 4):
        shutil.copy(folder / "g0.pth", folder / f"g{k}.pth")


def step_time(case: str, folder: Path, args: argparse.Namespace) -> float:
    """Microseconds per atom and step of the second run."""
    models = "g0.pth" if not CASES[case] else f"g0.pth g1.pth g2.pth g3.pth {args.words} {CASES[case]}"
    text = INPUT.format(model=models, n=args.replicate, warm=args.steps // 5 + 1, steps=args.steps)
    (folder / "in.lammps").write_text(text)
    output = run([our_bin() / "lmp", "-in", "in.lammps"], folder, args.threads).output
    seconds, _, steps, atoms = re.findall(
        r"Loop time of (\S+) on (\d+) procs for (\d+) steps with (\d+) atoms", output
    )[-1]
    return float(seconds) / int(steps) / int(atoms) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--replicate", type=int, default=1, help="192 atoms times the cube of this number")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--words", default="", help="more words of pair_style")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        times: dict[str, list[float]] = {case: [] for case in CASES}
        for _ in range(args.repeats):
            for case in CASES:
                times[case].append(step_time(case, folder, args))
        for case, values in times.items():
            ratio = statistics.median(values) / statistics.median(times["one model"])
            print(f"{case:22}: {describe(values)} us per atom and step, {ratio:.2f} x one model", flush=True)


if __name__ == "__main__":
    main()
