"""A training step against the peer's fastest CPU backend, and the errors after the same number of steps.

The cost of a step is the difference between a long and a short run, so that start-up, statistics and the first
neighbour lists drop out. Runs are interleaved: ours, peer, ours, peer, ...
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from pathlib import Path

from peer import describe, machine, our_bin, peer_bin, run, shared

SHORT, LONG = 50, 250


def make_input(steps: int, precision: str, seed: int = 1) -> dict:
    """The standard water input of the family's manuals."""
    systems = [str(shared("water", "data", f"data_{k}")) for k in range(3)]
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {"type": "se_e2_a", "sel": [46, 92], "rcut_smth": 0.5, "rcut": 6.0, "neuron": [25, 50, 100],
                           "axis_neuron": 16, "resnet_dt": False, "precision": precision, "seed": seed},
            "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "precision": precision, "seed": seed},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 3.51e-8, "decay_steps": max(steps // 20, 1)},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
                 "start_pref_v": 0, "limit_pref_v": 0},
        "training": {"training_data": {"systems": systems, "batch_size": 1}, "numb_steps": steps, "seed": seed,
                     "disp_freq": 100000, "save_freq": 100000},
    }  # fmt: skip


def train(program: Path, folder: Path, steps: int, threads: int, precision: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(make_input(steps, precision)))
    return run([program / "dp", "train", "--skip-neighbor-stat", "input.json"], folder, threads)


def step_cost(program: Path, folder: Path, threads: int, precision: str) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time per step."""
    short, long = (train(program, folder, steps, threads, precision) for steps in (SHORT, LONG))
    return tuple(1000 * (getattr(long, k) - getattr(short, k)) / (LONG - SHORT) for k in ("cpu", "wall"))


def errors(program: Path, folder: Path, frozen: str, steps: int, seed: int) -> dict[str, float]:
    """Energy (eV/atom) and force (eV/A) RMSE on the held-out system after `steps` steps."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(make_input(steps, "float64", seed)))
    run([program / "dp", "train", "input.json"], folder, 1)
    run([program / "dp", "freeze", "-o", frozen], folder, 1)
    tested = run([program / "dp", "test", "-m", frozen, "-s", shared("water", "data", "data_3")], folder, 1).output
    return {
        "energy": float(re.findall(r"Energy RMSE/Natoms : ([\d.e+-]+)", tested)[-1]),
        "force": float(re.findall(r"Force  RMSE        : ([\d.e+-]+)", tested)[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", nargs="+", default=["float64"], choices=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--errors", type=int, metavar="STEPS", help="also train this many steps and compare errors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    ours, peer = our_bin(), peer_bin()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        for precision in args.precision:
            for threads in args.threads:
                costs = {"ours": [], "peer": []}
                for _ in range(args.repeats):
                    costs["ours"].append(step_cost(ours, Path(name) / "ours", threads, precision))
                    costs["peer"].append(step_cost(peer, Path(name) / "peer", threads, precision))
                for k, kind in enumerate(("CPU", "wall")):
                    a, b = ([c[k] for c in costs[who]] for who in ("ours", "peer"))
                    ratio = statistics.median(b) / statistics.median(a)
                    print(f"{precision} {threads} thread(s) {kind:4}: ours {describe(a)} ms, peer {describe(b)} ms, "
                          f"ratio {ratio:.2f}", flush=True)  # fmt: skip
        for seed in args.seeds if args.errors else []:
            a = errors(ours, Path(name) / f"ours{seed}", "graph.pth", args.errors, seed)
            b = errors(peer, Path(name) / f"peer{seed}", "graph.pb", args.errors, seed)
            for key in a:
                print(f"{args.errors} steps, seed {seed}, {key} RMSE: ours {a[key]:.4e}, peer {b[key]:.4e}, "
                      f"ours/peer {a[key] / b[key]:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
