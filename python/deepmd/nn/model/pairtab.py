"""The pair table as a model: E_i = 1/2 sum_j V(r_ij) from tabulated energies, zero from the cutoff on."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.layers import to_numpy
from deepmd.nn.model.energy import Potential
from deepmd.nn.model.facts import Facts
from deepmd.nn.model.parts import common_tree, load_common, register_common
from deepmd.nn.model.table import Table, read_table


class PairTableModel(Potential):
    """Atomic energies [n_centers] (eV) of a table; there is nothing to train."""

    n_types: Final[int]

    def __init__(self, section: dict[str, Any], table: Table):
        super().__init__()
        self.section = section
        self.type_map = list(section["type_map"])
        self.n_types = len(self.type_map)
        self.rcut = float(section["rcut"])
        sel = section.get("sel") or 1
        self.sel = int(sum(sel)) if isinstance(sel, list) else int(sel)
        self.start, self.step, self.n_pieces = table.start, table.step, table.n_pieces
        self.register_buffer("values", torch.from_numpy(table.values), persistent=False)
        self.register_buffer("coefficients", torch.from_numpy(table.coefficients.reshape(-1, 4)))
        register_common(self)
        self.min_pair_distance: float | None = None

    @classmethod
    def build(cls, section: dict[str, Any]) -> "PairTableModel":
        """From an input section with tab_file, rcut and sel."""
        section["tab_file"] = str(Path(section["tab_file"]).resolve())  # checkpoints are read from other folders too
        return cls(section, read_table(section["tab_file"], float(section["rcut"]), len(section["type_map"])))

    def atom_energy(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic energies [n_centers], bias included."""
        types_i = types[:n_centers]
        energy = self.out_bias[types_i].index_add(0, centers, 0.5 * self.of_pairs(vectors, centers, neighbors, types))
        return energy * self.atom_keep[types_i]

    def of_pairs(self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor) -> Tensor:
        """Energy of each pair [n_pairs]; below the table its first piece goes on."""
        r = torch.linalg.vector_norm(vectors, dim=1)
        x = (r - self.start) / self.step
        piece = torch.clamp(torch.floor(x.detach()).to(torch.long), 0, self.n_pieces - 1)
        u = x - piece.to(x.dtype)
        pair = types[centers] * self.n_types + types[neighbors]
        c = self.coefficients[pair * self.n_pieces + piece]
        value = ((c[:, 0] * u + c[:, 1]) * u + c[:, 2]) * u + c[:, 3]
        inside = (r < self.rcut) & (x < float(self.n_pieces)) & self.pair_keep[types[centers], types[neighbors]]
        return torch.where(inside, value, torch.zeros_like(value))

    @torch.jit.unused
    def facts(self) -> Facts:
        return Facts("energy", self.rcut, self.rcut, [self.sel])

    @torch.jit.unused
    def seen_pairs(self) -> np.ndarray:
        return self.pair_keep.numpy()

    @torch.jit.unused
    def descriptors(self) -> list[nn.Module]:
        return []

    @torch.jit.unused
    def fittings(self) -> list[nn.Module]:
        return []

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        info = np.array([self.start, self.step, float(self.n_pieces), float(self.n_types)])
        table = {
            "@class": "PairTab",
            "@version": 1,
            "rmin": self.start,
            "rmax": float(self.values[-1, 0]),
            "hh": self.step,
            "ntypes": self.n_types,
            "rcut": self.rcut,
            "nspline": self.n_pieces,
            "@variables": {
                "vdata": to_numpy(self.values),
                "tab_info": info,
                "tab_data": to_numpy(self.coefficients).reshape(-1),
            },
        }
        return {**common_tree(self), "type": "pairtab", "tab": table, "rcut": self.rcut, "sel": self.sel}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], section: dict[str, Any]) -> "PairTableModel":
        del section  # the tree holds everything
        tab = tree["tab"]
        variables, n = tab["@variables"], int(tab["ntypes"])
        coefficients = np.asarray(variables["tab_data"], dtype=np.float64).reshape(n, n, -1, 4)
        keys = ("type_map", "pair_exclude_types", "atom_exclude_types", "rcond", "preset_out_bias", "rcut", "sel")
        values = np.array(variables["vdata"], dtype=np.float64)
        model = cls({"type": "pairtab", **{key: tree[key] for key in keys if key in tree}}, Table(values, coefficients))
        load_common(model, tree)
        return model
