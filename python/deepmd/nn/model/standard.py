"""What descriptor-and-fitting models share: their parts, exclusions, output bias and neutral tree."""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.descriptor import read_descriptor
from deepmd.nn.fitting import FITTINGS
from deepmd.nn.layers import load_into, to_numpy
from deepmd.nn.model.facts import Facts

TREE_KEYS = ("type_map", "atom_exclude_types", "pair_exclude_types", "rcond", "preset_out_bias")


class StandardModel(nn.Module):
    """Descriptor, fitting and a bias for each type. Subclasses say what `forward` returns."""

    n_types: Final[int]
    has_pair_exclusion: Final[bool]

    def __init__(self, section: dict[str, Any], descriptor: nn.Module, fitting: nn.Module):
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
        shape = (self.n_types,) if fitting.kind == "energy" else (self.n_types, fitting.width)
        self.register_buffer("out_bias", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("out_std", torch.ones(shape, dtype=torch.float64))
        self.min_pair_distance: float | None = None

    def visible(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs that the model sees: vectors, centers, neighbors."""
        if self.has_pair_exclusion:
            kept = torch.nonzero(self.pair_keep[types[centers], types[neighbors]]).flatten()
            return vectors[kept], centers[kept], neighbors[kept]
        return vectors, centers, neighbors

    @torch.jit.unused
    def facts(self) -> Facts:
        """What callers need to know beside `forward`."""
        descriptor, fitting = self.descriptor, self.fitting
        return Facts(
            kind=fitting.kind,
            rcut=float(descriptor.rcut),
            rcut_smth=float(descriptor.rcut_smth),
            sel=[int(n) for n in descriptor.sel],
            dim_fparam=fitting.dim_fparam,
            dim_aparam=fitting.dim_aparam,
            default_fparam=fitting.section.get("default_fparam"),
            precision="float64" if descriptor.dtype == torch.float64 else "float32",
            passes_messages=descriptor.passes_messages,
            receptive_field=float(descriptor.receptive_field if descriptor.passes_messages else descriptor.rcut),
        )

    @torch.jit.unused
    def seen_pairs(self) -> np.ndarray:
        """Which pairs of types are neighbours of each other for this model [n_types, n_types] bool."""
        return self.pair_keep.numpy()

    @torch.jit.unused
    def fittings(self) -> list[nn.Module]:
        """All fittings in the model, for the statistics of their parameters."""
        return [self.fitting]

    @torch.jit.unused
    def descriptors(self) -> list[nn.Module]:
        """All descriptors in the model, for the statistics of their rows."""
        return [self.descriptor]

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        """The neutral tree of the model (without the file's header)."""
        shape = (1, self.n_types, -1)
        return {
            "type_map": self.type_map,
            "atom_exclude_types": self.atom_exclude_types,
            "pair_exclude_types": self.pair_exclude_types,
            "rcond": self.section.get("rcond"),
            "preset_out_bias": self.section.get("preset_out_bias"),
            "@variables": {
                "out_bias": to_numpy(self.out_bias).reshape(shape),
                "out_std": to_numpy(self.out_std).reshape(shape),
            },
            "@class": "Model",
            "type": "standard",
            "@version": 2,
            "descriptor": self.descriptor.serialize(),
            "fitting": self.fitting.serialize(self.type_map),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], section: dict[str, Any]) -> "StandardModel":
        n_types = len(tree["type_map"])
        descriptor = read_descriptor(tree["descriptor"], list(tree["type_map"]))
        fitting = FITTINGS[tree["fitting"]["type"]].deserialize(tree["fitting"], n_types)
        model = cls({**section, **{key: tree[key] for key in TREE_KEYS if key in tree}}, descriptor, fitting)
        bias = np.asarray(tree["@variables"]["out_bias"])
        if bias.size != model.out_bias.numel():
            width = model.out_bias.numel() // n_types
            raise ModelError(
                f"model/out_bias: got shape {bias.shape}, expected {width} numbers for each of {n_types} types"
            )
        load_into(model.out_bias, bias)
        load_into(model.out_std, tree["@variables"]["out_std"])
        return model
