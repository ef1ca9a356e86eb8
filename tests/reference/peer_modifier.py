"""Electrostatics of charges and centroids as DeePMD-kit has them. Not part of the tests, as it needs that program.

    PYTHONPATH=tests python tests/reference/peer_modifier.py write FOLDER     with this program
    python tests/reference/peer_modifier.py predict FOLDER                    with DeePMD-kit 3.2 and TensorFlow

`write` stores a model of dipoles and frames; `predict` converts the model to a TensorFlow graph, asks the modifier
`dipole_charge` of it, and the bare sum over the atoms, and adds the answers. The outcome is tests/data/modifier.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CASES = {  # model_charge_map, sys_charge_map, ewald_h, ewald_beta
    "water": ([-8.0], [6.0, 1.0], 1.0, 0.4),
    "sharp": ([-8.0], [6.0, 1.0], 0.4, 1.1),
    "charged": ([-7.5], [6.0, 0.7], 0.7, 0.6),
}


def write(folder: Path) -> None:
    """dipole.dp and the frames."""
    from deepmd.exchange import write_tree
    from reference.tiny_models import jittered
    from reference.tiny_outputs import make_output_model

    model = make_output_model("dipole")
    write_tree(folder / "dipole.dp", {"model": model.serialize(), "model_def_script": {}, "@variables": {}})
    arrays: dict[str, np.ndarray] = {}
    skewed, small = [[7.9, 0, 0], [1.3, 8.6, 0], [-0.9, 1.1, 9.7]], [[4.4, 0, 0], [0.3, 4.9, 0], [0.2, 0, 5.3]]
    cells = {"skewed": skewed, "small": small}
    for seed, (name, cell) in enumerate(cells.items()):
        frame = jittered(np.array(cell), (3, 2, 3) if name == "skewed" else (1, 2, 2), 2, np.random.default_rng(seed))
        arrays |= {f"{name}.coord": frame.positions, f"{name}.cell": frame.cell, f"{name}.atype": frame.types}
    np.savez_compressed(folder / "frames.npz", **arrays)


def predict(folder: Path) -> None:
    """Adds the answers: `FRAME.CASE.energy`, force and virial, and those of the atoms' charges alone."""
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.tf.infer.ewald_recp import EwaldRecp
    from deepmd.tf.modifier import DipoleChargeModifier

    arrays = dict(np.load(folder / "frames.npz"))
    graph = folder / "dipole.pb"
    convert_backend(INPUT=str(folder / "dipole.dp"), OUTPUT=str(graph))
    for case, (centroids, atoms, h, beta) in CASES.items():
        modifier = DipoleChargeModifier(str(graph), centroids, atoms, ewald_h=h, ewald_beta=beta)
        for name in ("skewed", "small"):
            coord, cell, types = (arrays[f"{name}.{key}"] for key in ("coord", "cell", "atype"))
            frame = coord.reshape(1, -1), cell.reshape(1, 9)
            found = {"": modifier.eval(*frame, types)}
            found["atoms."] = EwaldRecp(h, beta).eval(frame[0], np.array(atoms)[types][None], frame[1])
            for part, (energy, force, virial) in found.items():
                arrays[f"{name}.{case}.{part}energy"] = np.ravel(energy)[0]
                arrays[f"{name}.{case}.{part}force"] = np.reshape(force, (-1, 3))
                arrays[f"{name}.{case}.{part}virial"] = np.reshape(virial, (3, 3))
    np.savez_compressed(folder / "frames.npz", **arrays)


if __name__ == "__main__":
    {"write": write, "predict": predict}[sys.argv[1]](Path(sys.argv[2]))
