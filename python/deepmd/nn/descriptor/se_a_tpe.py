"""se_e2_a with one embedding net for all types and a vector for each type, se_a_tpe.

    G_j[m] = 1/C sum_k L(N(s_ij))[m, k] P[t_i, t_j, k]
    P = A_{t_j} (one-sided, C = c numbers) or A_{t_i} (x) A_{t_j} (C = c^2)

L is a linear layer to M C numbers, A the output of a small net of the unit vector of the type. T and D follow as in
se_e2_a, empty slots of a type included.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from deepmd.nn.activation import SMOOTH
from deepmd.nn.layers import PRECISIONS, Dense, embedding_network, stream
from deepmd.nn.ragged import contract, invariants
from deepmd.nn.rows import Environment, NodeShape
from deepmd.nn.tree import precision_of, read_network, write_network


class DescriptorSeATpe(Environment):
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
        n = int(section.get("type_nchanl", 4))
        self.n_channels = n if self.one_side else n * n
        options = (section["activation_function"], bool(section.get("resnet_dt", False)), self.dtype)
        self.network = embedding_network(section["neuron"], *options)
        self.types = embedding_network([n] * int(section.get("type_nlayer", 2)), *options, n_in=n_types)
        self.outer = Dense((self.width, self.width * self.n_channels), "none", False, False, self.dtype)
        self.register_buffer("unit", torch.eye(n_types, dtype=self.dtype), persistent=False)
        self.register_buffer("sel_t", torch.tensor(self.sel, dtype=torch.float64))

    def randomise(self, seed: int | None) -> None:
        self.network.randomise(stream(seed, "embedding", 0))
        self.types.randomise(stream(seed, "types", 0))
        self.outer.randomise(np.random.default_rng(stream(seed, "layers", 0)))

    def couplings(self) -> Tensor:
        """P [n_types of the centre, n_types of the neighbour, n_channels]."""
        vectors = self.types(self.unit)
        if self.one_side:
            return vectors.unsqueeze(0).expand(self.n_types, self.n_types, self.n_channels)
        return torch.einsum("ac,bd->abcd", vectors, vectors).reshape(self.n_types, self.n_types, self.n_channels)

    def channels(self, s: Tensor) -> Tensor:
        """L(N(s)) / C for s [n, 1], [n, width, n_channels]."""
        return self.outer(self.network(s)).reshape(-1, self.width, self.n_channels) / float(self.n_channels)

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, width, 3]; pairs sorted by centre."""
        types_i, types_j = types[:n_centers], types[neighbors]
        types_c = types_i[centers]
        rows = self.rows(vectors, types_c, types_j).to(self.dtype)
        counts = torch.zeros(n_centers * self.n_types, dtype=torch.float64, device=vectors.device)
        counts = counts.index_add(0, centers * self.n_types + types_j, torch.ones_like(types_j, dtype=torch.float64))
        empty = self.sel_t - counts.reshape(n_centers, self.n_types)  # slots without neighbour
        couplings = self.couplings()
        g = torch.bmm(self.channels(rows[:, :1]), couplings[types_c, types_j].unsqueeze(2)).squeeze(2)
        phantom = self.empty_rows().to(self.dtype)  # by type of the centre
        of_slots = torch.einsum("amk,abk->abm", self.channels(phantom.unsqueeze(1)), couplings)
        of_slots = of_slots * phantom.reshape(-1, 1, 1)
        radial = torch.bmm(empty.to(self.dtype).unsqueeze(1), of_slots[types_i])  # [n_centers, 1, width]
        t = contract(rows, g, centers, n_centers)
        return self.of_sums(torch.cat([t[:, :1] + radial, t[:, 1:]], dim=1))

    def of_sums(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the sums over all slots [n_centers, 4, width]."""
        return invariants(t / float(self.sel_t.sum()), self.axis)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self, tuple)]

    @torch.jit.unused
    def node_shape(self) -> NodeShape | None:
        return NodeShape(shared=self.one_side) if self.section["activation_function"].lower() in SMOOTH else None

    @torch.jit.unused
    def node_values(self, t_i: int, types_j: list[int], s: Tensor) -> Tensor:
        return torch.einsum("nmk,bk->bnm", self.channels(s), self.couplings()[t_i, types_j]).unsqueeze(0)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        return {
            "@class": "Descriptor",
            "type": "se_a_tpe",
            "@version": 1,
            **{key: section[key] for key in ("neuron", "activation_function")},
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "axis_neuron": self.axis,
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "trainable": bool(section.get("trainable", True)),
            "type_one_side": self.one_side,
            "type_nchanl": int(section.get("type_nchanl", 4)),
            "type_nlayer": len(self.types.layers),
            "exclude_types": self.exclude_types,
            "env_protection": self.protection,
            "set_davg_zero": self.set_davg_zero,
            "precision": precision_of(self.network),
            "env_mat": self.serialize_shape(),
            "embedding": write_network(self.network, section),
            "type_embedding": write_network(self.types, section),
            "outer": self.outer.serialize(bool(section.get("trainable", True))),
            "@variables": self.serialize_statistics(),
            "type_map": self.type_map,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeATpe":
        descriptor = cls({key: value for key, value in tree.items() if not isinstance(value, dict)}, type_map)
        descriptor.load_statistics(tree["@variables"])
        descriptor.network, descriptor.types = read_network(tree["embedding"]), read_network(tree["type_embedding"])
        descriptor.outer = Dense.deserialize(tree["outer"])
        return descriptor
