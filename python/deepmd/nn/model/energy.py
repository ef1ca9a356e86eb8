"""Models of the potential energy: atomic energies and their derivatives by the pair vectors.

Source of the contract: the frozen module is called by the core with pair vectors, and the core assembles forces and
virial from the pair gradients, so periodicity, ghosts and units never enter here.
"""

import torch
from torch import Tensor, nn

from deepmd.nn.model.standard import StandardModel


class Potential(nn.Module):
    """`forward` of every model that has `atom_energy`, called with the same arguments."""

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
        """vectors [n_pairs, 3] shorter than the cutoff, centers and neighbors [n_pairs], types [n_all].

        Returns atom_energy [n_centers] (eV, bias included) and pair_gradient [n_pairs, 3] = d(sum E)/d(vector).
        """
        if not vectors.requires_grad:
            vectors = vectors.detach().requires_grad_(True)
        energy = self.atom_energy(vectors, centers, neighbors, types, n_centers, fparam, aparam)
        if not energy.requires_grad:  # nothing depends on the vectors: every centre is excluded, or there is none
            return {"atom_energy": energy, "pair_gradient": torch.zeros_like(vectors)}
        gradient = torch.autograd.grad([energy.sum()], [vectors], create_graph=self.training, allow_unused=True)[0]
        if gradient is None:
            gradient = torch.zeros_like(vectors)
        return {"atom_energy": energy, "pair_gradient": gradient}


class EnergyModel(StandardModel, Potential):
    """Atomic energies [n_centers] (eV) and pair gradients [n_pairs, 3] (eV/Angstrom)."""

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
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        types_i = types[:n_centers]
        d, _ = self.descriptor(vectors, centers, neighbors, types, n_centers)
        energy = self.fitting(d, types_i, fparam, aparam) + self.out_bias[types_i]
        return energy * self.atom_keep[types_i]
