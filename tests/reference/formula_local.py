"""Definitions of the descriptors without messages and without attention, one atom at a time, from a neutral tree."""

from __future__ import annotations

import itertools

import numpy as np
from reference.padded import fill, network, type_vectors


def se_e2_a(tree: dict, t_i: int, around: list) -> np.ndarray:
    slots = fill(tree, tree["sel"], t_i, around)
    nets, n_types = tree["embeddings"]["networks"], len(tree["sel"])
    owner = np.repeat(np.arange(n_types), tree["sel"])
    total = np.zeros((tree["neuron"][-1], 4), dtype=complex)
    for k, row in enumerate(slots.rows):
        net = nets[owner[k] if tree["type_one_side"] else t_i + owner[k] * n_types]
        total += np.outer(network(net, row[:1]), row)
    total /= sum(tree["sel"])
    return (total @ total[: tree["axis_neuron"]].T).ravel()


def se_r(tree: dict, t_i: int, around: list) -> np.ndarray:
    slots = fill(tree, tree["sel"], t_i, around)
    nets, n_types = tree["embeddings"]["networks"], len(tree["sel"])
    owner = np.repeat(np.arange(n_types), tree["sel"])
    one_side = tree["embeddings"]["ndim"] == 1
    total = np.zeros(tree["neuron"][-1], dtype=complex)
    for k, row in enumerate(slots.rows):
        total += network(nets[owner[k] if one_side else t_i + owner[k] * n_types], row)
    return total / (5.0 * sum(tree["sel"]))


def se_e3(tree: dict, t_i: int, around: list) -> np.ndarray:
    sel, n_types = tree["sel"], len(tree["sel"])
    angular = fill(tree, sel, t_i, around).rows[:, 1:]
    starts = np.concatenate([[0], np.cumsum(sel)])
    total = np.zeros(tree["neuron"][-1], dtype=complex)
    for a, b in itertools.combinations_with_replacement(range(n_types), 2):
        net = tree["embeddings"]["networks"][a + b * n_types]
        for j in range(starts[a], starts[a + 1]):
            cosines = angular[starts[b] : starts[b + 1]] @ angular[j]
            total += cosines @ network(net, cosines[:, None]) / (sel[a] * sel[b])
    return total


def se_e3_tebd(tree: dict, t_i: int, around: list) -> np.ndarray:
    vectors = type_vectors(tree["type_embedding"])
    total = triples(tree, vectors, t_i, around)
    return np.concatenate([total, vectors[t_i]]) if tree["concat_output_tebd"] else total


def triples(tree: dict, vectors: np.ndarray, t_i: int, around: list) -> np.ndarray:
    """The sum over couples of slots, with all types in one list."""
    slots = fill(tree, tree["sel"], t_i, around)
    angular, n_slots = slots.rows[:, 1:], sum(tree["sel"])
    net = tree["embeddings"]["networks"][0]
    total = np.zeros(tree["neuron"][-1], dtype=complex)
    for j in range(n_slots):
        cosines = angular @ angular[j]
        pairs = np.hstack([np.tile(vectors[slots.types[j]], (n_slots, 1)), vectors[slots.types]])
        if tree["tebd_input_mode"] == "concat":
            g = network(net, np.hstack([cosines[:, None], pairs]))
        else:
            by_type = network(tree["embeddings_strip"]["networks"][0], pairs)
            if tree["smooth"]:
                by_type = by_type * (slots.weights[j] * slots.weights)[:, None]
            g = network(net, cosines[:, None]) * (1.0 + by_type)
        total += cosines @ g
    return total / n_slots**2
