"""The two-body-embedding descriptor with radial and angular information, se_e2_a.

    T_i = (1/N_sel) [ sum_j G(s_ij) (x) R_ij + sum_t (sel_t - n_it) G_t(s_0) (x) R_0 ],   D_i = T_i (T_i[:axis])^T

The sum runs over the real neighbours only. Slots that hold no neighbour contribute the constant row
R_0 = (-davg/dstd, 0, 0, 0), added in closed form. This equals the padded definition while n_it <= sel_t and continues
it smoothly beyond: a neighbour at the cutoff has exactly the row R_0.
Source: Zhang et al., NeurIPS 2018; phantoms as in the padded implementations of the family.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.layers import PRECISIONS, Dense, Network, embedding_network, load_into, stream
from deepmd.nn.rows import environment_rows

ROW_WIDTH: Final = 4  # s, x, y, z


def contract(rows: Tensor, g: Tensor, centers: Tensor, n_centers: int) -> Tensor:
    """sum_j R_j (x) G_j for each centre, [n_centers, 4, width]; rows [n, 4], g [n, width], pairs sorted by centre.

    The pairs are laid out on [n_centers, largest number of pairs of a centre] so that the sum is one batched product.
    """
    n = rows.shape[0]
    counts = torch.zeros(n_centers, dtype=torch.long, device=rows.device)
    counts = counts.index_add(0, centers, torch.ones_like(centers))
    n_slots = int(counts.max()) if n > 0 else 0
    slot = torch.arange(n, device=rows.device) - (torch.cumsum(counts, 0) - counts)[centers]
    place = centers * n_slots + slot
    r = torch.zeros(n_centers * n_slots, 4, dtype=rows.dtype, device=rows.device).index_copy(0, place, rows)
    e = torch.zeros(n_centers * n_slots, g.shape[1], dtype=g.dtype, device=g.device).index_copy(0, place, g)
    return torch.bmm(r.reshape(n_centers, n_slots, 4).transpose(1, 2), e.reshape(n_centers, n_slots, g.shape[1]))


class DescriptorSeE2A(nn.Module):
    """Descriptor [n_centers, neuron[-1] * axis_neuron] from pair vectors."""

    rcut: Final[float]
    rcut_smth: Final[float]
    protection: Final[float]
    n_types: Final[int]
    axis: Final[int]
    width: Final[int]
    one_side: Final[bool]

    def __init__(self, section: dict[str, Any], n_types: int):
        super().__init__()
        self.section = dict(section)
        self.rcut = float(section["rcut"])
        self.rcut_smth = float(section["rcut_smth"])
        self.protection = float(section.get("env_protection", 0.0))
        self.n_types = n_types
        self.axis = int(section["axis_neuron"])
        self.width = int(section["neuron"][-1])
        self.one_side = bool(section.get("type_one_side", False))
        self.sel = [int(n) for n in section["sel"]]
        self.dtype = PRECISIONS[section.get("precision", "default")]
        self.set_davg_zero = bool(section.get("set_davg_zero", False))
        n_networks = n_types if self.one_side else n_types**2
        arguments = (
            section["neuron"],
            section["activation_function"],
            bool(section.get("resnet_dt", False)),
            self.dtype,
        )
        self.networks = nn.ModuleList([embedding_network(*arguments) for _ in range(n_networks)])
        keep = np.ones((n_types, n_types))
        for a, b in section.get("exclude_types", []):
            keep[a, b] = keep[b, a] = 0.0
        self.register_buffer("keep", torch.from_numpy(keep))  # [n_types, n_types]
        self.register_buffer("sel_t", torch.tensor(self.sel, dtype=torch.float64))
        self.register_buffer("davg", torch.zeros(n_types, ROW_WIDTH, dtype=torch.float64))
        self.register_buffer("dstd", torch.ones(n_types, ROW_WIDTH, dtype=torch.float64))

    @property
    def dim_out(self) -> int:
        return self.width * self.axis

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

    def raw_rows(self, vectors: Tensor) -> Tensor:
        """Rows before normalisation [n_pairs, 4], as the statistics need them."""
        return environment_rows(vectors, self.rcut, self.rcut_smth, self.protection)

    def forward(self, vectors: Tensor, centers: Tensor, types_j: Tensor, types_i: Tensor) -> Tensor:
        """vectors [n_pairs, 3], centers [n_pairs], types_j [n_pairs] of the neighbours, types_i [n_centers]."""
        n_centers = types_i.shape[0]
        types_c = types_i[centers]
        rows = (self.raw_rows(vectors) - self.davg[types_c]) / self.dstd[types_c]
        rows = (rows * self.keep[types_c, types_j].unsqueeze(1)).to(self.dtype)
        counts = torch.zeros(n_centers * self.n_types, dtype=torch.float64, device=vectors.device)
        counts = counts.index_add(0, centers * self.n_types + types_j, torch.ones_like(types_j, dtype=torch.float64))
        empty = self.sel_t - counts.reshape(n_centers, self.n_types)  # number of slots without neighbour
        phantom_row = (-self.davg[:, 0] / self.dstd[:, 0]).to(self.dtype)  # [n_types] of the centre
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
        t = torch.cat([first, t[:, 1:]], dim=1) / float(self.sel_t.sum())
        d = torch.bmm(t.transpose(1, 2), t[:, :, : self.axis])
        return d.reshape(n_centers, self.width * self.axis)

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        section, n_slots = self.section, sum(self.sel)
        trainable = bool(section.get("trainable", True))
        precision = "float64" if self.dtype == torch.float64 else "float32"
        shared = {
            "activation_function": section["activation_function"],
            "resnet_dt": bool(section.get("resnet_dt", False)),
        }
        networks = [
            {
                "@class": "EmbeddingNetwork",
                "@version": 2,
                "in_dim": 1,
                "neuron": list(section["neuron"]),
                **shared,
                "bias": True,
                "precision": precision,
                "layers": network.serialize_layers([trainable] * len(section["neuron"])),
            }
            for network in self.networks
        ]

        def slots(table: Tensor) -> np.ndarray:
            return np.repeat(table.detach().cpu().numpy()[:, None, :], n_slots, axis=1)

        return {
            "@class": "Descriptor",
            "type": "se_e2_a",
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "neuron": list(section["neuron"]),
            "axis_neuron": self.axis,
            "resnet_dt": shared["resnet_dt"],
            "trainable": trainable,
            "type_one_side": self.one_side,
            "exclude_types": [list(pair) for pair in section.get("exclude_types", [])],
            "env_protection": self.protection,
            "set_davg_zero": self.set_davg_zero,
            "activation_function": shared["activation_function"],
            "precision": precision,
            "spin": None,
            "env_mat": {
                "rcut": self.rcut,
                "rcut_smth": self.rcut_smth,
                "protection": self.protection,
                "use_exp_switch": False,
            },
            "embeddings": {
                "@class": "NetworkCollection",
                "@version": 1,
                "ndim": 1 if self.one_side else 2,
                "ntypes": self.n_types,
                "network_type": "embedding_network",
                "networks": networks,
            },
            "@variables": {"davg": slots(self.davg), "dstd": slots(self.dstd)},
            "type_map": list(type_map),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "DescriptorSeE2A":
        keys = ("rcut", "rcut_smth", "sel", "neuron", "axis_neuron", "resnet_dt", "trainable", "type_one_side",
                "exclude_types", "env_protection", "set_davg_zero", "activation_function", "precision")  # fmt: skip
        descriptor = cls({key: tree[key] for key in keys if key in tree}, n_types)
        for name, buffer in (("davg", descriptor.davg), ("dstd", descriptor.dstd)):
            table = np.asarray(tree["@variables"][name])
            if not np.array_equal(table, np.broadcast_to(table[:, :1], table.shape)):
                raise ModelError(f"descriptor {name}: got values that differ between slots, expected one row per type")
            load_into(buffer, table[:, 0])
        networks = tree["embeddings"]["networks"]
        if len(networks) != len(descriptor.networks):
            raise ModelError(f"descriptor: got {len(networks)} networks, expected {len(descriptor.networks)}")
        descriptor.networks = nn.ModuleList(
            [Network([Dense.deserialize(layer) for layer in network["layers"]]) for network in networks]
        )
        return descriptor
