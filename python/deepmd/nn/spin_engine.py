"""The engine of models with spins: forces and magnetic forces by autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepmd.data.graph import Batch
from deepmd.errors import DataError
from deepmd.nn.plain import AnyEngine, Prediction


@dataclass
class SpinPrediction(Prediction):
    """A prediction with magnetic forces [n_atoms, 3] = -dE/dS, eV per Bohr magneton."""

    force_mag: Tensor | None = None


class SpinEngine(AnyEngine):
    """Same call as PlainEngine."""

    def __call__(self, batch: Batch, with_forces: bool = True, create_graph: bool = True) -> SpinPrediction:
        if not batch.found["spin"] and not self.model.spins_may_lack:
            raise DataError(f"{batch.origin}: there is no spin.npy, expected the spins of the atoms; add the file")
        inputs = self.inputs(batch)
        vectors = inputs.vectors.detach().requires_grad_(with_forces)
        spin = torch.from_numpy(batch.labels["spin"]).requires_grad_(with_forces)
        with self.fast(batch):
            atom_energy = self.model.atom_energy(*inputs.arguments(vectors), spin)
        energy = torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, inputs.frame, atom_energy)
        if not with_forces:
            return SpinPrediction(energy, atom_energy, None, None)
        of = [vectors, spin]
        g, by_spin = torch.autograd.grad(atom_energy.sum(), of, create_graph=create_graph, materialize_grads=True)
        forces, virial = self.forces(g, batch, inputs)
        return SpinPrediction(energy, atom_energy, forces, virial, None, -by_spin)
