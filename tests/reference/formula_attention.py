"""Definition of se_atten and se_atten_v2, one atom and one slot at a time, from a neutral tree."""

from __future__ import annotations

import numpy as np
from reference.dp_numpy import VARIABLES
from reference.padded import Slots, dense, fill, network, norm, type_vectors


def dpa1(tree: dict, t_i: int, around: list) -> np.ndarray:
    vectors = type_vectors(tree["type_embedding"])
    d = block(tree, vectors, t_i, around)
    return np.concatenate([d, vectors[t_i]]) if tree["concat_output_tebd"] else d


def se_atten_v2(tree: dict, t_i: int, around: list) -> np.ndarray:
    return dpa1({**tree, "tebd_input_mode": "strip", "smooth_type_embedding": True}, t_i, around)


def block(tree: dict, vectors: np.ndarray, t_i: int, around: list) -> np.ndarray:
    """T T^T of the attention block, [M * axis]."""
    slots = fill(tree, tree["sel"], t_i, around)
    g = embed(tree, vectors, t_i, slots)
    for layer in (tree.get("attention_layers") or {}).get("attention_layers", []):
        g = attend(layer, g, slots)
    total = g.T @ slots.rows / sum(tree["sel"])
    return (total @ total[: tree["axis_neuron"]].T).ravel()


def embed(tree: dict, vectors: np.ndarray, t_i: int, slots: Slots) -> np.ndarray:
    s, n_slots = slots.rows[:, :1], len(slots.rows)
    types = vectors[slots.types]
    if not tree["type_one_side"]:
        types = np.hstack([types, np.tile(vectors[t_i], (n_slots, 1))])
    net = tree["embeddings"]["networks"][0]
    if tree["tebd_input_mode"] == "concat":
        return network(net, np.hstack([s, types]))
    by_type = network(tree["embeddings_strip"]["networks"][0], types)
    if tree["smooth_type_embedding"]:
        by_type = by_type * slots.weights[:, None]
    return network(net, s) * (1.0 + by_type)


def attend(layer: dict, g: np.ndarray, slots: Slots) -> np.ndarray:
    attention = layer["attention_layer"]
    q, k, v = np.split(dense(attention["in_proj"], g), 3, axis=1)
    if attention["normalize"]:
        q, k, v = (x / norm(x)[:, None] for x in (q, k, v))
    scale = (attention["hidden_dim"] * attention["scaling_factor"]) ** -0.5
    if attention["temperature"] is not None:
        scale = attention["temperature"]
    mixed = np.zeros((len(g), attention["hidden_dim"]), dtype=complex)
    for j in np.flatnonzero(slots.real):
        logits = k @ q[j] * scale
        ww = slots.weights[j] * slots.weights
        if attention["smooth"]:
            weights = np.exp((logits + 20.0) * ww - 20.0)
        else:
            weights = np.exp(logits) * slots.real
        weights = weights / weights.sum()
        if attention["smooth"]:
            weights = weights * ww
        if attention["dotr"]:
            weights = weights * (slots.directions @ slots.directions[j])
        mixed[j] = weights @ v
    return layer_norm(layer["attn_layer_norm"], g + dense(attention["out_proj"], mixed))


def layer_norm(tree: dict, x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(variance + tree["eps"]) * tree[VARIABLES]["w"] + tree[VARIABLES]["b"]
