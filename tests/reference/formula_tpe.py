"""Definition of se_a_tpe, one atom at a time, from its tree."""

from __future__ import annotations

import numpy as np
from reference.padded import dense, fill, network


def se_a_tpe(tree: dict, t_i: int, around: list) -> np.ndarray:
    slots = fill(tree, tree["sel"], t_i, around)
    owner = np.repeat(np.arange(len(tree["sel"])), tree["sel"])
    vectors = network(tree["type_embedding"], np.eye(len(tree["sel"])))
    width = tree["neuron"][-1]
    total = np.zeros((width, 4), dtype=complex)
    for k, row in enumerate(slots.rows):
        neighbour = vectors[owner[k]]
        coupling = neighbour if tree["type_one_side"] else np.outer(vectors[t_i], neighbour).ravel()
        channels = dense(tree["outer"], network(tree["embedding"], row[:1])).reshape(width, -1)
        total += np.outer((channels * coupling).mean(axis=1), row)
    total /= sum(tree["sel"])
    return (total @ total[: tree["axis_neuron"]].T).ravel()
