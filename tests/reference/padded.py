"""Padded neighbour tables, as the definitions of the descriptors have them: `sel` slots, the empty ones filled with
rows of zeros before the normalisation. Lengths in Angstrom. Everything here takes complex vectors, so that derivatives
come from the complex step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from reference.dp_numpy import VARIABLES, activation


def norm(vector):
    """Length without complex conjugation."""
    return np.sqrt(np.sum(vector * vector, axis=-1))


def weight(r, rcut_smth, rcut):
    """The switch from 1 at rcut_smth to 0 at rcut."""
    if r.real < rcut_smth:
        return 1.0
    if r.real >= rcut:
        return 0.0
    u = (r - rcut_smth) / (rcut - rcut_smth)
    return u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0


def dense(layer: dict, x: np.ndarray) -> np.ndarray:
    """One layer of a tree on the last axis of x."""
    variables = layer[VARIABLES]
    w = np.asarray(variables["w"], dtype=float)
    y = x @ w
    if variables.get("b") is not None:
        y = y + np.ravel(variables["b"])
    y = activation(layer.get("activation_function") or "none", y)[0]
    if variables.get("idt") is not None:
        y = y * np.ravel(variables["idt"])
    if layer.get("resnet") and w.shape[1] == w.shape[0]:
        y = y + x
    elif layer.get("resnet") and w.shape[1] == 2 * w.shape[0]:
        y = y + np.concatenate([x, x], axis=-1)
    return y


def network(tree: dict, x: np.ndarray) -> np.ndarray:
    for layer in tree["layers"]:
        x = dense(layer, x)
    return x


@dataclass
class Slots:
    """The slots around one atom."""

    rows: np.ndarray  # [n_slots, 4] or [n_slots, 1], normalised, zero where the pair is excluded
    types: np.ndarray  # [n_slots] of the neighbour, 0 in an empty slot
    weights: np.ndarray  # [n_slots] switch, 0 in an empty slot and for an excluded pair
    real: np.ndarray  # [n_slots] bool: holds a neighbour that is not excluded
    directions: np.ndarray  # [n_slots, 3] unit vectors, 0 in an empty slot
    atoms: np.ndarray  # [n_slots] number of the neighbour, -1 in an empty slot
    lengths: np.ndarray  # [n_slots] distances, 0 in an empty slot


def fill(shape: dict, sel: list[int], t_i: int, around: list) -> Slots:
    """The slots of one atom; around: (j, t_j, vector). shape: rcut, rcut_smth, env_protection, exclude_types and
    @variables of a descriptor or of a part of one; one entry in `sel` for each type, or a single one for all.
    """
    n_slots, width = sum(sel), np.shape(shape[VARIABLES]["davg"])[2]
    protection = shape.get("env_protection") or 0.0
    excluded = {tuple(p) for p in shape.get("exclude_types") or []} | {
        tuple(p[::-1]) for p in shape.get("exclude_types") or []
    }
    starts = np.concatenate([[0], np.cumsum(sel)])
    used = [0] * len(sel)
    raw = np.zeros((n_slots, 4), dtype=complex)
    slots = Slots(raw, np.zeros(n_slots, dtype=int), np.zeros(n_slots, dtype=complex), np.zeros(n_slots, dtype=bool),
                  np.zeros((n_slots, 3), dtype=complex), np.full(n_slots, -1),
                  np.zeros(n_slots, dtype=complex))  # fmt: skip
    keep = np.ones(n_slots)
    for j, t_j, vector in around:
        r = norm(vector)
        if r.real >= shape["rcut"]:
            continue
        block = t_j if len(sel) > 1 else 0
        assert used[block] < sel[block], "a padded table has no room for this neighbour"
        k = starts[block] + used[block]
        used[block] += 1
        w, q = weight(r, shape["rcut_smth"], shape["rcut"]), r + protection
        raw[k] = np.concatenate([[w / q], w / q**2 * vector])
        seen = (t_i, t_j) not in excluded
        keep[k] = seen
        slots.types[k], slots.weights[k] = (t_j, w) if seen else (0, 0.0)
        slots.real[k], slots.atoms[k] = seen, j
        slots.directions[k], slots.lengths[k] = vector / r, r
    mean, spread = (np.asarray(shape[VARIABLES][name], dtype=float)[t_i] for name in ("davg", "dstd"))
    slots.rows = (raw[:, :width] - mean) / spread * keep[:, None]
    return slots


def type_vectors(tree: dict) -> np.ndarray:
    """The vectors of all types, [n_types, width]."""
    return network(tree["embedding"], np.eye(tree["ntypes"]))
