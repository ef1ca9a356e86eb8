"""Definition of DPA-2 from a neutral tree: padded slots, one atom after the other, all atoms once for each layer."""

from __future__ import annotations

import numpy as np
from reference import formula_attention, formula_local
from reference.dp_numpy import activation
from reference.formula_attention import layer_norm
from reference.padded import Slots, dense, fill, norm, type_vectors


def dpa2(tree: dict, types: np.ndarray, around: list[list]) -> np.ndarray:
    vectors = type_vectors(tree["type_embedding"])
    first, second = tree["repinit_args"], tree["repformer_args"]
    shared = {key: tree[key] for key in ("exclude_types", "env_protection")}
    block = {**first, **tree["repinit_variable"], **shared, "sel": [first["nsel"]],
             "smooth_type_embedding": tree["smooth"]}  # fmt: skip
    features = []
    for i, t in enumerate(types):
        g = formula_attention.block(block, vectors, int(t), within(around[i], first["rcut"]))
        if first["use_three_body"]:
            three = {**first, **tree["repinit_three_body_variable"], **shared, "sel": [first["three_body_sel"]],
                     "rcut": first["three_body_rcut"], "rcut_smth": first["three_body_rcut_smth"],
                     "neuron": first["three_body_neuron"], "smooth": tree["smooth"]}  # fmt: skip
            near = within(around[i], first["three_body_rcut"])
            g = np.concatenate([g, formula_local.triples(three, vectors, int(t), near)])
        if tree["g1_shape_tranform"]["@class"] != "Identity":
            g = dense(tree["g1_shape_tranform"], g)
        if tree["add_tebd_to_repinit_out"]:
            g = g + dense(tree["tebd_transform"], vectors[t])
        features.append(g)
    g1 = messages(tree, {**second, **tree["repformers_variable"], **shared}, types, around, np.array(features))
    return np.hstack([g1, vectors[types]]) if tree["concat_output_tebd"] else g1


def within(around: list, rcut: float) -> list:
    return [entry for entry in around if norm(entry[2]).real < rcut]


def messages(tree: dict, args: dict, types, around, g1) -> np.ndarray:
    act = args["activation_function"]
    g1 = activation(act, g1)[0]
    slots, g2, h2 = [], [], []
    for i, t in enumerate(types):
        s = fill(args, [args["nsel"]], int(t), within(around[i], args["rcut"]))
        distance, direction = s.rows[:, :1], s.rows[:, 1:]
        if args["direct_dist"]:
            distance = s.lengths[:, None] / args["rcut"]
            direction = s.directions * distance
        slots.append(s)
        g2.append(activation(act, dense(args["g2_embd"], distance))[0])
        h2.append(direction)
    for layer in args["repformer_layers"]:
        new = [update(layer, g1, g2[i], h2[i], slots[i], i) for i in range(len(types))]
        g1 = np.array([one[0] for one in new])
        g2, h2 = [one[1] for one in new], [one[2] for one in new]
    return g1


def softmax(logits: np.ndarray, weights: np.ndarray, real: np.ndarray, smooth: bool) -> np.ndarray:
    """Over all slots in the smooth form, over the real ones otherwise; `weights` are those of the logits' own pair."""
    if smooth:
        e = np.exp((logits + 20.0) * weights - 20.0)
        return e / e.sum() * real * weights
    e = np.exp(logits) * real
    return e / e.sum() if real.any() else e


def symmetrised(layer: dict, g, h2, factor, n_real) -> np.ndarray:
    root, n = layer["use_sqrt_nnei"], sum(layer["sel"])
    scale = (n**-0.5 if root else 1.0 / n) if layer["smooth"] else 1.0 / (1e-4 + (n_real**0.5 if root else n_real))
    h = h2.T @ (g * factor[:, None]) * scale
    return (h[:, : layer["axis_neuron"]].T @ h / 3.0).ravel()


def update(layer: dict, g1_all, g2, h2, slots: Slots, i: int):
    act = layer["activation_function"]
    g1, gg1 = g1_all[i], g1_all[np.maximum(slots.atoms, 0)]
    real, smooth, n_real = slots.real, layer["smooth"], slots.real.sum()
    factor = slots.weights if smooth else real * 1.0
    first, second, third, mlp = [g1], [g2], [h2], []
    if layer["g1_out_mlp"]:
        first.append(activation(act, dense(layer["g1_self_mlp"], g1))[0])
    else:
        mlp.append(g1)
    if layer["update_chnnl_2"]:
        second.append(activation(act, dense(layer["linear2"], g2))[0])
    if layer["update_g2_has_g1g1"]:
        second.append(dense(layer["proj_g1g1g2"], g1 * gg1 * factor[:, None]))
    if layer["update_g2_has_attn"] or layer["update_h2"]:
        maps = pair_attention(layer["attn2g_map"], g2, h2, slots)
        if layer["update_g2_has_attn"]:
            second.append(layer_norm(layer["attn2_lm"], pair_heads(layer["attn2_mh_apply"], maps, g2)))
        if layer["update_h2"]:
            heads = np.stack([a @ h2 for a in maps], axis=-1)
            third.append(dense(layer["attn2_ev_apply"]["head_map"], heads)[..., 0])
    if layer["update_g1_has_conv"]:
        n = sum(layer["sel"]) if smooth else 1e-4 + n_real
        a, b = (g2, gg1) if layer["g1_out_conv"] else (gg1, g2)
        conv = (dense(layer["proj_g1g2"], a) * b * factor[:, None]).sum(axis=0) / n
        (first if layer["g1_out_conv"] else mlp).append(conv)
    if layer["update_g1_has_grrg"]:
        mlp.append(symmetrised(layer, g2, h2, factor, n_real))
    if layer["update_g1_has_drrd"]:
        mlp.append(symmetrised(layer, gg1, h2, factor, n_real))
    first.append(activation(act, dense(layer["linear1"], np.concatenate(mlp)))[0])
    if layer["update_g1_has_attn"]:
        first.append(local_attention(layer["loc_attn"], g1, gg1, slots))
    joined = [join(layer, name, list_) for name, list_ in (("g1", first), ("g2", second), ("h2", third))]
    return joined if layer["update_chnnl_2"] else (joined[0], g2, h2)


def join(layer: dict, name: str, updates: list) -> np.ndarray:
    if layer["update_style"] == "res_residual":
        factors = layer["@variables"][f"{name}_residual"]
        return updates[0] + sum(c * u for c, u in zip(factors, updates[1:], strict=False))
    if layer["update_style"] == "res_avg":
        return sum(updates) / len(updates) ** 0.5
    return updates[0] + (sum(updates[1:]) / (len(updates) - 1) ** 0.5 if len(updates) > 1 else 0.0)


def pair_attention(tree: dict, g2, h2, slots: Slots) -> list[np.ndarray]:
    d, heads, n = tree["hidden_dim"], tree["head_num"], len(g2)
    qk = dense(tree["mapqk"], g2).reshape(n, d, 2 * heads)
    hh, maps = h2 @ h2.T, []
    for k in range(heads):
        logits = qk[:, :, k] @ qk[:, :, heads + k].T / d**0.5
        if tree["has_gate"]:
            logits = logits * hh
        a = np.zeros((n, n), dtype=complex)
        for j in np.flatnonzero(slots.real):
            a[j] = softmax(logits[j], slots.weights[j] * slots.weights, slots.real, tree["smooth"])
        maps.append(a * hh / 3.0**0.5)
    return maps


def pair_heads(tree: dict, maps: list[np.ndarray], g2) -> np.ndarray:
    v = dense(tree["mapv"], g2).reshape(len(g2), g2.shape[1], len(maps))
    out = np.stack([a @ v[:, :, k] for k, a in enumerate(maps)], axis=-1)
    return dense(tree["head_map"], out.reshape(len(g2), -1))


def local_attention(tree: dict, g1, gg1, slots: Slots) -> np.ndarray:
    d, heads, width = tree["hidden_dim"], tree["head_num"], len(g1)
    q = dense(tree["mapq"], g1).reshape(d, heads)
    kv = dense(tree["mapkv"], gg1).reshape(len(gg1), d + width, heads)
    out = []
    for k in range(heads):
        logits = kv[:, :d, k] @ q[:, k] / d**0.5
        out.append(softmax(logits, slots.weights, slots.real, tree["smooth"]) @ kv[:, d:, k])
    return dense(tree["head_map"], np.concatenate(out))
