"""The plain engine: EnergyModel.forward on batches, for embeddings that cannot be interpolated, and as the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deepmd.data.graph import Batch
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.nodes import Prediction


class PlainEngine:
    """Same call as NodeEngine, by autograd through every neighbour."""

    def __init__(self, model: EnergyModel):
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state

    def error(self) -> float:
        return 0.0

    def __call__(self, batch: Batch, with_forces: bool = True, create_graph: bool = True) -> Prediction:
        model, fitting = self.model, self.model.fitting
        vectors = torch.from_numpy(batch.vectors).requires_grad_(with_forces)
        centers = torch.from_numpy(batch.centers)
        neighbors = torch.from_numpy(batch.neighbor.astype(np.int64))
        types = torch.from_numpy(batch.types.astype(np.int64))
        frame = torch.from_numpy(batch.frame.astype(np.int64))
        fparam = torch.from_numpy(batch.labels["fparam"][batch.frame]) if fitting.dim_fparam else None
        aparam = torch.from_numpy(batch.labels["aparam"]) if fitting.dim_aparam else None
        atom_energy = model.atom_energy(vectors, centers, neighbors, types, len(types), fparam, aparam)
        energy = torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, frame, atom_energy)
        if not with_forces:
            return Prediction(energy, atom_energy, None, None)
        g = torch.autograd.grad(atom_energy.sum(), vectors, create_graph=create_graph)[0]
        forces = torch.zeros(len(types), 3, dtype=torch.float64).index_add(0, centers, g).index_add(0, neighbors, -g)
        pair_virial = -(g.unsqueeze(2) * vectors.unsqueeze(1))
        virial = torch.zeros(batch.n_frames, 3, 3, dtype=torch.float64).index_add(0, frame[centers], pair_virial)
        return Prediction(energy, atom_energy, forces, virial)
