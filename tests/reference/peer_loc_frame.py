"""A loc_frame model of DeePMD-kit with its numbers. Not part of the tests, as it needs that program.

    python tests/reference/peer_loc_frame.py FOLDER        with DeePMD-kit 3.2 and TensorFlow

Trains a small model for two steps on a made-up frame, freezes it, and stores its weights under their names in the
graph, since DeePMD-kit has no backend-free file for it, and what it predicts for frames. The outcome is
tests/data/loc_frame.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SECTION = {
    "type_map": ["O", "H"],
    "descriptor": {"type": "loc_frame", "sel_a": [4, 8], "sel_r": [4, 8], "rcut": 4.0,
                   "axis_rule": [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]},
    "fitting_net": {"neuron": [6, 6], "resnet_dt": True, "seed": 2},
}  # fmt: skip
FRAMES = {"periodic": (1, 9.0, 18), "small": (0, 6.4, 4), "open": (2, None, 4)}
"""Seed, width of the cell (Angstrom) and molecules; in the small cell an atom sees several images of another."""


def frame(seed: int, width: float | None, n: int) -> dict[str, np.ndarray]:
    """Distorted water molecules in a slanted cell, or in none."""
    rng = np.random.default_rng(seed)
    w = 6.4 if width is None else width
    cell = np.array([[w, 0, 0], [0.7, w + 0.2, 0], [-0.4, 0.5, w + 0.3]])
    side = 2 if n <= 8 else 3
    grid = np.stack(np.meshgrid(*[np.arange(side) / side] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n]
    oxygen = grid @ cell + rng.uniform(-0.3, 0.3, (n, 3))
    hydrogen = oxygen[:, None] + rng.normal(size=(n, 2, 3)) * 0.25 + np.array([[0.75, 0.5, 0.1], [-0.75, 0.5, -0.1]])
    coord = np.concatenate([oxygen[:, None], hydrogen], axis=1).reshape(-1, 3)
    made = {"coord": coord, "atype": np.tile([0, 1, 1], n)}
    return made if width is None else {**made, "cell": cell}


def train(folder: Path, dp: str) -> None:
    """Two steps on a frame with labels of no meaning, and graph.pb."""
    made = frame(*FRAMES["small"])
    data = folder / "system" / "set.000"
    data.mkdir(parents=True, exist_ok=True)
    forces = np.random.default_rng(3).normal(size=made["coord"].shape)
    arrays = {"coord": made["coord"], "box": made["cell"], "energy": np.array([-7.0]), "force": forces}
    for name, array in arrays.items():
        np.save(data / f"{name}.npy", array.reshape(1, -1))
    np.savetxt(data.parent / "type.raw", made["atype"], fmt="%d")
    (data.parent / "type_map.raw").write_text("O\nH\n")
    jdata = {
        "model": SECTION,
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 0.001, "decay_steps": 1},
        "loss": {"type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 1, "limit_pref_f": 1},
        "training": {"training_data": {"systems": ["system"], "batch_size": 1}, "numb_steps": 2, "seed": 7},
    }
    (folder / "input.json").write_text(json.dumps(jdata))
    for words in (["train", "--skip-neighbor-stat", "input.json"], ["freeze", "-o", "graph.pb"]):
        subprocess.run([dp, "--tf", *words], cwd=folder, check=True)


def weights(graph: Path) -> dict[str, np.ndarray]:
    """The constants of the graph that are weights or statistics, by their names there."""
    import tensorflow as tf
    from deepmd.tf.utils.graph import load_graph_def

    wanted = ("matrix", "bias", "idt", "t_avg", "t_std", "t_bias_atom_e")
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in load_graph_def(str(graph))[1].node
        if node.op == "Const" and node.name.split("/")[-1] in wanted and not node.name.startswith("gradients")
    }


def main(folder: Path) -> None:
    """Everything."""
    from deepmd.infer import DeepPot

    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "graph.pb"
    if not graph.exists():
        train(folder, os.path.join(os.path.dirname(sys.executable), "dp"))
    potential, arrays = DeepPot(str(graph)), {f"weights.{key}": value for key, value in weights(graph).items()}
    for name, (seed, width, n) in FRAMES.items():
        made = frame(seed, width, n)
        box = None if width is None else made["cell"].reshape(1, 9)
        found = potential.eval(made["coord"].reshape(1, -1), box, made["atype"], atomic=True)
        names = ("energy", "force", "virial", "atom_energy")
        arrays |= {f"{name}.{key}": value for key, value in made.items()}
        arrays |= {f"{name}.{key}": value[0] for key, value in zip(names, found[:4], strict=True)}
    np.savez_compressed(folder / "frames.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
