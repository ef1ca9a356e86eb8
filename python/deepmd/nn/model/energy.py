"""The energy model: descriptor, fitting, bias; atomic energies and their derivatives by the pair vectors.

Source of the contract: the frozen module is called by the core with pair vectors, and the core assembles forces and
virial from the pair gradients, so periodicity, ghosts and units never enter here.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.fitting.energy import EnergyFitting
from deepmd.nn.layers import load_into, to_numpy


class EnergyModel(nn.Module):
    """Atomic energies [n_centers] (eV) and pair gradients [n_pairs, 3] (eV/Angstrom)."""

    n_types: Final[int]
    has_pair_exclusion: Final[bool]

    def __init__(self, section: dict[str, Any], descriptor: DescriptorSeE2A, fitting: EnergyFitting):
        super().__init__()
        self.section = section
        self.type_map = list(section["type_map"])
        self.n_types = len(self.type_map)
        self.descriptor = descriptor
        self.fitting = fitting
        self.pair_exclude_types = [list(pair) for pair in section.get("pair_exclude_types", [])]
        self.atom_exclude_types = list(section.get("atom_exclude_types", []))
        self.has_pair_exclusion = len(self.pair_exclude_types) > 0
        pair_keep = torch.ones(self.n_types, self.n_types, dtype=torch.bool)
        for a, b in self.pair_exclude_types:
            pair_keep[a, b] = pair_keep[b, a] = False
        atom_keep = torch.ones(self.n_types, dtype=torch.float64)
        for t in self.atom_exclude_types:
            atom_keep[t] = 0.0
        self.register_buffer("pair_keep", pair_keep)
        self.register_buffer("atom_keep", atom_keep)
        self.register_buffer("out_bias", torch.zeros(self.n_types, dtype=torch.float64))
        self.register_buffer("out_std", torch.ones(self.n_types, dtype=torch.float64))
        self.min_pair_distance: float | None = None

    def atom_energy(
        self,
        vectors: Tensor,
        centers: Tensor,
        types_j: Tensor,
        types_i: Tensor,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic energies [n_centers], bias included."""
        if self.has_pair_exclusion:
            kept = torch.nonzero(self.pair_keep[types_i[centers], types_j]).flatten()
            vectors, centers, types_j = vectors[kept], centers[kept], types_j[kept]
        d = self.descriptor(vectors, centers, types_j, types_i)
        energy = self.fitting(d, types_i, fparam, aparam) + self.out_bias[types_i]
        return energy * self.atom_keep[types_i]

    def forward(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """vectors [n_pairs, 3] shorter than the cutoff, centers and neighbors [n_pairs], types [n_all]."""
        if not vectors.requires_grad:
            vectors = vectors.detach().requires_grad_(True)
        energy = self.atom_energy(vectors, centers, types[neighbors], types[:n_centers], fparam, aparam)
        if not energy.requires_grad:  # nothing depends on the vectors: every centre is excluded, or there is none
            return {"atom_energy": energy, "pair_gradient": torch.zeros_like(vectors)}
        gradient = torch.autograd.grad([energy.sum()], [vectors], create_graph=self.training, allow_unused=True)[0]
        if gradient is None:
            gradient = torch.zeros_like(vectors)
        return {"atom_energy": energy, "pair_gradient": gradient}

    def serialize(self) -> dict[str, Any]:
        """The neutral tree of the model (without the file's header)."""
        return {
            "type_map": self.type_map,
            "atom_exclude_types": self.atom_exclude_types,
            "pair_exclude_types": self.pair_exclude_types,
            "rcond": self.section.get("rcond"),
            "preset_out_bias": self.section.get("preset_out_bias"),
            "@variables": {
                "out_bias": to_numpy(self.out_bias)[None, :, None],
                "out_std": to_numpy(self.out_std)[None, :, None],
            },
            "@class": "Model",
            "type": "standard",
            "@version": 2,
            "descriptor": self.descriptor.serialize(self.type_map),
            "fitting": self.fitting.serialize(self.type_map),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], section: dict[str, Any]) -> "EnergyModel":
        n_types = len(tree["type_map"])
        descriptor = DescriptorSeE2A.deserialize(tree["descriptor"], n_types)
        fitting = EnergyFitting.deserialize(tree["fitting"], n_types)
        keys = ("type_map", "atom_exclude_types", "pair_exclude_types", "rcond", "preset_out_bias")
        model = cls({**section, **{key: tree[key] for key in keys if key in tree}}, descriptor, fitting)
        bias = np.asarray(tree["@variables"]["out_bias"])
        if bias.size != n_types:
            raise ModelError(f"model/out_bias: got shape {bias.shape}, expected one energy for each of {n_types} types")
        load_into(model.out_bias, bias)
        load_into(model.out_std, tree["@variables"]["out_std"])
        return model
