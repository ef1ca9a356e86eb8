"""The three-body descriptor with an embedding of angles, se_e3 (also se_t, se_at, se_a_3be).

    D_i = sum_{a <= b} 1/(sel_a sel_b) sum_{j of type a, k of type b} c_jk G_ab(c_jk),   c_jk = R_ij . R_ik

with R the normalised angular parts of the rows. An empty slot has no angular part and adds nothing, so the sum over the
real neighbours is the padded definition. Couples of one type count in both orders and with themselves.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.activation import SMOOTH
from deepmd.nn.layers import PRECISIONS, embedding_network, stream
from deepmd.nn.ragged import partners, sum_to
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import read_networks, write_networks


class DescriptorSeE3(Environment):
    """Descriptor [n_centers, neuron[-1]] from the angles between neighbours; see the package for the contract."""

    width: Final[int]
    mixed_types = False
    passes_messages = False

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        n_types = len(type_map)
        super().__init__(section, n_types, sum(section["sel"]))
        self.section = dict(section)
        self.type_map = list(type_map)
        self.width = int(section["neuron"][-1])
        self.dim_out = self.width
        self.dim_rotation = 0
        self.sel = [int(n) for n in section["sel"]]
        self.dtype = PRECISIONS[section.get("precision", "default")]
        dt = bool(section.get("resnet_dt", False))
        self.networks = nn.ModuleList(
            [
                embedding_network(section["neuron"], section["activation_function"], dt, self.dtype)
                for _ in range(n_types**2)
            ]
        )

    def randomise(self, seed: int | None) -> None:
        for k, network in enumerate(self.networks):
            network.randomise(stream(seed, "embedding", k))

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and an empty rotation [n_centers, 0, 3]."""
        types_j = types[neighbors]
        angular = self.rows(vectors, types[centers], types_j)[:, 1:].to(self.dtype)
        p, q = partners(centers, n_centers)
        cosine = (angular[p] * angular[q]).sum(dim=1, keepdim=True)
        kind = types_j[p] + types_j[q] * self.n_types  # the index of a network, and of those with a > b that rest
        d = torch.zeros(n_centers, self.width, dtype=self.dtype, device=vectors.device)
        for k, network in enumerate(self.networks):
            a, b = k % self.n_types, k // self.n_types
            n_couples = self.sel[a] * self.sel[b]
            if a <= b and n_couples > 0:
                couples = torch.nonzero(kind == k).flatten()
                c = cosine[couples]
                d = d + sum_to(c * network(c), centers[p[couples]], n_centers) / float(n_couples)
        return self.of_sums(d.unsqueeze(1))

    def of_sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the sums over all couples [n_centers, 1, width]."""
        return t[:, 0], torch.zeros(t.shape[0], 0, 3, dtype=self.dtype, device=t.device)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self, tuple)]

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        smooth = self.section["activation_function"].lower() in SMOOTH
        return NodeShape(rows=1, shared=True, couples=True) if smooth else None

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], c: Tensor) -> Tensor:
        del t_i
        found = []
        for b in types_j:
            for a in (t for t in types_j if t <= b):
                n_couples = self.sel[a] * self.sel[b]
                scale = 1.0 / n_couples if n_couples > 0 else 0.0
                found.append(self.networks[a + b * self.n_types](c) * scale)
        return torch.stack(found).unsqueeze(0)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        return {
            "@class": "Descriptor",
            "type": "se_e3",
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "neuron": list(section["neuron"]),
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "set_davg_zero": self.set_davg_zero,
            "activation_function": section["activation_function"],
            "precision": "float64" if self.dtype == torch.float64 else "float32",
            "embeddings": write_networks(self.networks, 2, self.n_types, section),
            "env_mat": self.serialize_shape(),
            "exclude_types": self.exclude_types,
            "env_protection": self.protection,
            "@variables": self.serialize_statistics(),
            "type_map": self.type_map,
            "trainable": bool(section.get("trainable", True)),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeE3":
        keys = ("rcut", "rcut_smth", "sel", "neuron", "resnet_dt", "trainable", "exclude_types", "env_protection",
                "set_davg_zero", "activation_function", "precision")  # fmt: skip
        descriptor = cls({key: tree[key] for key in keys if key in tree}, type_map)
        descriptor.load_statistics(tree["@variables"])
        descriptor.networks = read_networks(tree["embeddings"], len(descriptor.networks))
        return descriptor
