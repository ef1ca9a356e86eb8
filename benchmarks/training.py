"""A training step against the peer's fastest CPU backend, and the errors after the same number of steps.

The cost of a step is the difference between a long and a short run, so that start-up, statistics and the first
neighbour lists drop out. Runs are interleaved: ours, peer, ours, ... Errors do not depend on the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from pathlib import Path

from harness import Summary, header, interleave, our_bin, ratio, run, table
from inputs import training_input, water_systems
from peer import peer_bin, peer_versions

SHORT, LONG = 50, 250
PROGRAMS = {"ours": our_bin, "peer": peer_bin}
FROZEN = {"ours": "graph.pth", "peer": "graph.pb"}


def train(who: str, folder: Path, steps: int, threads: int, precision: str, seed: int = 1):
    """One training run of the water input, validation and checkpoints off."""
    folder.mkdir(parents=True, exist_ok=True)
    config = training_input("water", steps, seed, precision)
    config["training"] |= {"disp_freq": 1000000, "save_freq": 1000000}
    (folder / "input.json").write_text(json.dumps(config))
    command = [PROGRAMS[who]() / "dp", "train", "--skip-neighbor-stat", "input.json"]
    return run(command, folder, threads, cores=threads)


def step_cost(who: str, folder: Path, threads: int, precision: str, lengths: tuple[int, int]) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time per step."""
    short, long = (train(who, folder, steps, threads, precision) for steps in lengths)
    return tuple(1000 * (getattr(long, k) - getattr(short, k)) / (lengths[1] - lengths[0]) for k in ("cpu", "wall"))


def errors(who: str, folder: Path, steps: int, seed: int) -> dict[str, float]:
    """Energy (eV/atom) and force (eV/A) RMSE on the held-out system after `steps` steps."""
    train(who, folder, steps, 1, "float64", seed)
    run([PROGRAMS[who]() / "dp", "freeze", "-o", FROZEN[who]], folder, 1)
    command = [PROGRAMS[who]() / "dp", "test", "-m", FROZEN[who], "-s", water_systems()[1][0], "-n", "80"]
    tested = run(command, folder, 1).output
    return {
        "energy, eV/atom": float(re.findall(r"Energy RMSE/Natoms : ([\d.e+-]+)", tested)[-1]),
        "force, eV/A": float(re.findall(r"Force  RMSE        : ([\d.e+-]+)", tested)[-1]),
    }


def time_steps(args: argparse.Namespace, folder: Path) -> None:
    """Prints the costs of a step, CPU and wall."""
    rows = []
    lengths = (20, 100) if args.quick else (SHORT, LONG)
    for precision in args.precision:
        for threads in args.threads:
            both: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}

            def one(who: str, both=both, threads=threads, precision=precision) -> float:
                both[who].append(step_cost(who, folder / who, threads, precision, lengths))
                return both[who][-1][1]

            interleave({who: (lambda who=who, one=one: one(who)) for who in both}, args.repeats)
            for k, kind in enumerate(("CPU", "wall")):
                ours, peer = ([cost[k] for cost in both[who]] for who in both)
                rows.append([precision, threads, kind, Summary(tuple(ours)), Summary(tuple(peer)), ratio(peer, ours)])
    print(table(["precision", "threads", "time", "ours, ms per step", "peer, ms per step", "ratio"], rows), flush=True)


def compare_errors(args: argparse.Namespace, folder: Path) -> None:
    """Prints held-out errors after the same number of steps, seed by seed and in the mean."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    rows = []
    for seed in args.seeds:
        for who in found:
            found[who].append(errors(who, folder / f"{who}{seed}", args.errors, seed))
        for key in found["ours"][-1]:
            a, b = (found[who][-1][key] for who in found)
            rows.append([args.errors, seed, key, f"{a:.4e}", f"{b:.4e}", f"{a / b:.3f}"])
    for key in found["ours"][0]:
        a, b = (statistics.fmean(one[key] for one in found[who]) for who in found)
        rows.append([args.errors, "mean", key, f"{a:.4e}", f"{b:.4e}", f"{a / b:.3f}"])
    print(table(["steps", "seed", "held-out RMSE", "ours", "peer", "ours / peer"], rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", nargs="+", default=["float64"], choices=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=3, help="0: no timing")
    parser.add_argument("--errors", type=int, metavar="STEPS", help="also train this many steps and compare errors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="two minutes: one round of very short runs")
    args = parser.parse_args()
    args.repeats = min(args.repeats, 1) if args.quick else args.repeats
    print(header(f"peer: {peer_versions()}", f"data: {water_systems()[2]}"))
    with tempfile.TemporaryDirectory() as name:
        if args.repeats:
            time_steps(args, Path(name))
        if args.errors:
            compare_errors(args, Path(name))


if __name__ == "__main__":
    main()
