"""Engines that go through every neighbour by autograd: for any model, and as the judge of the fast one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd.data.graph import Batch
from deepmd.nn.nodes import Prediction


@dataclass
class Output:
    """What the losses of outputs other than the energy need; both tensors carry a graph back to the parameters."""

    total: Tensor  # [n_frames, width]
    atomic: Tensor  # [n_atoms, width], in the order of the batch


@dataclass
class Inputs:
    """A batch as the arguments of a model."""

    vectors: Tensor
    centers: Tensor
    neighbors: Tensor
    types: Tensor
    frame: Tensor
    fparam: Tensor | None
    aparam: Tensor | None

    @classmethod
    def of(cls, batch: Batch, dim_fparam: int, dim_aparam: int) -> Inputs:
        return cls(
            torch.from_numpy(batch.vectors),
            torch.from_numpy(batch.centers),
            torch.from_numpy(batch.neighbor.astype(np.int64)),
            torch.from_numpy(batch.types.astype(np.int64)),
            torch.from_numpy(batch.frame.astype(np.int64)),
            torch.from_numpy(batch.labels["fparam"][batch.frame]) if dim_fparam else None,
            torch.from_numpy(batch.labels["aparam"]) if dim_aparam else None,
        )

    def arguments(self, vectors: Tensor) -> tuple[Any, ...]:
        """Of `atom_energy` and `atom_output`."""
        return vectors, self.centers, self.neighbors, self.types, len(self.types), self.fparam, self.aparam


class AnyEngine:
    """What engines without a state of their own share."""

    def __init__(self, model: Any):
        self.model = model
        facts = model.facts()
        self.dims = (facts.dim_fparam, facts.dim_aparam)
        self.reduce = facts.output.get("reduce", "sum")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state

    def error(self) -> float:
        return 0.0


class PlainEngine(AnyEngine):
    """Same call as NodeEngine, by autograd through every neighbour; with `hessian` also second derivatives."""

    def __init__(self, model: Any, hessian: bool = False):
        super().__init__(model)
        self.hessian = hessian

    def __call__(self, batch: Batch, with_forces: bool = True, create_graph: bool = True) -> Prediction:
        inputs = Inputs.of(batch, *self.dims)
        frame, centers, neighbors = inputs.frame, inputs.centers, inputs.neighbors
        vectors = inputs.vectors.requires_grad_(with_forces)
        moved = None
        if with_forces and self.hessian:  # displacements of the atoms, so that second derivatives are theirs
            moved = torch.zeros(len(batch.types), 3, dtype=torch.float64, requires_grad=True)
            vectors = inputs.vectors + moved[neighbors] - moved[centers]
        atom_energy = self.model.atom_energy(*inputs.arguments(vectors))
        energy = torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, frame, atom_energy)
        if not with_forces:
            return Prediction(energy, atom_energy, None, None)
        keep = create_graph or self.hessian
        # Zeros where nothing depends on the vectors, as in a frame of lonely atoms.
        g = torch.autograd.grad(atom_energy.sum(), vectors, create_graph=keep, materialize_grads=True)[0]
        forces = torch.zeros(len(batch.types), 3, dtype=torch.float64)
        forces = forces.index_add(0, centers, g).index_add(0, neighbors, -g)
        pair_virial = -(g.unsqueeze(2) * vectors.unsqueeze(1))
        virial = torch.zeros(batch.n_frames, 3, 3, dtype=torch.float64).index_add(0, frame[centers], pair_virial)
        second = None if moved is None else hessian(forces, moved, frame, batch.n_frames, create_graph)
        return Prediction(energy, atom_energy, forces, virial, second)


def hessian(forces: Tensor, moved: Tensor, frame: Tensor, n_frames: int, create_graph: bool) -> Tensor:
    """-dF/dr [n_frames, 3 n, 3 n] for frames of equal size: one backward pass for each row of all frames at once."""
    order = torch.argsort(frame, stable=True)  # atoms by frame, in the order of the frame's own batch
    n = len(order) // n_frames
    place = order.reshape(n_frames, n)
    rows = []
    for i in range(n):
        for a in range(3):
            row = torch.autograd.grad(-forces[place[:, i], a].sum(), moved, None, True, create_graph)[0]
            rows.append(row[place].reshape(n_frames, 3 * n))
    return torch.stack(rows, dim=1)


class OutputEngine(AnyEngine):
    """Predictions of models of other kinds than energy."""

    def __call__(self, batch: Batch, with_forces: bool = False, create_graph: bool = True) -> Output:
        inputs = Inputs.of(batch, *self.dims)
        with torch.set_grad_enabled(create_graph):
            atomic = self.model.atom_output(*inputs.arguments(inputs.vectors))
            total = torch.zeros(batch.n_frames, atomic.shape[1], dtype=torch.float64).index_add(0, inputs.frame, atomic)
            if self.reduce == "mean":
                total = total / torch.from_numpy(batch.atoms_per_frame).unsqueeze(1)
        return Output(total, atomic)
