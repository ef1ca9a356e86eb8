"""The sums over neighbours of `deepmd.nn.nodes` in torch, for models on a GPU.

What depends on positions only (rows, their derivatives, the sums B) is computed once for each batch and stays on the
device, since frames do not move.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepmd.data.graph import Batch

EDGE = 1e-9  # of the interval: beyond, a pair lies outside


class DeviceSweep:
    """One batch on a device, for K nodes on the intervals lo, hi [n_types] (by the type of the centre)."""

    def __init__(self, descriptor: Any, batch: Batch, lo: Tensor, hi: Tensor, n_nodes: int):
        device = lo.device
        self.n_types, self.n_nodes, self.n_frames = descriptor.n_types, n_nodes, batch.n_frames
        self.n_atoms = len(batch.types)
        self.centers = torch.from_numpy(batch.centers).to(device)
        self.neighbors = torch.from_numpy(batch.neighbor).to(device, torch.int64)
        self.frame = torch.from_numpy(batch.frame).to(device, torch.int64)
        types = torch.from_numpy(batch.types).to(device, torch.int64)
        self.t_j = types[self.neighbors]
        t_i = types[self.centers]
        self.vectors = torch.from_numpy(batch.vectors).to(device)
        moved = self.vectors.clone().requires_grad_(True)
        with torch.enable_grad():
            rows = descriptor.rows(moved, t_i, self.t_j)
            slopes = [torch.autograd.grad(rows[:, a].sum(), moved, retain_graph=a < 3)[0] for a in range(4)]
        self.rows, self.slopes = rows.detach(), torch.stack(slopes, dim=1)  # [n_pairs, 4], [n_pairs, 4, 3]
        scale = 2.0 / (hi - lo)
        z = (self.rows[:, 0] - lo[t_i]) * scale[t_i] - 1.0
        kept = descriptor.keep[t_i, self.t_j] != 0
        self.n_outside = int((kept & (z.abs() > 1.0 + EDGE)).sum())
        self.z = torch.where(kept, z, torch.zeros_like(z))
        self.d_z = self.slopes[:, 0] * scale[t_i].unsqueeze(1)  # [n_pairs, 3]
        self.b = self._sums(descriptor, types, lo, scale)

    def _values(self, z: Tensor) -> Tensor:
        """T_q(z), [n, K]."""
        angle = torch.arccos(z.clamp(-1.0, 1.0))
        return torch.cos(angle.unsqueeze(1) * self._orders(z))

    def _derivatives(self, z: Tensor) -> Tensor:
        """T_q'(z) = q sin(q a) / sin(a) with z = cos(a), [n, K]."""
        angle = torch.arccos(z.clamp(-1.0, 1.0))
        sine = torch.sqrt(((1.0 - z) * (1.0 + z)).clamp_min(1e-12))
        orders = self._orders(z)
        return orders * torch.sin(angle.unsqueeze(1) * orders) / sine.unsqueeze(1)

    def _orders(self, z: Tensor) -> Tensor:
        return torch.arange(self.n_nodes, dtype=torch.float64, device=z.device)

    def _sums(self, descriptor: Any, types: Tensor, lo: Tensor, scale: Tensor) -> Tensor:
        """B [n_atoms, 4, n_types * K], empty slots included."""
        place = self.centers * self.n_types + self.t_j
        terms = self.rows.unsqueeze(2) * self._values(self.z).unsqueeze(1)
        b = torch.zeros(self.n_atoms * self.n_types, 4, self.n_nodes, dtype=torch.float64, device=lo.device)
        b = b.index_add(0, place, terms).reshape(self.n_atoms, self.n_types, 4, self.n_nodes)
        counts = torch.bincount(place, minlength=self.n_atoms * self.n_types).reshape(self.n_atoms, self.n_types)
        slots = torch.tensor([float(s) for s in descriptor.sel], dtype=torch.float64, device=lo.device)
        row0 = descriptor.empty_rows()[types]
        empty = self._values((row0 - lo[types]) * scale[types] - 1.0)
        b[:, :, 0] += ((slots - counts) * row0.unsqueeze(1)).unsqueeze(2) * empty.unsqueeze(1)
        return b.transpose(1, 2).reshape(self.n_atoms, 4, -1)

    def forces(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Forces [n_atoms, 3] and virial [n_frames, 3, 3] from H [n_atoms, 4, n_types * K]; linear in H."""
        by_type = h.reshape(self.n_atoms, 4, self.n_types, self.n_nodes)
        own = by_type[self.centers, :, self.t_j]  # [n_pairs, 4, K]
        sums = torch.bmm(own, self._values(self.z).unsqueeze(2)).squeeze(2)
        along = (torch.bmm(own, self._derivatives(self.z).unsqueeze(2)).squeeze(2) * self.rows).sum(dim=1)
        g = (sums.unsqueeze(2) * self.slopes).sum(dim=1) + along.unsqueeze(1) * self.d_z
        forces = torch.zeros(self.n_atoms, 3, dtype=torch.float64, device=h.device)
        forces = forces.index_add(0, self.centers, g).index_add(0, self.neighbors, -g)
        virial = torch.zeros(self.n_frames, 3, 3, dtype=torch.float64, device=h.device)
        return forces, virial.index_add(0, self.frame[self.centers], -(g.unsqueeze(2) * self.vectors.unsqueeze(1)))
