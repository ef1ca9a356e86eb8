"""One layer of DPA-3: atoms (nodes), pairs (edges) and couples of pairs (angles) tell each other what they know.

With f the activation, w the switch of a pair, v the one of the shorter cutoff of angles, E and A the norms e_sel and
a_sel (divided by sel_reduce_factor if use_dynamic_sel), and all sums over real neighbours:
    node_i  += f(L n_i),  f(L [symmetrised edges and neighbours]),  sum_j f(L [n_i, n_j, e_ij]) w_ij / E   (one or more)
    edge_ij += f(L [n_i, n_j, e_ij]),  f(L' r_ij),  r_ij = sum_k f(L [a_ijk, n_i, e_ik, e_ij]) v_ij v_ik / sqrt(A)
    angle_ijk += f(L [a_ijk, n_i, e_ik, e_ij])
For an edge beyond the shorter cutoff r_ij is e_ij, or 0 if smooth_edge_update. In angles n and e may be compressed.
Updates are joined as in DPA-2. sequential_update hands each result to the next step: edges, angles, edges, nodes.
Source: Zhang et al., arXiv:2506.01686 (DPA-3), with the norms of its implementations.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.activation import Activation
from deepmd.nn.compiled import CURVES, message_ends, messages, serve
from deepmd.nn.descriptor.repformer import STYLES, linear, symmetrised
from deepmd.nn.layers import Dense, load_into, to_numpy
from deepmd.nn.ragged import form, take

PARTS = ("node_self_mlp", "node_sym_linear", "node_edge_linear", "edge_self_linear", "edge_angle_linear1",
         "edge_angle_linear2", "angle_self_linear", "a_compress_n_linear", "a_compress_e_linear")  # fmt: skip


class RepflowLayer(nn.Module):
    """One layer on flat arrays: nodes [n, n_dim], edges [n_pairs, e_dim], angles [n_couples, a_dim]."""

    angles: Final[bool]
    sequential: Final[bool]
    smooth: Final[bool]
    compress: Final[int]
    style: Final[int]

    def __init__(self, args: dict[str, Any], dtype: torch.dtype):
        super().__init__()
        self.args = args
        n, e, a = int(args["n_dim"]), int(args["e_dim"]), int(args["a_dim"])
        self.n_dim, self.axis, self.n_heads = n, int(args["axis_neuron"]), int(args["n_multi_edge_message"])
        reduced = float(args["sel_reduce_factor"]) if args["use_dynamic_sel"] else 1.0
        self.e_norm, self.a_norm = int(args["e_sel"]) / reduced, int(args["a_sel"]) / reduced
        self.angles, self.smooth = bool(args["update_angle"]), bool(args["smooth_edge_update"])
        self.sequential = bool(args["sequential_update"]) and self.angles
        self.style = STYLES[args["update_style"]]
        self.act = Activation(args["activation_function"])
        rate = int(args["a_compress_rate"])
        self.compress = 0 if rate == 0 else (2 if args["a_compress_use_split"] else 1)
        self.n_angle = n if rate == 0 else a // rate
        self.e_angle = e if rate == 0 else a // (2 * rate) * int(args["a_compress_e_rate"])
        none, n_in = nn.Identity(), a + self.n_angle + 2 * self.e_angle
        self.node_self_mlp = linear(n, n, dtype)
        self.node_sym_linear = linear((n + e) * self.axis, n, dtype)
        self.node_edge_linear = linear(2 * n + e, n * self.n_heads, dtype)
        self.edge_self_linear = linear(2 * n + e, e, dtype)
        self.edge_angle_linear1 = linear(n_in, e, dtype) if self.angles else none
        self.edge_angle_linear2 = linear(e, e, dtype) if self.angles else none
        self.angle_self_linear = linear(n_in, a, dtype) if self.angles else none
        shrinks = self.angles and self.compress == 1
        self.a_compress_n_linear = linear(n, self.n_angle, dtype, False) if shrinks else none
        self.a_compress_e_linear = linear(e, self.e_angle, dtype, False) if shrinks else none
        trained = self.style == STYLES["res_residual"]
        counts = (2 + self.n_heads, 1 + self.angles, int(self.angles))
        for name, number, width in zip("nea", counts, (n, e, a), strict=True):
            factors = [nn.Parameter(torch.zeros(width, dtype=dtype)) for _ in range(number if trained else 0)]
            setattr(self, f"{name}_residual", nn.ParameterList(factors))

    def join(self, updates: list[Tensor]) -> Tensor:
        """The styles without trained factors."""
        rest = torch.zeros_like(updates[0])
        for k in range(1, len(updates)):
            rest = rest + updates[k]
        if self.style == 0:
            return (updates[0] + rest) / float(len(updates)) ** 0.5
        return updates[0] + rest / float(max(len(updates) - 1, 1)) ** 0.5

    def told(self, own: Tensor, p: Tensor, q: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
        """f(own + p[first end] + q[second end])."""
        if not torch.jit.is_scripting():
            if self.act.name in CURVES and serve(own):
                both = message_ends(ends[0], p.shape[0], ends[1], q.shape[0])
                return messages(own, p, q, both, self.act.name, self.act.threshold)
        return self.act(own + take(p, ends[0]) + take(q, ends[1]))

    def of_edges(self, w: Tensor, b: Tensor, node: Tensor, edge: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
        """f(L [n_i, n_j, e_ij]), with the products of nodes made once an atom; ends: centers and neighbors."""
        own, other, rest = w.split([self.n_dim, self.n_dim, edge.shape[1]])
        return self.told(torch.addmm(b, edge, rest), torch.matmul(node, own), torch.matmul(node, other), ends)

    def of_angles(
        self, w: Tensor, b: Tensor, angle: Tensor, parts: tuple[Tensor, Tensor], centers: Tensor, index: list[Tensor]
    ) -> Tensor:
        """f(L [a_ijk, n_i, e_ik, e_ij]); parts: compressed nodes and edges; index: edge ij, edge ik of each."""
        a, n, ik, ij = w.split([angle.shape[1], self.n_angle, self.e_angle, self.e_angle])
        first = take(torch.matmul(parts[0], n), centers) + torch.matmul(parts[1], ij)
        return self.told(torch.addmm(b, angle, a), first, torch.matmul(parts[1], ik), (index[0], index[1]))

    def for_angles(self, node: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        if self.compress == 1:
            return self.a_compress_n_linear(node), self.a_compress_e_linear(edge)
        if self.compress == 2:
            return node[:, : self.n_angle], edge[:, : self.e_angle]
        return node, edge

    def reduced(self, told: Tensor, edge: Tensor, v: Tensor, index: list[Tensor], near: Tensor) -> Tensor:
        """f(L' r_ij); told [n_couples, e_dim], v [n_couples, 1], near [n_pairs, 1] within the shorter cutoff."""
        r = form(v, told, index[0], edge.shape[0]).squeeze(1) / self.a_norm**0.5
        if not self.smooth:
            r = torch.where(near, r, edge)
        return self.act(self.edge_angle_linear2(r))

    def node_updates(
        self, node: Tensor, edge: Tensor, told: Tensor, ends: tuple[Tensor, Tensor], h2: Tensor, w: Tensor
    ) -> list[Tensor]:
        """told [n_pairs, n_dim * n_heads]: the messages of pairs."""
        n = node.shape[0]
        updates = [node, self.act(self.node_self_mlp(node))]
        hw = h2 * (w * self.e_norm**-0.5)
        h_edge, h_node = form(hw, edge, ends[0], n), form(hw, node, ends[0], n, ends[1])
        both = torch.cat([symmetrised(h_edge, self.axis), symmetrised(h_node, self.axis)], dim=1)
        updates.append(self.act(self.node_sym_linear(both)))
        sums = form(w, told, ends[0], n).squeeze(1) / self.e_norm
        for k in range(self.n_heads):
            updates.append(sums[:, k * self.n_dim : (k + 1) * self.n_dim])
        return updates

    def forward(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        ends: tuple[Tensor, Tensor],
        h2: Tensor,
        w: Tensor,
        index: list[Tensor],
        v: Tensor,
        near: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """state: nodes, edges, angles; h2 [n_pairs, 3], w [n_pairs, 1]; the rest as in `of_angles` and `reduced`."""
        node, edge, angle = state
        if self.sequential:
            return self.in_sequence(state, ends, h2, w, index, v, near)
        one, two = self.node_edge_linear, self.edge_self_linear
        weight, bias = torch.cat([one.w, two.w], dim=1), torch.cat([one.b, two.b])
        to_node, to_edge = self.of_edges(weight, bias, node, edge, ends).split([one.w.shape[1], two.w.shape[1]], dim=1)
        updates = self.node_updates(node, edge, to_node, ends, h2, w)
        edges = [edge, to_edge]
        angles = [angle]
        if self.angles:
            three, four = self.edge_angle_linear1, self.angle_self_linear
            weight, bias = torch.cat([three.w, four.w], dim=1), torch.cat([three.b, four.b])
            told = self.of_angles(weight, bias, angle, self.for_angles(node, edge), ends[0], index)
            pair, to_angle = told.split([three.w.shape[1], four.w.shape[1]], dim=1)
            edges.append(self.reduced(pair, edge, v, index, near))
            angles.append(to_angle)
        if self.style != 2:
            return self.join(updates), self.join(edges), self.join(angles)
        for k, c in enumerate(self.n_residual):
            node = torch.addcmul(node, c, updates[k + 1])
        for k, c in enumerate(self.e_residual):
            edge = torch.addcmul(edge, c, edges[k + 1])
        for k, c in enumerate(self.a_residual):
            angle = torch.addcmul(angle, c, angles[k + 1])
        return node, edge, angle

    def in_sequence(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        ends: tuple[Tensor, Tensor],
        h2: Tensor,
        w: Tensor,
        index: list[Tensor],
        v: Tensor,
        near: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` of sequential_update: edges, then angles, then edges by angles, then nodes."""
        node, edge, angle = state
        layer, one, two = self.edge_self_linear, self.angle_self_linear, self.edge_angle_linear1
        for k, c in enumerate(self.e_residual):
            if k == 0:
                edge = edge + c * self.of_edges(layer.w, layer.b, node, edge, ends)
            else:
                parts = self.for_angles(node, edge)
                for factor in self.a_residual:
                    angle = angle + factor * self.of_angles(one.w, one.b, angle, parts, ends[0], index)
                told = self.of_angles(two.w, two.b, angle, parts, ends[0], index)
                edge = edge + c * self.reduced(told, edge, v, index, near)
        layer = self.node_edge_linear
        told = self.of_edges(layer.w, layer.b, node, edge, ends)
        updates = self.node_updates(node, edge, told, ends, h2, w)
        for k, c in enumerate(self.n_residual):
            node = node + c * updates[k + 1]
        return node, edge, angle

    @torch.jit.unused
    def randomise(self, seed: list[int] | None) -> None:
        generator = np.random.default_rng(seed)
        for name in PARTS:
            if isinstance(getattr(self, name), Dense):
                getattr(self, name).randomise(generator)
        width, constant = float(self.args["update_residual"]), self.args["update_residual_init"] == "const"
        with torch.no_grad():
            for factors in (self.n_residual, self.e_residual, self.a_residual):
                for c in factors:
                    values = np.full(len(c), width) if constant else generator.normal(0.0, width, len(c))
                    c.copy_(torch.from_numpy(values))

    @torch.jit.unused
    def serialize(self, n_types: int) -> dict[str, Any]:
        args = self.args
        first = ("e_rcut", "e_rcut_smth", "e_sel", "a_rcut", "a_rcut_smth", "a_sel")
        rest = ("n_dim", "e_dim", "a_dim", "a_compress_rate", "a_compress_e_rate", "a_compress_use_split",
                "n_multi_edge_message", "axis_neuron", "activation_function", "update_angle", "update_style",
                "update_residual", "update_residual_init", "optim_update", "smooth_edge_update", "use_dynamic_sel",
                "sel_reduce_factor", "sequential_update")  # fmt: skip
        tree = {
            "@class": "RepFlowLayer", "@version": 2, **{key: args[key] for key in first}, "ntypes": n_types,
            **{key: args[key] for key in rest},
            "precision": "float64" if self.node_self_mlp.w.dtype == torch.float64 else "float32",
        }  # fmt: skip
        tree["e_sel"] = [int(args["e_sel"])]
        for name in PARTS:
            if isinstance(getattr(self, name), Dense):
                tree[name] = getattr(self, name).serialize()
        if self.style == STYLES["res_residual"]:
            names = ("n_residual", "e_residual", "a_residual")
            tree["@variables"] = {name: [to_numpy(c) for c in getattr(self, name)] for name in names}
        return tree

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        for name in PARTS:
            if isinstance(getattr(self, name), Dense):
                setattr(self, name, Dense.deserialize(tree[name]))
        for name in ("n_residual", "e_residual", "a_residual"):
            for c, values in zip(getattr(self, name), tree.get("@variables", {}).get(name, []), strict=True):
                load_into(c, values)
