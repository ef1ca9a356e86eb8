"""Engines: from a batch to what the loss needs, by autograd. Plain ones go through every neighbour, for any model, and
are the judge of those that evaluate embedding networks on nodes (`deepmd.nn.nodes`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd import _kernels
from deepmd.data.graph import Batch


@dataclass
class Prediction:
    """What the loss needs; every tensor carries a graph back to the parameters."""

    energy: Tensor  # [n_frames] eV
    atom_energy: Tensor  # [n_atoms] eV, in the order of the batch
    forces: Tensor | None  # [n_atoms, 3] eV/Angstrom
    virial: Tensor | None  # [n_frames, 3, 3] eV
    hessian: Tensor | None = None  # [n_frames, 3 n, 3 n] eV/Angstrom^2


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
        return vectors, self.centers, self.neighbors, self.types, len(self.frame), self.fparam, self.aparam

    def of_types(self, kinds: list[int]) -> tuple[Inputs, Tensor]:
        """The same for centres of some types only, which stand before all atoms then, and which atoms these are."""
        chosen = torch.isin(self.types, torch.tensor(kinds))
        index = torch.nonzero(chosen).flatten()
        kept = torch.nonzero(chosen[self.centers]).flatten()
        return Inputs(
            self.vectors[kept],
            (torch.cumsum(chosen, 0) - 1)[self.centers[kept]],
            self.neighbors[kept] + len(index),
            torch.cat([self.types[index], self.types]),
            self.frame[index],
            None if self.fparam is None else self.fparam[index],
            None if self.aparam is None else self.aparam[index],
        ), index

    @property
    def n_bytes(self) -> int:
        return sum(x.nbytes for x in vars(self).values() if x is not None)


def recalled(batch: Batch, key: Any, make: Callable[[], Any]) -> Any:
    """What is kept of a batch under a key, made where it is not; the value knows its `n_bytes`."""
    found = batch.memory.get(key)
    if found is None:
        found = make()
        batch.memory.put(key, found, found.n_bytes)
    return found


class AnyEngine:
    """What all engines share. nodes: a `deepmd.nn.nodes.Nodes` of the model, or None for the plain path."""

    def __init__(self, model: Any, nodes: Any = None):
        self.model = model
        self.nodes = nodes
        facts = model.facts()
        self.dims = (facts.dim_fparam, facts.dim_aparam)
        self.reduce = facts.output.get("reduce", "sum")

    def fast(self, batch: Batch) -> AbstractContextManager:
        """Within it the model runs on its nodes, if there are any."""
        return nullcontext() if self.nodes is None else self.nodes.of(batch.memory)

    def inputs(self, batch: Batch) -> Inputs:
        """The batch as arguments; not to be changed, as they are kept."""
        return recalled(batch, ("inputs", self.dims), lambda: Inputs.of(batch, *self.dims))

    def forces(self, g: Tensor, batch: Batch, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Forces and virial of pair gradients; compiled where only the parameters are differentiated."""
        if self.nodes is None:
            return forces_of(g, batch, inputs)
        ends = _kernels.Ends(batch.first, batch.neighbor, batch.vectors, batch.frame, batch.n_frames)
        return PairForces.apply(g, ends)

    def differentiate(self, loss: Any, batch: Any, lr: float, parameters: list[Tensor]) -> tuple[float, dict[str, Any]]:
        """The loss of a batch and its reported errors; puts its gradient into the parameters."""
        for parameter in parameters:
            parameter.grad = None
        total, report = loss(self(batch, with_forces=loss.needs_forces), batch, lr)
        if total.requires_grad and math.isfinite(float(total.detach())):
            total.backward()
        return float(total.detach()), report

    def settle(self) -> None:
        """Fits the nodes to the present weights."""
        if self.nodes is not None:
            self.nodes.settle()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.nodes is None else self.nodes.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.nodes is not None:
            self.nodes.load_state_dict(state)


class PairForces(torch.autograd.Function):
    """(forces [n_atoms, 3], virial [n_frames, 3, 3]) of pair gradients g [n_pairs, 3]; linear, as is its adjoint."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, ends: Any) -> tuple[Tensor, Tensor]:
        ctx.ends = ends
        forces, virial = _kernels.pair_forces(ends, g.detach().numpy())
        return torch.from_numpy(forces), torch.from_numpy(virial)

    @staticmethod
    def backward(ctx: Any, d_forces: Tensor, d_virial: Tensor) -> tuple[Tensor, None]:
        d_g = _kernels.pair_forces_adjoint(ctx.ends, d_forces.numpy(), d_virial.numpy())
        return torch.from_numpy(d_g), None


def forces_of(g: Tensor, batch: Batch, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Forces [n_atoms, 3] and virial [n_frames, 3, 3] of pair gradients [n_pairs, 3] by torch alone."""
    forces = torch.zeros(len(batch.types), 3, dtype=torch.float64)
    forces = forces.index_add(0, inputs.centers, g).index_add(0, inputs.neighbors, -g)
    pair_virial = -(g.unsqueeze(2) * inputs.vectors.unsqueeze(1))
    virial = torch.zeros(batch.n_frames, 3, 3, dtype=torch.float64)
    return forces, virial.index_add(0, inputs.frame[inputs.centers], pair_virial)


class PlainEngine(AnyEngine):
    """Energies and forces; with `hessian` also second derivatives, which nodes do not have."""

    def __init__(self, model: Any, hessian: bool = False, nodes: Any = None):
        super().__init__(model, None if hessian else nodes)
        self.hessian = hessian

    def energies(self, inputs: Inputs, vectors: Tensor) -> Tensor:
        """Atomic energies [n_atoms] of all frames of a batch."""
        return self.model.atom_energy(*inputs.arguments(vectors))

    def __call__(self, batch: Batch, with_forces: bool = True, create_graph: bool = True) -> Prediction:
        inputs = self.inputs(batch)
        frame, centers, neighbors = inputs.frame, inputs.centers, inputs.neighbors
        vectors = inputs.vectors.detach().requires_grad_(with_forces)
        moved = None
        if with_forces and self.hessian:  # displacements of the atoms, so that second derivatives are theirs
            moved = torch.zeros(len(batch.types), 3, dtype=torch.float64, requires_grad=True)
            vectors = inputs.vectors + moved[neighbors] - moved[centers]
        keep = create_graph or self.hessian
        with self.fast(batch):
            atom_energy = self.energies(inputs, vectors)
        energy = torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, frame, atom_energy)
        if not with_forces:
            return Prediction(energy, atom_energy, None, None)
        # Zeros where nothing depends on the vectors, as in a frame of lonely atoms.
        g = torch.autograd.grad(atom_energy.sum(), vectors, create_graph=keep, materialize_grads=True)[0]
        forces, virial = self.forces(g, batch, inputs)
        second = None if moved is None else hessian(forces, moved, frame, batch.n_frames, create_graph)
        return Prediction(energy, atom_energy, forces, virial, second)


class FrameEngine(PlainEngine):
    """PlainEngine for models whose atoms depend on others of their frame beyond any cutoff."""

    def energies(self, inputs: Inputs, vectors: Tensor) -> Tensor:
        return self.model.energy_of_frames(
            vectors, inputs.centers, inputs.neighbors, inputs.types, inputs.aparam, inputs.frame
        )


def hessian(forces: Tensor, moved: Tensor, frame: Tensor, n_frames: int, create_graph: bool) -> Tensor:
    """-dF/dr [n_frames, 3 n, 3 n] for frames of equal size: one backward pass for each row of all frames at once."""
    order = torch.argsort(frame, stable=True)  # atoms by frame, in the order of the frame's own batch
    n = len(order) // n_frames
    if not forces.requires_grad:  # no pair in any frame
        return torch.zeros(n_frames, 3 * n, 3 * n, dtype=torch.float64)
    place = order.reshape(n_frames, n)
    rows = []
    for i in range(n):
        for a in range(3):
            row = torch.autograd.grad(-forces[place[:, i], a].sum(), moved, None, True, create_graph)[0]
            rows.append(row[place].reshape(n_frames, 3 * n))
    return torch.stack(rows, dim=1)


class OutputEngine(AnyEngine):
    """Predictions of models of other kinds than energy.

    Where outputs of some types are zero by definition (`sel_type`), only centres of the others are gone through.
    """

    def __init__(self, model: Any, nodes: Any = None):
        super().__init__(model, nodes)
        facts = model.facts()
        selected = facts.output.get("sel_type")
        every = selected is None or len(selected) == len(model.type_map)
        self.selected = None if every or facts.passes_messages or facts.output.get("open") else selected
        self.others = [t for t in range(len(model.type_map)) if t not in (self.selected or [])]

    def leaves_out(self) -> bool:
        """Whether outputs of other types are zero, their bias included."""
        return self.selected is not None and not bool(self.model.out_bias[self.others].any())

    def __call__(self, batch: Batch, with_forces: bool = False, create_graph: bool = True) -> Output:
        inputs, index = self.inputs(batch), None
        if self.leaves_out():
            key = ("selected", self.dims, *self.selected)
            part = recalled(batch, key, lambda: Selected(*inputs.of_types(self.selected)))
            if len(part.index) > 0:
                inputs, index = part.inputs, part.index
        with self.fast(batch), torch.set_grad_enabled(create_graph):
            atomic = self.model.atom_output(*inputs.arguments(inputs.vectors))
            total = torch.zeros(batch.n_frames, atomic.shape[1], dtype=torch.float64).index_add(0, inputs.frame, atomic)
            if self.reduce == "mean":
                total = total / torch.from_numpy(batch.atoms_per_frame).unsqueeze(1)
            if index is not None:
                atomic = torch.zeros(batch.n_atoms, atomic.shape[1], dtype=torch.float64).index_copy(0, index, atomic)
        return Output(total, atomic)


@dataclass
class Selected:
    """Centres of some types and which atoms of the batch they are."""

    inputs: Inputs
    index: Tensor

    @property
    def n_bytes(self) -> int:
        return self.inputs.n_bytes + self.index.nbytes
