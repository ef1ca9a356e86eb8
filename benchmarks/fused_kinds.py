"""Processor time of a force call by the fused and by the scripted path, for each kind of descriptor that both take.

192 atoms of DFT water, 6 A, embedding 25-50-100 (se_e3: 4 A and 10-20-40), 16 columns, fitting 240-240-240, float64,
one thread, no engine. Models are trained for a few steps only: this measures time, and the error of the fused path.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from pathlib import Path

import numpy as np
from harness import header, number, our_bin, run, table
from inputs import cache, error_frames, training_input, water_systems

TYPED = {"sel": 138, "tebd_dim": 8, "attn_layer": 0}
COUPLES = {"type": "se_e3", "rcut": 4.0, "sel": [14, 28], "neuron": [10, 20, 40]}
KINDS = {
    "se_e2_a": {},
    "se_atten, concat": {"type": "se_atten", "tebd_input_mode": "concat", **TYPED},
    "se_atten_v2": {"type": "se_atten_v2", **TYPED},
    "se_e2_r": {"type": "se_e2_r"},
    "se_e3": COUPLES,
    "hybrid with se_e3": {"type": "hybrid", "list": [{}, COUPLES]},
    "hybrid": {"type": "hybrid", "list": [{"rcut": 4.0, "sel": [14, 28]}, {"type": "se_e2_r"}]},
}


def section(changes: dict, base: dict) -> dict:
    """A descriptor's section: the standard one with changes; keys that a kind does not have are left out."""
    if "list" in changes:
        return {"type": "hybrid", "list": [section(part, base) for part in changes["list"]]}
    made = {**base, **changes}
    if made["type"] in ("se_e2_r", "se_e3"):
        made.pop("axis_neuron")
    if made["type"] == "se_e3":
        made.pop("type_one_side", None)
    return made


def frozen(kind: str, steps: int) -> Path:
    folder = cache() / "fused_kinds" / kind.replace(", ", "_").replace(" ", "_")
    if (folder / "graph.pth").exists():
        return folder / "graph.pth"
    folder.mkdir(parents=True, exist_ok=True)
    given = copy.deepcopy(training_input("water", steps, 1))
    given["model"]["descriptor"] = section(KINDS[kind], given["model"]["descriptor"])
    (folder / "input.json").write_text(json.dumps(given, indent=1))
    run([our_bin() / "dp", "train", "input.json"], folder, threads=1)
    run([our_bin() / "dp", "freeze", "-o", "graph.pth"], folder, threads=1)
    return folder / "graph.pth"


def compressed(path: Path) -> Path:
    made = path.with_name("spectral.pth")
    if not made.exists():
        data = [word for system in water_systems()[1] for word in ("--data", system)]
        run([our_bin() / "dp", "compress", "-i", path, "-o", made, "--max-frames", "8", *data], path.parent, threads=1)
    return made


def call(file: Path, frame: dict, seconds: float, **choice: str) -> tuple[float, np.ndarray, str]:
    """Least processor time of a call in us per atom, the forces, and what the path says of itself."""
    from deepmd.core import Model

    model, best = Model(str(file), gpu_rank=-1, **choice), float("inf")
    for _ in range(3):
        result = model.evaluate(**frame)
    end = time.monotonic() + seconds
    while best == float("inf") or time.monotonic() < end:
        begin = sum(os.times()[:2])
        rounds, start = 0, time.monotonic()
        while time.monotonic() < start + 0.3:
            result = model.evaluate(**frame)
            rounds += 1
        best = min(best, (sum(os.times()[:2]) - begin) / rounds)
    return best / len(frame["types"]) * 1e6, result["forces"], model.path_description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=20, help="training steps of each model")
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(header())
    start = error_frames("water")[0]
    frame = {"positions": start.positions, "types": start.types, "cell": np.diag(start.box)}
    rows = []
    for kind in args.kinds:
        path = frozen(kind, args.steps)
        script, expected, _ = call(path, frame, args.seconds, path="script")
        for label, file, choice in (
            ("plain", path, {}),
            ("compressed", compressed(path), {}),
            ("compressed, mixed", compressed(path), {"precision": "mixed"}),
        ):
            fused, forces, words = call(file, frame, args.seconds, path="fused", **choice)
            error = f"{np.abs(forces - expected).max():.1e}"
            rows.append(
                [kind, label, number(script), number(fused), number(script / fused), error, words.split(",")[0]]
            )
    print("\n" + table(["descriptor", "fused", "script us/atom", "fused us/atom", "ratio", "error eV/A", "path"], rows))


if __name__ == "__main__":
    main()
