"""The embedding networks on nodes: the fast way to energies, forces and their gradients in training.

An embedding network is a function of one scalar on a known interval, so it is evaluated on K Chebyshev nodes per step
instead of on every neighbour. With Gamma = DCT G(nodes), T_i = B_i Gamma / N_sel, where B_i depends on positions only;
forces follow from H = (dE/dT) Gamma^T by one sweep over the neighbours (cxx/src/kernels/node_basis.hpp). Everything
between Gamma and E is small and stays with autograd.

The interpolation error falls exponentially with K for smooth activation functions. `NodeEngine.error` measures it with
the current weights, and the trainer doubles K when it exceeds `TOLERANCE`. The plain path, EnergyModel.forward, is the
judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd import _kernels
from deepmd.data.graph import Batch
from deepmd.nn.activation import SMOOTH
from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.nodes_device import DeviceSweep

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5}
"""Largest interpolation error of an embedding, relative to the largest value on the interval."""
FIRST_N_NODES = 64
MAX_N_NODES = 512


@dataclass
class Prediction:
    """What the loss needs; every tensor carries a graph back to the parameters."""

    energy: Tensor  # [n_frames] eV
    atom_energy: Tensor  # [n_atoms] eV, in the order of the batch
    forces: Tensor | None  # [n_atoms, 3] eV/Angstrom
    virial: Tensor | None  # [n_frames, 3, 3] eV
    hessian: Tensor | None = None  # [n_frames, 3 n, 3 n] eV/Angstrom^2


class PairForces(torch.autograd.Function):
    """(forces, virial) = linear map of H, by the compiled sweep; its adjoint is compiled too."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, basis: Any, batch: Any) -> tuple[Tensor, Tensor]:
        ctx.basis, ctx.batch, ctx.shape = basis, batch, h.shape
        forces, virial = _kernels.node_forces(basis, batch, h.detach().numpy())
        return torch.from_numpy(forces), torch.from_numpy(virial)

    @staticmethod
    def backward(ctx: Any, d_forces: Tensor, d_virial: Tensor) -> tuple[Tensor, None, None]:
        d_h = _kernels.node_tangent(ctx.basis, ctx.batch, d_forces.numpy(), d_virial.numpy())
        return torch.from_numpy(d_h).reshape(ctx.shape), None, None


class NodeEngine:
    """Evaluates an EnergyModel on batches through its embedding on nodes.

    shortest: smallest pair distance (Angstrom) that the nodes have to cover; `cover` widens it when data ask for it.
    """

    def __init__(self, model: EnergyModel, shortest: float, n_nodes: int = FIRST_N_NODES):
        self.model = model
        self.shortest = shortest
        self.n_nodes = n_nodes
        self.device = torch.device("cpu")
        self.in_torch = False  # the sums over neighbours by torch: as on every other device
        self._prepare()

    def to(self, device: torch.device) -> None:
        """Moves the model and all that is computed; predictions are handed out on the CPU all the same."""
        self.model.to(device)
        self.device, self.in_torch = device, device.type != "cpu"
        self._prepare()

    @staticmethod
    def supports(model: EnergyModel) -> bool:
        """Interpolation on nodes needs one embedding of a scalar, and a smooth activation function."""
        descriptor = getattr(model, "descriptor", None)
        return (
            isinstance(descriptor, DescriptorSeE2A) and descriptor.section["activation_function"].lower() in SMOOTH
        )

    def state_dict(self) -> dict[str, Any]:
        return {"shortest": self.shortest, "n_nodes": self.n_nodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shortest, self.n_nodes = state["shortest"], state["n_nodes"]
        self._prepare()

    def refine(self) -> bool:
        """Doubles the number of nodes; False if there are as many as allowed."""
        if self.n_nodes >= MAX_N_NODES:
            return False
        self.n_nodes *= 2
        self._prepare()
        return True

    def _prepare(self) -> None:
        descriptor, k = self.model.descriptor, self.n_nodes
        n_types, dtype = descriptor.n_types, descriptor.dtype
        davg, dstd = descriptor.davg.cpu().numpy(), descriptor.dstd.cpu().numpy()
        raw = descriptor.raw_rows(torch.tensor([[self.shortest, 0.0, 0.0]], dtype=torch.float64))
        lo = -davg[:, 0] / dstd[:, 0]
        hi = (float(raw[0, 0]) - davg[:, 0]) / dstd[:, 0]
        if descriptor.one_side:
            lo, hi = np.full(n_types, lo.min()), np.full(n_types, hi.max())
        width = hi - lo
        lo, hi = lo - 1e-6 * width, hi + 1e-6 * width
        self.basis = _kernels.NodeBasis(
            {
                "rcut": descriptor.rcut,
                "rcut_smth": descriptor.rcut_smth,
                "protection": descriptor.protection,
                "n_types": n_types,
                "n_nodes": k,
                "davg": davg[:, 0].tolist(),
                "inv_std_r": (1.0 / dstd[:, 0]).tolist(),
                "inv_std_a": (1.0 / dstd[:, 1]).tolist(),
                "lo": np.repeat(lo, n_types).tolist(),
                "hi": np.repeat(hi, n_types).tolist(),
                "keep": descriptor.keep.cpu().numpy().ravel().tolist(),
                "sel": [float(s) for s in descriptor.sel],
            }
        )
        theta = (np.arange(k) + 0.5) * math.pi / k
        transform = (2.0 / k) * np.cos(np.arange(k)[:, None] * theta[None, :])
        transform[0] *= 0.5
        self._transform = torch.from_numpy(transform).to(self.device, dtype)
        self._nodes = [
            torch.from_numpy((np.cos(theta) + 1) / 2 * (h - low) + low).to(self.device, dtype)
            for low, h in zip(lo, hi, strict=True)
        ]
        self._interval = list(zip(lo, hi, strict=True))

    def network(self, t_i: int, t_j: int) -> Any:
        descriptor = self.model.descriptor
        return descriptor.networks[t_j if descriptor.one_side else t_i + t_j * descriptor.n_types]

    def coefficients(self, t_i: int, t_j: int) -> Tensor:
        """Gamma [K, M] of one embedding network."""
        return self._transform @ self.network(t_i, t_j)(self._nodes[t_i].unsqueeze(1))

    def _gamma(self, t_i: int, shared: dict[int, Tensor]) -> Tensor:
        """Coefficients for all neighbour types of a centre type, [n_types * K, M]."""
        n_types = self.model.n_types
        parts = []
        for t_j in range(n_types):
            key = t_j if self.model.descriptor.one_side else t_i + t_j * n_types
            if key not in shared:
                shared[key] = self.coefficients(t_i, t_j)
            parts.append(shared[key])
        return torch.cat(parts)

    @torch.no_grad()
    def error(self) -> float:
        """Largest interpolation error of the embeddings between the nodes, relative to their largest value."""
        worst, n_types = 0.0, self.model.n_types
        z = torch.linspace(-1.0, 1.0, 8 * self.n_nodes + 1, dtype=torch.float64, device=self.device)
        values = torch.cos(torch.arange(self.n_nodes, device=self.device)[None, :] * torch.arccos(z)[:, None])
        for t_i in range(1 if self.model.descriptor.one_side else n_types):
            low, high = self._interval[t_i]
            e = ((z + 1) / 2 * (high - low) + low).to(self._transform.dtype).unsqueeze(1)
            for t_j in range(n_types):
                exact = self.network(t_i, t_j)(e).to(torch.float64)
                scale = max(float(exact.abs().max()), 1e-12)
                difference = values @ self.coefficients(t_i, t_j).to(torch.float64) - exact
                worst = max(worst, float(difference.abs().max()) / scale)
        return worst

    def neighbor_sums(self, batch: Batch) -> tuple[Tensor, Any]:
        """B [n_atoms, 4, n_types * K] and the compiled view of the batch; widens the interval where needed."""
        if self.in_torch:
            sweep = self._sweep(batch)
            if sweep.n_outside:
                self._widen(batch)
                sweep = self._sweep(batch)
            return sweep.b, sweep
        view = _kernels.Batch(batch.first, batch.neighbor, batch.vectors, batch.types, batch.frame, batch.n_frames)
        b, outside = _kernels.node_sum(self.basis, view)
        if outside:
            self._widen(batch)
            b, _ = _kernels.node_sum(self.basis, view)
        return torch.from_numpy(b).reshape(len(batch.types), 4, -1), view

    def _widen(self, batch: Batch) -> None:
        shortest = float(np.sqrt((batch.vectors**2).sum(axis=1).min()))
        self.shortest = 0.98 * shortest
        self._prepare()

    def _sweep(self, batch: Batch) -> DeviceSweep:
        """The batch on the device; it stays there with the batch, whose frames are drawn again and again."""
        key = (self.device, self.n_nodes, self.shortest, id(self))
        if batch.resident is None or batch.resident[0] != key:
            ends = torch.tensor(self._interval, dtype=torch.float64, device=self.device)
            made = DeviceSweep(self.model.descriptor, batch, ends[:, 0], ends[:, 1], self.n_nodes)
            batch.resident = (key, made) if self._has_room() else None
            return made
        return batch.resident[1]

    def _has_room(self) -> bool:
        """Whether the device has memory to keep batches in, beside what a step needs."""
        if self.device.type != "cuda":
            return True
        free, all_of_it = torch.cuda.mem_get_info(self.device)
        return free > 0.25 * all_of_it

    def __call__(self, batch: Batch, with_forces: bool = True, create_graph: bool = True) -> Prediction:
        model, descriptor = self.model, self.model.descriptor
        b, view = self.neighbor_sums(batch)
        dtype = descriptor.dtype
        b = b.to(dtype)
        n_atoms, n_slots = len(batch.types), float(sum(descriptor.sel))
        bounds = np.searchsorted(batch.types, np.arange(model.n_types + 1))
        shared: dict[int, Tensor] = {}
        gammas, tensors, energies = [], [], []
        for t in range(model.n_types):
            own = slice(int(bounds[t]), int(bounds[t + 1]))
            gamma = self._gamma(t, shared)
            rows = (b[own].reshape(-1, b.shape[2]) @ gamma).reshape(-1, 4, descriptor.width) / n_slots
            if with_forces and not rows.requires_grad:
                rows.requires_grad_(True)  # nothing below the descriptor is trained
            d = torch.bmm(rows.transpose(1, 2), rows[:, :, : descriptor.axis]).flatten(1)  # also of no atoms at all
            energies.append(self._fit(d, t, batch, own))
            gammas.append(gamma)
            tensors.append(rows)
        atom_energy = torch.cat(energies)
        frame, of_atoms = torch.from_numpy(batch.frame.astype(np.int64)), atom_energy.to("cpu")
        energy = torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, frame, of_atoms)
        if not with_forces:
            return Prediction(energy, of_atoms, None, None)
        gradients = torch.autograd.grad(atom_energy.sum(), tensors, create_graph=create_graph)
        h = torch.cat([(g.reshape(-1, descriptor.width) @ gamma.T) for g, gamma in zip(gradients, gammas, strict=True)])
        h = (h / n_slots).to(torch.float64).reshape(n_atoms, 4, -1)
        forces, virial = view.forces(h) if self.in_torch else PairForces.apply(h, self.basis, view)
        return Prediction(energy, of_atoms, forces.to("cpu"), virial.to("cpu"))

    def _fit(self, d: Tensor, t: int, batch: Batch, own: slice) -> Tensor:
        """Atomic energies of the atoms of one type, bias and exclusions included."""
        model, fitting = self.model, self.model.fitting
        fparam = torch.from_numpy(batch.labels["fparam"][batch.frame[own]]).to(d.device) if fitting.dim_fparam else None
        aparam = torch.from_numpy(batch.labels["aparam"][own]).to(d.device) if fitting.dim_aparam else None
        energy = fitting.of_type(d, t, fparam, aparam) + model.out_bias[t]
        return energy * model.atom_keep[t]
