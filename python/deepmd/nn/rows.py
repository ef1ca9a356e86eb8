"""Environment rows: what an atom knows of one neighbour.

With r = |r_j - r_i|, u = (r - rs) / (rc - rs) and the switch
    w(r) = 1 (r < rs),  u^3 (-6 u^2 + 15 u - 10) + 1 (rs <= r < rc),  0 (r >= rc),
or, where an input asks for it, the exponential switch below, the row is [s, s x/(r+p), s y/(r+p), s z/(r+p)] with
s = w / (r + p) and the protection p (normally 0).
Source: Zhang et al., NeurIPS 2018 (DeepPot-SE), with the fifth-order switch of its implementations.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.layers import load_into


def switch(r: Tensor, rcut: float, rcut_smth: float) -> Tensor:
    """w(r); r [n] in Angstrom."""
    u = torch.clamp((r - rcut_smth) / (rcut - rcut_smth), 0.0, 1.0)
    return u * u * u * (u * (15.0 - 6.0 * u) - 10.0) + 1.0


def exponential_switch(r: Tensor, rcut_smth: float) -> Tensor:
    """exp(-exp(20 (r - rs) / rs)), which is 1 well within rs and nothing at usual cutoffs."""
    return torch.exp(-torch.exp((20.0 / rcut_smth) * (r - rcut_smth)))


def pair_keep(pairs: list[list[int]], n_types: int) -> Tensor:
    """1 for pairs of types that see each other, 0 for the excluded ones, [n_types, n_types]."""
    keep = np.ones((n_types, n_types))
    for a, b in pairs:
        keep[a, b] = keep[b, a] = 0.0
    return torch.from_numpy(keep)


@dataclass(frozen=True)
class NodeShape:
    """How a sum over neighbours is evaluated on nodes (`deepmd.nn.nodes`)."""

    rows: int = 4  # 4: the network is multiplied by the environment row; 1: by nothing
    switched: bool = False  # whether there is a second network that is multiplied by the switch too
    pooled: bool = False  # empty slots are counted together and have the type 0
    shared: bool = False  # whether the networks are the same for all types of the centre
    couples: bool = False  # whether the sum runs over couples of neighbours


class Environment(nn.Module):
    """Rows of the pairs of one cutoff, normalised by centre type: (raw - davg) / dstd, zero for excluded pairs.

    section: rcut, rcut_smth, and where they differ from the defaults env_protection, exclude_types, set_davg_zero.
    n_slots: over how many slots an average runs, the total of `sel`. width: 4 (s, x, y, z) or 1 (s alone).
    """

    def __init__(self, section: dict[str, Any], n_types: int, n_slots: int, width: int = 4):
        super().__init__()
        self.rcut = float(section["rcut"])
        self.rcut_smth = float(section["rcut_smth"])
        self.protection = float(section.get("env_protection", 0.0))
        self.exclude_types = [[int(t) for t in pair] for pair in section.get("exclude_types") or []]
        self.set_davg_zero = bool(section.get("set_davg_zero", False))
        self.exponential = bool(section.get("use_exp_switch", False))
        self.n_types = n_types
        self.n_slots = n_slots
        self.row_width = width
        self.register_buffer("keep", pair_keep(self.exclude_types, n_types))  # [n_types, n_types]
        self.register_buffer("davg", torch.zeros(n_types, width, dtype=torch.float64))
        self.register_buffer("dstd", torch.ones(n_types, width, dtype=torch.float64))

    def raw_rows(self, vectors: Tensor) -> Tensor:
        """Rows before normalisation [n_pairs, width], as the statistics need them."""
        r = torch.linalg.vector_norm(vectors, dim=1)
        shifted = r + self.protection
        s = self.switch_of(r) / shifted
        return torch.cat([s.unsqueeze(1), vectors * (s / shifted).unsqueeze(1)], dim=1)[:, : self.row_width]

    def switch_of(self, r: Tensor) -> Tensor:
        """The switch w at distances r [n_pairs]."""
        return exponential_switch(r, self.rcut_smth) if self.exponential else switch(r, self.rcut, self.rcut_smth)

    def weights(self, vectors: Tensor) -> Tensor:
        """The switch w of each pair [n_pairs]."""
        return self.switch_of(torch.linalg.vector_norm(vectors, dim=1))

    def rows(self, vectors: Tensor, types_c: Tensor, types_j: Tensor) -> Tensor:
        """Normalised rows [n_pairs, width]; types_c and types_j [n_pairs] of the centres and of the neighbours."""
        normal = (self.raw_rows(vectors) - self.davg[types_c]) / self.dstd[types_c]
        return normal * self.keep[types_c, types_j].unsqueeze(1)

    def empty_rows(self) -> Tensor:
        """The radial entry of a slot that holds no neighbour, [n_types] by type of the centre; its angles are 0."""
        return -self.davg[:, 0] / self.dstd[:, 0]

    @torch.jit.unused
    def environments(self) -> list["Environment"]:
        """What the statistics of the input have to fill."""
        return [self]

    @torch.jit.unused
    def serialize_statistics(self) -> dict[str, np.ndarray]:
        """davg and dstd as files hold them: one row for each slot."""
        tables = {"davg": self.davg, "dstd": self.dstd}
        return {name: np.repeat(t.detach().cpu().numpy()[:, None, :], self.n_slots, 1) for name, t in tables.items()}

    @torch.jit.unused
    def serialize_shape(self) -> dict[str, Any]:
        """The entry env_mat of a neutral tree."""
        lengths = {"rcut": self.rcut, "rcut_smth": self.rcut_smth, "protection": self.protection}
        return {**lengths, "use_exp_switch": False}

    @torch.jit.unused
    def load_statistics(self, variables: dict[str, Any]) -> None:
        """Takes davg and dstd of a neutral tree."""
        for name, buffer in (("davg", self.davg), ("dstd", self.dstd)):
            table = np.asarray(variables[name])
            if not np.array_equal(table, np.broadcast_to(table[:, :1], table.shape)):
                raise ModelError(f"descriptor {name}: got values that differ between slots, expected one row per type")
            load_into(buffer, table[:, 0])
