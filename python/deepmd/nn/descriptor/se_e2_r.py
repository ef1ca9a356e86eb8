"""The two-body descriptor of distances alone, se_e2_r.

    D_i = (1/5) (1/N_sel) [ sum_j G(s_ij) + sum_t (sel_t - n_it) G_t(s_0) ],   s_0 = -davg/dstd

Empty slots always count here, since the embedding is not multiplied by the row. The factor 1/5 is a constant of the
family. A pair that is excluded keeps its slot with a row of zero.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.activation import SMOOTH
from deepmd.nn.layers import PRECISIONS, embedding_network, stream
from deepmd.nn.ragged import sum_to
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import read_networks, write_networks

SCALE = 5.0


class DescriptorSeE2R(Environment):
    """Descriptor [n_centers, neuron[-1]] from distances; see the package for the contract."""

    width: Final[int]
    one_side: Final[bool]
    mixed_types = False
    passes_messages = False

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        n_types = len(type_map)
        super().__init__(section, n_types, sum(section["sel"]), width=1)
        self.section = dict(section)
        self.type_map = list(type_map)
        self.width = int(section["neuron"][-1])
        self.dim_out = self.width
        self.dim_rotation = 0
        self.one_side = bool(section.get("type_one_side", True))
        self.sel = [int(n) for n in section["sel"]]
        self.dtype = PRECISIONS[section.get("precision", "default")]
        dt = bool(section.get("resnet_dt", False))
        self.networks = nn.ModuleList(
            [
                embedding_network(section["neuron"], section["activation_function"], dt, self.dtype)
                for _ in range(n_types if self.one_side else n_types**2)
            ]
        )
        self.scale = 1.0 / (SCALE * sum(self.sel))
        self.register_buffer("sel_t", torch.tensor(self.sel, dtype=torch.float64))

    def randomise(self, seed: int | None) -> None:
        for k, network in enumerate(self.networks):
            network.randomise(stream(seed, "embedding", k))

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and an empty rotation [n_centers, 0, 3]."""
        types_i, types_j = types[:n_centers], types[neighbors]
        rows = self.rows(vectors, types_i[centers], types_j).to(self.dtype)
        empty_rows = self.empty_rows().to(self.dtype).unsqueeze(1)
        d = torch.zeros(n_centers, self.width, dtype=self.dtype, device=vectors.device)
        for k, network in enumerate(self.networks):
            if self.one_side:
                t_j, own = k, torch.ones_like(types_i, dtype=torch.bool)
            else:
                t_j, own = k // self.n_types, types_i == k % self.n_types
            pairs = torch.nonzero((types_j == t_j) & own[centers]).flatten()
            used = torch.zeros(n_centers, dtype=torch.float64, device=vectors.device)
            used = used.index_add(0, centers[pairs], torch.ones_like(pairs, dtype=torch.float64))
            empty = ((self.sel_t[t_j] - used) * own.to(torch.float64)).to(self.dtype)
            d = d + sum_to(network(rows[pairs]), centers[pairs], n_centers)
            d = d + empty.unsqueeze(1) * network(empty_rows)[types_i]
        return self.of_sums(d.unsqueeze(1))

    def of_sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the sums over all slots [n_centers, 1, width]."""
        return t[:, 0] * self.scale, torch.zeros(t.shape[0], 0, 3, dtype=self.dtype, device=t.device)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self, tuple)]

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        smooth = self.section["activation_function"].lower() in SMOOTH
        return NodeShape(rows=1, shared=self.one_side) if smooth else None

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], s: Tensor) -> Tensor:
        start = [t_j if self.one_side else t_i + t_j * self.n_types for t_j in types_j]
        return torch.stack([self.networks[k](s) for k in start]).unsqueeze(0)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        return {
            "@class": "Descriptor",
            "type": "se_r",
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "neuron": list(section["neuron"]),
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "set_davg_zero": self.set_davg_zero,
            "activation_function": section["activation_function"],
            "precision": "float64" if self.dtype == torch.float64 else "float32",
            "embeddings": write_networks(self.networks, 1 if self.one_side else 2, self.n_types, section),
            "env_mat": self.serialize_shape(),
            "exclude_types": self.exclude_types,
            "env_protection": self.protection,
            "@variables": self.serialize_statistics(),
            "type_map": self.type_map,
            "trainable": bool(section.get("trainable", True)),
            "type_one_side": self.one_side,
            "spin": None,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeE2R":
        keys = ("rcut", "rcut_smth", "sel", "neuron", "resnet_dt", "trainable", "type_one_side", "exclude_types",
                "env_protection", "set_davg_zero", "activation_function", "precision")  # fmt: skip
        section = {key: tree[key] for key in keys if key in tree}
        section["type_one_side"] = tree["embeddings"]["ndim"] == 1
        descriptor = cls(section, type_map)
        descriptor.load_statistics(tree["@variables"])
        descriptor.networks = read_networks(tree["embeddings"], len(descriptor.networks))
        return descriptor
