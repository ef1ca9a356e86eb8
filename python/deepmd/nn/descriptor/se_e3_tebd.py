"""The three-body descriptor with one network for all types, se_e3_tebd.

    D_i = (1/N_sel^2) sum_jk c_jk G_jk,   c_jk = R_ij . R_ik of the normalised angular parts, j == k included
    G_jk = N([c_jk, A_j, A_k])                          tebd_input_mode concat
    G_jk = N(c_jk) (1 + N_t([A_j, A_k]) w_ij w_ik)      strip; the switches only if smooth

followed by the vector of the centre's type if concat_output_tebd. Empty slots have no angular part and add nothing.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.activation import SMOOTH
from deepmd.nn.descriptor.atten_block import total
from deepmd.nn.layers import PRECISIONS, embedding_network, stream
from deepmd.nn.ragged import partners, sum_to
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import precision_of, read_network, write_networks
from deepmd.nn.type_embedding import TypeEmbedding, linear_embedding, pair_vectors

TREE_KEYS = ("rcut", "rcut_smth", "sel", "neuron", "tebd_dim", "tebd_input_mode", "set_davg_zero",
             "activation_function", "resnet_dt", "concat_output_tebd", "precision", "exclude_types", "env_protection",
             "smooth", "trainable")  # fmt: skip


class TripleBlock(Environment):
    """Sum over couples of neighbours [n_centers, width]."""

    width: Final[int]
    strip: Final[bool]
    smooth: Final[bool]

    def __init__(self, section: dict[str, Any], n_types: int):
        super().__init__(section, n_types, total(section["sel"]))
        self.section = dict(section)
        self.width = int(section["neuron"][-1])
        self.strip = section.get("tebd_input_mode", "concat") == "strip"
        self.smooth = bool(section.get("smooth", True))
        self.dtype = PRECISIONS[section.get("precision", "default")]
        dt, activation = bool(section.get("resnet_dt", False)), section["activation_function"]
        dim_types = 2 * int(section["tebd_dim"])
        n_in = 1 if self.strip else 1 + dim_types
        self.network = embedding_network(section["neuron"], activation, dt, self.dtype, n_in)
        self.type_network = embedding_network(section["neuron"], activation, dt, self.dtype, dim_types)
        if not self.strip:
            self.type_network = nn.Identity()

    @torch.jit.unused
    def randomise(self, seed: int | None, k: int = 0) -> None:
        self.network.randomise(stream(seed, "embedding", k))
        if self.strip:
            self.type_network.randomise(stream(seed, "strip", k))

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int, table: Tensor
    ) -> Tensor:
        types_j = types[neighbors]
        angular = self.rows(vectors, types[centers], types_j)[:, 1:].to(self.dtype)
        p, q = partners(centers, n_centers)
        cosine = (angular[p] * angular[q]).sum(dim=1, keepdim=True)
        if self.strip:
            by_type = self.type_network(pair_vectors(table, False))[types_j[q] * self.n_types + types_j[p]]
            if self.smooth:
                w = self.weights(vectors).to(self.dtype).unsqueeze(1)
                by_type = by_type * w[p] * w[q]
            g = self.network(cosine) * (1.0 + by_type)
        else:
            g = self.network(torch.cat([cosine, table[types_j[p]], table[types_j[q]]], dim=1))
        return self.of_sums(sum_to(cosine * g, centers[p], n_centers).unsqueeze(1))

    def of_sums(self, t: Tensor) -> Tensor:
        """What `forward` returns, from the sums over all couples [n_centers, 1, width]."""
        return t[:, 0] / float(self.n_slots) ** 2

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        if self.section["activation_function"].lower() not in SMOOTH:
            return None
        return NodeShape(1, self.strip and self.smooth, pooled=True, shared=True, couples=True)

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], c: Tensor, table: Tensor) -> Tensor:
        """Both orders of a couple of two types together."""
        del t_i
        couples = [(a, b) for b in types_j for a in types_j if a <= b]
        both = torch.tensor([1.0 if a == b else 2.0 for a, b in couples], dtype=self.dtype).reshape(-1, 1, 1)
        if self.strip:
            by_type = self.type_network(pair_vectors(table, False)).reshape(self.n_types, self.n_types, -1)
            by_type = torch.stack([by_type[a, b] + (by_type[b, a] if a != b else 0.0) for a, b in couples]).unsqueeze(1)
            g = self.network(c).unsqueeze(0)
            return torch.stack([g * both, g * by_type]) if self.smooth else (g * (both + by_type)).unsqueeze(0)
        n, found = c.shape[0], []
        for a, b in couples:
            orders = [torch.cat([table[a], table[b]]), torch.cat([table[b], table[a]])][: 1 if a == b else 2]
            found.append(sum(self.network(torch.cat([c, types.expand(n, -1)], dim=1)) for types in orders))
        return torch.stack(found).unsqueeze(0)

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        """Takes networks and statistics of a tree."""
        self.load_statistics(tree["@variables"])
        self.network = read_network(tree["embeddings"]["networks"][0])
        if self.strip:
            self.type_network = read_network(tree["embeddings_strip"]["networks"][0])


class DescriptorSeE3Tebd(nn.Module):
    """Descriptor [n_centers, neuron[-1] (+ tebd_dim)]; see the package for the contract."""

    joins_types: Final[bool]
    mixed_types = True
    passes_messages = False

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__()
        self.section = dict(section)
        self.type_map = list(type_map)
        self.n_types = len(type_map)
        self.block = TripleBlock(section, self.n_types)
        self.type_embedding = linear_embedding(section, type_map)
        self.joins_types = bool(section.get("concat_output_tebd", True))
        self.rcut, self.rcut_smth = self.block.rcut, self.block.rcut_smth
        self.sel = [self.block.n_slots]
        self.dtype = self.block.dtype
        self.dim_rotation = 0
        self.dim_out = self.block.width + (self.type_embedding.width if self.joins_types else 0)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.type_embedding.randomise(seed)
        self.block.randomise(seed)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self.block, lambda: (self.type_embedding(),))]

    @torch.jit.unused
    def environments(self) -> list[Environment]:
        return [self.block]

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and an empty rotation [n_centers, 0, 3]."""
        table = self.type_embedding()
        d = self.block(vectors, centers, neighbors, types, n_centers, table)
        if self.joins_types:
            d = torch.cat([d, table[types[:n_centers]]], dim=1)
        return d, torch.zeros(n_centers, 0, 3, dtype=self.dtype, device=vectors.device)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section, block = self.section, self.block
        tree = {
            "@class": "Descriptor",
            "type": "se_e3_tebd",
            "@version": 1,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "ntypes": self.n_types,
            "neuron": list(section["neuron"]),
            "tebd_dim": int(section["tebd_dim"]),
            "tebd_input_mode": "strip" if block.strip else "concat",
            "set_davg_zero": block.set_davg_zero,
            "activation_function": section["activation_function"],
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "concat_output_tebd": self.joins_types,
            "use_econf_tebd": False,
            "type_map": self.type_map,
            "precision": precision_of(block.network),
            "embeddings": write_networks([block.network], 0, self.n_types, section),
            "env_mat": block.serialize_shape(),
            "type_embedding": self.type_embedding.serialize(),
            "exclude_types": block.exclude_types,
            "env_protection": block.protection,
            "smooth": block.smooth,
            "@variables": block.serialize_statistics(),
            "trainable": bool(section.get("trainable", True)),
        }
        if block.strip:
            tree["embeddings_strip"] = write_networks([block.type_network], 0, self.n_types, section)
        return tree

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeE3Tebd":
        section = {key: tree[key] for key in TREE_KEYS if key in tree}
        section["use_tebd_bias"] = bool(tree["type_embedding"].get("use_tebd_bias", True))
        descriptor = cls(section, type_map)
        descriptor.block.load(tree)
        descriptor.type_embedding = TypeEmbedding.deserialize(tree["type_embedding"], type_map)
        return descriptor
