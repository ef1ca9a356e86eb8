"""Energies of open frames of which some atoms are not there: the atomic parameter is 1 for those that are, else 0.

Absent atoms are neighbours of nobody and have no energy; their positions do not matter.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deepmd.data.graph import Batch
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.model.facts import Facts


class MaskedEnergyModel(EnergyModel):
    """As EnergyModel; aparam [n_centers, 1] is needed, and frames are whole and open."""

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
        """Atomic energies [n_centers], bias included, zero for absent atoms."""
        assert aparam is not None, "this model needs to know which atoms are there (aparam)"
        assert n_centers == types.shape[0], "this model needs whole frames"
        there = aparam[:, 0] > 0.5
        kept = torch.nonzero(there[centers] & there[neighbors]).flatten()
        vectors, centers, neighbors = self.visible(vectors[kept], centers[kept], neighbors[kept], types)
        d, _ = self.descriptor(vectors, centers, neighbors, types, n_centers)
        energy = self.fitting(d, types, fparam, None) + self.out_bias[types]
        return energy * self.atom_keep[types] * there.to(torch.float64)

    @torch.jit.unused
    def facts(self) -> Facts:
        return replace(super().facts(), kind="masked", dim_aparam=1, output={"open": True})

    @torch.jit.unused
    def counted(self, batch: Batch) -> np.ndarray:
        """Which atoms of a batch count [n_atoms]."""
        return (batch.labels["aparam"][:, 0] > 0.5).astype(np.float64)
