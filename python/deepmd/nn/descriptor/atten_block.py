"""The block of se_atten: an embedding of distance and types, attention among neighbours, and the matrix T.

    G_j = N([s_ij, A_j, A_i])                                   tebd_input_mode concat
    G_j = N(s_ij) (1 + N_t([A_j, A_i]) w_ij)                    strip; w_ij only if smooth
    T_i = (1/N_sel) sum_j G_j (x) R_ij,   D_i = T_i (T_i[:axis])^T

Without A_i if type_one_side. An empty slot carries the embedding of type 0, which is the type of the first atom as
padded implementations have it in training; it is seen only where davg is not zero. An excluded pair keeps its slot,
with a row of zero, and takes no part in the attention.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.activation import SMOOTH
from deepmd.nn.attention import AttentionLayer, AttentionOptions, unit
from deepmd.nn.layers import PRECISIONS, embedding_network, stream
from deepmd.nn.ragged import count, dense, invariants, slots
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import read_network
from deepmd.nn.type_embedding import pair_vectors


def total(sel: Any) -> int:
    """`sel` of a descriptor that counts all types together: a number, or a list to be summed."""
    return int(sel) if isinstance(sel, int) else int(sum(sel))


class AttenBlock(Environment):
    """Descriptor [n_centers, width * axis] and rotation [n_centers, width, 3]."""

    axis: Final[int]
    width: Final[int]
    one_side: Final[bool]
    strip: Final[bool]
    smooth: Final[bool]
    has_exclusion: Final[bool]

    def __init__(self, section: dict[str, Any], n_types: int):
        super().__init__(section, n_types, total(section["sel"]))
        self.section = dict(section)
        self.axis = int(section["axis_neuron"])
        self.width = int(section["neuron"][-1])
        self.one_side = bool(section.get("type_one_side", False))
        self.strip = section.get("tebd_input_mode", "concat") == "strip"
        self.smooth = bool(section.get("smooth_type_embedding", False))
        self.has_exclusion = len(self.exclude_types) > 0
        self.dtype = PRECISIONS[section.get("precision", "default")]
        dt, activation = bool(section.get("resnet_dt", False)), section["activation_function"]
        dim_types = int(section["tebd_dim"]) * (1 if self.one_side else 2)
        n_in = 1 if self.strip else 1 + dim_types
        self.network = embedding_network(section["neuron"], activation, dt, self.dtype, n_in)
        self.type_network = embedding_network(section["neuron"], activation, dt, self.dtype, dim_types)
        if not self.strip:
            self.type_network = nn.Identity()
        eps = section.get("ln_eps")
        self.options = AttentionOptions(
            self.n_slots, self.width, int(section.get("attn", 128)), bool(section.get("attn_dotr", True)),
            float(section.get("scaling_factor", 1.0)), bool(section.get("normalize", True)),
            section.get("temperature"), self.smooth, bool(section.get("trainable_ln", True)),
            1e-5 if eps is None else float(eps),
        )  # fmt: skip
        n_layers = int(section.get("attn_layer", 0))
        self.attention = nn.ModuleList([AttentionLayer(self.options, self.dtype) for _ in range(n_layers)])

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.network.randomise(stream(seed, "embedding", 0))
        if self.strip:
            self.type_network.randomise(stream(seed, "strip", 0))
        for k, layer in enumerate(self.attention):
            layer.randomise(stream(seed, "attention", k))

    def embed(self, s: Tensor, types_c: Tensor, types_j: Tensor, w: Tensor, table: Tensor) -> Tensor:
        """G [n, width] of radial entries s [n, 1] and switches w [n, 1] with the type vectors `table`."""
        if self.strip:
            kinds = types_j if self.one_side else types_c * self.n_types + types_j
            by_type = self.type_network(pair_vectors(table, self.one_side))[kinds]
            if self.smooth:
                by_type = by_type * w
            return self.network(s) * (1.0 + by_type)
        if self.one_side:
            return self.network(torch.cat([s, table[types_j]], dim=1))
        return self.network(torch.cat([s, table[types_j], table[types_c]], dim=1))

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As a descriptor's, with the vectors of the types [n_types, tebd_dim]."""
        types_i = types[:n_centers]
        n_taken = count(centers, n_centers)
        if self.has_exclusion:
            seen = torch.nonzero(self.keep[types_i[centers], types[neighbors]]).flatten()
            vectors, centers, neighbors = vectors[seen], centers[seen], neighbors[seen]
        types_c, types_j = types_i[centers], types[neighbors]
        rows = self.rows(vectors, types_c, types_j).to(self.dtype)
        w = self.weights(vectors).to(self.dtype).unsqueeze(1)
        place, n_slots = slots(centers, n_centers)
        g = dense(self.embed(rows[:, :1], types_c, types_j, w, table), place, n_centers, n_slots)
        empty_s = self.empty_rows().to(self.dtype).unsqueeze(1)
        kinds = torch.arange(self.n_types, device=vectors.device)
        empty_g = self.embed(empty_s, kinds, torch.zeros_like(kinds), torch.zeros_like(empty_s), table)
        if n_slots > 0:
            mask = dense(torch.ones_like(w), place, n_centers, n_slots)
            n_empty = (self.n_slots - mask.sum(dim=1)).flatten()
            w_table = dense(w, place, n_centers, n_slots)
            direction = dense(unit(vectors).to(self.dtype), place, n_centers, n_slots)
            for layer in self.attention:
                g = layer(g, mask, w_table, direction, n_empty)
        for layer in self.attention:
            empty_g = layer.alone(empty_g)
        t = torch.bmm(dense(rows, place, n_centers, n_slots).transpose(1, 2), g)
        phantoms = (self.n_slots - n_taken).to(self.dtype).unsqueeze(1) * (empty_g * empty_s)[types_i]
        return self.of_sums(torch.cat([t[:, :1] + phantoms.unsqueeze(1), t[:, 1:]], dim=1))

    def of_sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the sums over all slots [n_centers, 4, width]."""
        return invariants(t / float(self.n_slots), self.axis)

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        if len(self.attention) > 0 or self.section["activation_function"].lower() not in SMOOTH:
            return None
        return NodeShape(switched=self.strip and self.smooth, pooled=True, shared=self.one_side)

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], s: Tensor, table: Tensor) -> Tensor:
        """Groups: the network and, where the switch weights it, what the types add; else both in one."""
        n, whole = s.shape[0], types_j == list(range(self.n_types))
        # Made on the device where all types are asked for: a recorded step must not read from the host.
        kinds = torch.arange(self.n_types, device=s.device) if whole else torch.tensor(types_j, device=s.device)
        if not self.strip:
            every, own = kinds.repeat_interleave(n), torch.full((n * len(types_j),), t_i, device=s.device)
            g = self.embed(s.repeat(len(types_j), 1), own, every, s, table)
            return g.reshape(1, len(types_j), n, self.width)
        couples = kinds if self.one_side else t_i * self.n_types + kinds
        by_type = self.type_network(pair_vectors(table, self.one_side))[couples].unsqueeze(1)
        g = self.network(s).unsqueeze(0)
        if not self.smooth:
            return (g * (1.0 + by_type)).unsqueeze(0)
        return torch.stack([g.expand(len(types_j), -1, -1), g * by_type])

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        """Takes networks, attention and statistics of a tree."""
        self.load_statistics(tree["@variables"])
        self.network = read_network(tree["embeddings"]["networks"][0])
        if self.strip:
            self.type_network = read_network(tree["embeddings_strip"]["networks"][0])
        for layer, entry in zip(self.attention, tree["attention_layers"]["attention_layers"], strict=True):
            layer.load(entry)
