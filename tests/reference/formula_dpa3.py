"""Definition of DPA-3 from a neutral tree: padded slots, one atom after the other, all atoms once for each layer."""

from __future__ import annotations

import numpy as np
from reference.dp_numpy import activation
from reference.padded import dense, fill, norm, type_vectors, weight


def dpa3(tree: dict, types: np.ndarray, around: list[list]) -> np.ndarray:
    args, variables = tree["repflow_args"], tree["repflow_variable"]
    act, vectors = tree["activation_function"], type_vectors(tree["type_embedding"])
    shape = {**variables, "rcut": args["e_rcut"], "rcut_smth": args["e_rcut_smth"],
             "exclude_types": tree["exclude_types"], "env_protection": tree["env_protection"]}  # fmt: skip
    nodes = activation(act, vectors[types])[0].astype(complex)
    atoms = [Atom(shape, args, variables, act, int(t), around[i]) for i, t in enumerate(types)]
    for layer in variables["repflow_layers"]:
        new = [update(layer, args, act, nodes, atom, i) for i, atom in enumerate(atoms)]
        nodes = np.array(new)
    return np.hstack([nodes, vectors[types]]) if tree["concat_output_tebd"] else nodes


class Atom:
    """Pairs and angles around one atom; angles are kept for all couples of slots and seen where both pairs are near."""

    def __init__(self, shape, args, variables, act, t_i, around):
        s = fill(shape, [args["e_sel"]], t_i, [e for e in around if norm(e[2]).real < args["e_rcut"]])
        self.slots, self.w = s, s.weights.copy()
        rows, r = s.rows, s.lengths
        self.near = s.real & (r.real < args["a_rcut"])
        if args["use_exp_switch"]:
            exponential = [np.exp(-np.exp(20.0 / b * (r - b))) for b in (args["e_rcut_smth"], args["a_rcut_smth"])]
            mean, spread = (np.asarray(shape["@variables"][k], dtype=float)[t_i] for k in ("davg", "dstd"))
            self.w = exponential[0] * s.real
            q = r + (shape["env_protection"] or 0.0) + (~s.real)
            raw = np.concatenate([np.ones((len(r), 1)), s.directions * (r / q)[:, None]], axis=1)
            rows = (raw * (self.w / q)[:, None] - mean) / spread
            self.v = exponential[1] * self.near
        else:
            smooth = [weight(x, args["a_rcut_smth"], args["a_rcut"]) for x in r]
            self.v = np.array(smooth) * self.near
        self.h = rows[:, 1:] * s.real[:, None]
        if args["edge_init_use_dist"]:
            self.edge = dense(variables["edge_embd"], r[:, None])
        else:
            self.edge = activation(act, dense(variables["edge_embd"], rows[:, :1]))[0]
        shortened = s.directions * (r / (r + 1e-6))[:, None]
        cosine = shortened @ shortened.T * (1 - 1e-6) / np.sqrt(np.pi)
        self.angle = dense(variables["angle_embd"], cosine[:, :, None])


def join(layer: dict, name: str, updates: list) -> np.ndarray:
    if layer["update_style"] == "res_residual":
        return updates[0] + sum(c * u for c, u in zip(layer["@variables"][name], updates[1:], strict=True))
    if layer["update_style"] == "res_avg":
        return sum(updates) / len(updates) ** 0.5
    return updates[0] + (sum(updates[1:]) / (len(updates) - 1) ** 0.5 if len(updates) > 1 else 0.0)


def update(layer: dict, args: dict, act: str, nodes, atom: Atom, i: int) -> np.ndarray:
    """New features of the node; those of its pairs and angles are replaced in `atom`."""
    node, n = nodes[i], len(atom.edge)
    other = nodes[np.maximum(atom.slots.atoms, 0)]
    reduce = args["sel_reduce_factor"] if args["use_dynamic_sel"] else 1.0
    e_norm, a_norm = args["e_sel"] / reduce, args["a_sel"] / reduce

    def f(name: str, x: np.ndarray) -> np.ndarray:
        return activation(act, dense(layer[name], x))[0]

    def edge_info(edge):
        return np.hstack([np.tile(node, (n, 1)), other, edge])

    def node_updates(edge):
        sums = []
        for values in (edge, other):
            h = atom.h.T @ (values * atom.w[:, None]) / e_norm**0.5
            sums.append((h[:, : layer["axis_neuron"]].T @ h / 3.0).ravel())
        message = (f("node_edge_linear", edge_info(edge)) * atom.w[:, None]).sum(axis=0) / e_norm
        heads = np.split(message, layer["n_multi_edge_message"])
        return [node, f("node_self_mlp", node), f("node_sym_linear", np.concatenate(sums)), *heads]

    def angle_info(angle, edge):
        own, pair = node, edge
        if layer["a_compress_rate"]:
            if layer["a_compress_use_split"]:
                width = layer["a_dim"] // layer["a_compress_rate"]
                own = node[:width]
                pair = edge[:, : width // 2 * layer["a_compress_e_rate"]]
            else:
                own, pair = dense(layer["a_compress_n_linear"], node), dense(layer["a_compress_e_linear"], edge)
        pair = np.where(atom.near[:, None], pair, 0.0)
        wide = (n, n, -1)
        ik, ij = np.broadcast_to(pair[None], (n, *pair.shape)), np.broadcast_to(pair[:, None], (n, n, pair.shape[1]))
        return np.concatenate([angle, np.broadcast_to(own, (n, n, len(own))).reshape(wide), ik, ij], axis=2)

    def reduced(messages, edge):
        r = np.einsum("j,k,jkc->jc", atom.v, atom.v, messages) / a_norm**0.5
        if not layer["smooth_edge_update"]:
            r = np.where(atom.near[:, None], r, edge)
        return f("edge_angle_linear2", r)

    edge, angle = atom.edge, atom.angle
    if layer["sequential_update"] and layer["update_angle"]:
        variables = layer["@variables"]
        edge = edge + variables["e_residual"][0] * f("edge_self_linear", edge_info(edge))
        angle = angle + variables["a_residual"][0] * f("angle_self_linear", angle_info(angle, edge))
        last = reduced(f("edge_angle_linear1", angle_info(angle, edge)), edge)
        atom.edge, atom.angle = edge + variables["e_residual"][1] * last, angle
        return join(layer, "n_residual", node_updates(atom.edge))
    edges, angles = [edge, f("edge_self_linear", edge_info(edge))], [angle]
    if layer["update_angle"]:
        edges.append(reduced(f("edge_angle_linear1", angle_info(angle, edge)), edge))
        angles.append(f("angle_self_linear", angle_info(angle, edge)))
    atom.edge, atom.angle = join(layer, "e_residual", edges), join(layer, "a_residual", angles)
    return join(layer, "n_residual", node_updates(edge))
