"""A pairwise_dprc model of DeePMD-kit with its numbers. Not part of the tests, as it needs that program.

    python tests/reference/peer_pairwise.py FOLDER        with DeePMD-kit 3.2 and TensorFlow

Trains a small model for two steps on a made-up frame, freezes it, and stores what it predicts for frames, and both
parts as trees of the backend-free form, which DeePMD-kit writes for each part and not for the whole. The outcome is
tests/data/pairwise.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

NAMES = ["C", "O", "OW", "HW"]
PART = {
    "descriptor": {"type": "se_atten", "sel": 60, "rcut": 4.0, "rcut_smth": 0.5, "attn_layer": 0, "neuron": [4, 8],
                   "axis_neuron": 3, "set_davg_zero": True, "type_one_side": False, "seed": 1},
    "fitting_net": {"neuron": [8, 8], "resnet_dt": True, "seed": 2, "atom_ener": [None, None, 0.0, 0.0]},
}  # fmt: skip


def section() -> dict:
    """The model section."""
    qm, qmmm = copy.deepcopy(PART), copy.deepcopy(PART)
    excluded = [[0, 0], [0, 1], [1, 1], [2, 2], [2, 3], [3, 3]]
    qmmm["descriptor"] |= {"rcut": 3.0, "seed": 3, "exclude_types": excluded}
    qmmm["fitting_net"] |= {"seed": 4, "atom_ener": [0.0] * 4}
    return {"type": "pairwise_dprc", "type_map": NAMES, "type_embedding": {"neuron": [6], "seed": 5},
            "qm_model": qm, "qmmm_model": qmmm}  # fmt: skip


def frame(seed: int) -> dict[str, np.ndarray]:
    """Five quantum atoms of C and O among molecules of OW and HW, on a distorted grid."""
    rng = np.random.default_rng(seed)
    cell = np.array([[8.3, 0, 0], [0.7, 8.6, 0], [-0.4, 0.5, 8.9]])
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:20]
    ids = np.array([0, 0, 4, 4, 4, 0, 9, 9, 0, 9, 2, 2, 0, 2, 7, 7, 7, 5, 5, 5])
    types = np.where(ids == 0, np.arange(20) % 2, np.array([2, 3, 3])[np.arange(20) % 3])
    return {"coord": grid @ cell + rng.uniform(-0.35, 0.35, (20, 3)), "cell": cell, "atype": types, "aparam": ids}


def train(folder: Path, dp: str) -> None:
    """Two steps on a frame with labels of no meaning, and graph.pb."""
    made, rng = frame(0), np.random.default_rng(9)
    data = folder / "system" / "set.000"
    data.mkdir(parents=True, exist_ok=True)
    arrays = {"coord": made["coord"], "box": made["cell"], "aparam": made["aparam"].astype(float),
              "energy": np.array([-7.0]), "force": rng.normal(size=(20, 3))}  # fmt: skip
    for name, array in arrays.items():
        np.save(data / f"{name}.npy", array.reshape(1, -1))
    np.savetxt(data.parent / "type.raw", made["atype"], fmt="%d")
    (data.parent / "type_map.raw").write_text("\n".join(NAMES))
    jdata = {
        "model": section(),
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 0.001, "decay_steps": 1},
        "loss": {"type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 1, "limit_pref_f": 1},
        "training": {"training_data": {"systems": ["system"], "batch_size": 1}, "numb_steps": 2, "seed": 7},
    }
    (folder / "input.json").write_text(json.dumps(jdata))
    for words in (["train", "input.json"], ["freeze", "-o", "graph.pb"]):
        subprocess.run([dp, "--tf", *words], cwd=folder, check=True)


def trees(graph: Path) -> dict:
    """Both parts in the form that this program reads, with the wrapping of its own."""
    from deepmd.tf.model.model import Model
    from deepmd.tf.utils.graph import get_tensor_by_name_from_graph, load_graph_def

    loaded, definition = load_graph_def(str(graph))
    script = json.loads(get_tensor_by_name_from_graph(loaded, "train_attr/training_script"))
    model = Model(**script["model"])
    model.init_variables(loaded, definition)
    parts = []
    for part, suffix in ((model.qm_model, "_qm"), (model.qmmm_model, "_qmmm")):
        part.descrpt.type_embedding = part.typeebd = model.typeebd
        parts.append(serialize(part, suffix))
    bias = {"out_bias": np.zeros((1, len(NAMES), 1)), "out_std": np.ones((1, len(NAMES), 1))}
    return {"@class": "Model", "type": "pairwise_dprc", "@version": 1, "type_map": NAMES, "atom_exclude_types": [],
            "pair_exclude_types": [], "rcond": None, "preset_out_bias": None, "@variables": bias, "models": parts,
            "keep_vectors": [True, True]}  # fmt: skip


def native(tree, inside: bool = False):
    """The tree with plain numbers and lists outside of `@variables`."""
    if isinstance(tree, dict):
        return {key: native(value, inside or key == "@variables") for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [native(value, inside) for value in tree]
    if inside or not isinstance(tree, (np.ndarray, np.generic)):
        return tree
    return tree.tolist()


def serialize(part, suffix: str) -> dict:
    """A part's tree; the vectors of types are those of the whole, whose names in the graph have no suffix."""
    own = part.typeebd.serialize
    part.typeebd.serialize = lambda suffix="": own(suffix="")
    try:
        return part.serialize(suffix=suffix)
    finally:
        part.typeebd.serialize = own


def main(folder: Path) -> None:
    """Everything."""
    from deepmd.dpmodel.utils.serialization import save_dp_model
    from deepmd.infer import DeepPot

    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "graph.pb"
    if not graph.exists():
        train(folder, os.path.join(os.path.dirname(sys.executable), "dp"))
    whole = {"model": native(trees(graph)), "model_def_script": {}, "backend": "TensorFlow"}
    save_dp_model(str(folder / "model.dp"), whole)
    potential, arrays = DeepPot(str(graph)), {}
    for name, seed, periodic in (("periodic", 0, True), ("open", 1, False)):
        made = frame(seed)
        box = made["cell"].reshape(1, 9) if periodic else None
        aparam = made["aparam"].astype(float).reshape(1, -1)
        found = potential.eval(made["coord"].reshape(1, -1), box, made["atype"], atomic=True, aparam=aparam)
        if not periodic:
            del made["cell"]
        names = ("energy", "force", "virial", "atom_energy", "atom_virial")
        arrays |= {f"{name}.{key}": value for key, value in made.items()}
        arrays |= {f"{name}.{key}": value[0] for key, value in zip(names, found, strict=True)}
    np.savez_compressed(folder / "frames.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
