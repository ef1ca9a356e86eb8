"""The two-body-embedding descriptor with radial and angular information, se_e2_a.

    T_i = (1/N_sel) [ sum_j G(s_ij) (x) R_ij + sum_t (sel_t - n_it) G_t(s_0) (x) R_0 ],   D_i = T_i (T_i[:axis])^T

The sum runs over the real neighbours only. Slots that hold no neighbour contribute the constant row
R_0 = (-davg/dstd, 0, 0, 0), added in closed form. This equals the padded definition while n_it <= sel_t and continues
it smoothly beyond: a neighbour at the cutoff has exactly the row R_0.
Source: Zhang et al., NeurIPS 2018; phantoms as in the padded implementations of the family.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.activation import SMOOTH
from deepmd.nn.layers import PRECISIONS, embedding_network, stream
from deepmd.nn.ragged import contract, invariants
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import read_networks, write_networks


class DescriptorSeE2A(Environment):
    """Descriptor [n_centers, neuron[-1] * axis_neuron] from pair vectors; see the package for the contract."""

    axis: Final[int]
    width: Final[int]
    one_side: Final[bool]
    mixed_types = False
    passes_messages = False

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        n_types = len(type_map)
        super().__init__(section, n_types, sum(section["sel"]))
        self.section = dict(section)
        self.type_map = list(type_map)
        self.axis = int(section["axis_neuron"])
        self.width = int(section["neuron"][-1])
        self.dim_out = self.width * self.axis
        self.dim_rotation = self.width
        self.one_side = bool(section.get("type_one_side", False))
        self.sel = [int(n) for n in section["sel"]]
        self.dtype = PRECISIONS[section.get("precision", "default")]
        n_networks = n_types if self.one_side else n_types**2
        arguments = (
            section["neuron"],
            section["activation_function"],
            bool(section.get("resnet_dt", False)),
            self.dtype,
        )
        self.networks = nn.ModuleList([embedding_network(*arguments) for _ in range(n_networks)])
        self.register_buffer("sel_t", torch.tensor(self.sel, dtype=torch.float64))

    def randomise(self, seed: int | None) -> None:
        for k, network in enumerate(self.networks):
            network.randomise(stream(seed, "embedding", k))
        self.clear_excluded()

    def clear_excluded(self) -> None:
        """Networks of excluded pairs are zero: they carry no phantom either (two-sided networks only)."""
        if self.one_side:
            return
        with torch.no_grad():
            for k, network in enumerate(self.networks):
                if float(self.keep[k % self.n_types, k // self.n_types]) == 0.0:
                    for parameter in network.parameters():
                        parameter.zero_()
                        parameter.requires_grad_(False)

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, width, 3]; pairs sorted by centre."""
        types_i, types_j = types[:n_centers], types[neighbors]
        types_c = types_i[centers]
        rows = self.rows(vectors, types_c, types_j).to(self.dtype)
        counts = torch.zeros(n_centers * self.n_types, dtype=torch.float64, device=vectors.device)
        counts = counts.index_add(0, centers * self.n_types + types_j, torch.ones_like(types_j, dtype=torch.float64))
        empty = self.sel_t - counts.reshape(n_centers, self.n_types)  # number of slots without neighbour
        phantom_row = self.empty_rows().to(self.dtype)
        t = torch.zeros(n_centers, 4, self.width, dtype=self.dtype, device=vectors.device)
        radial_sum = torch.zeros(n_centers, self.width, dtype=self.dtype, device=vectors.device)
        for k, network in enumerate(self.networks):
            if self.one_side:
                pairs = torch.nonzero(types_j == k).flatten()
                slots = empty[:, k]
            else:
                own = types_i == k % self.n_types
                pairs = torch.nonzero((types_j == k // self.n_types) & own[centers]).flatten()
                slots = empty[:, k // self.n_types] * own.to(empty.dtype)
            t = t + contract(rows[pairs], network(rows[pairs, :1]), centers[pairs], n_centers)
            phantoms = network(phantom_row.unsqueeze(1)) * phantom_row.unsqueeze(1)  # [n_types, width]
            radial_sum = radial_sum + slots.to(self.dtype).unsqueeze(1) * phantoms[types_i]
        first = t[:, :1] + radial_sum.unsqueeze(1)
        return self.of_sums(torch.cat([first, t[:, 1:]], dim=1))

    def of_sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the sums over all slots [n_centers, 4, width]."""
        return invariants(t / float(self.n_slots), self.axis)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self, tuple)]

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        return NodeShape(shared=self.one_side) if self.section["activation_function"].lower() in SMOOTH else None

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], s: Tensor) -> Tensor:
        start = [t_j if self.one_side else t_i + t_j * self.n_types for t_j in types_j]
        return torch.stack([self.networks[k](s) for k in start]).unsqueeze(0)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        trainable = bool(section.get("trainable", True))
        return {
            "@class": "Descriptor",
            "type": "se_e2_a",
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "neuron": list(section["neuron"]),
            "axis_neuron": self.axis,
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "trainable": trainable,
            "type_one_side": self.one_side,
            "exclude_types": self.exclude_types,
            "env_protection": self.protection,
            "set_davg_zero": self.set_davg_zero,
            "activation_function": section["activation_function"],
            "precision": "float64" if self.dtype == torch.float64 else "float32",
            "spin": None,
            "env_mat": self.serialize_shape(),
            "embeddings": write_networks(self.networks, 1 if self.one_side else 2, self.n_types, section),
            "@variables": self.serialize_statistics(),
            "type_map": self.type_map,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeE2A":
        keys = ("rcut", "rcut_smth", "sel", "neuron", "axis_neuron", "resnet_dt", "trainable", "type_one_side",
                "exclude_types", "env_protection", "set_davg_zero", "activation_function", "precision")  # fmt: skip
        descriptor = cls({key: tree[key] for key in keys if key in tree}, type_map)
        descriptor.load_statistics(tree["@variables"])
        descriptor.networks = read_networks(tree["embeddings"], len(descriptor.networks))
        return descriptor
