"""Energies and forces of frames that stay on a device (`deepmd.nn.resident_frames`): a step without host work.

B, the sums over neighbours on nodes (see `deepmd.nn.nodes`), lies there, and for each slot the place z = cos(angle) and
slopes. With H = dE/dB a pair's gradient is

    g_b = sum_x (P_x slope_xb + Q_x slope'_xb),   P_x = sum_q H[x, q] cos(q angle),  Q_x = sum_q H[x, q] q sin(q angle),

and a force is the sum of an atom's own pairs less those in which it is the neighbour, gathered in a fixed order. All is
made of torch's operations on tensors of fixed shapes, so that it runs on any device, and a GPU can record the step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deepmd.nn.descriptor.se_atten import DescriptorSeAtten
from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.descriptor.se_e2_r import DescriptorSeE2R
from deepmd.nn.nodes import OnNodes
from deepmd.nn.plain import AnyEngine, Prediction
from deepmd.nn.resident_frames import Loaded, ResidentBatch, refuse_sharp
from deepmd.nn.resident_networks import Plan, energies, serves

MOST_TYPES = 8  # of a model with a type embedding, whose columns are those of all types here


class PairGradients(torch.autograd.Function):
    """g [f, N, S, 3] of H [f, N, rows, n_columns]: linear, and so is its adjoint.

    angle [f, N, S], slopes [f, N, S, 2 x, 3]; slots: where those of each type begin; columns: groups, types, nodes.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, angle: Tensor, slopes: Tensor, slots: tuple[int, ...], columns: tuple[int, int, int]
    ) -> Tensor:
        q = torch.arange(columns[2], dtype=angle.dtype, device=angle.device)
        angles = angle.unsqueeze(-1) * q
        tables = torch.cos(angles), angles.sin_()  # [f, N, S, K]; the factor q goes to the fewer numbers of H
        ctx.save_for_backward(*tables, slopes, q)
        ctx.slots, ctx.columns, ctx.shape = slots, columns, h.shape
        own = h.unflatten(-1, columns)  # [f, N, rows, groups, types, K]
        sums = angle.new_empty(*slopes.shape[:-1])
        x = slopes.shape[3] // 2
        for k, (table, factors) in enumerate(zip(tables, (own, own * q), strict=True)):
            for t, (begin, end) in enumerate(zip(slots[:-1], slots[1:], strict=True)):
                of_type = factors[..., t, :].flatten(2, 3).transpose(2, 3)  # [f, N, K, x]
                sums[:, :, begin:end, k * x : (k + 1) * x] = table[:, :, begin:end] @ of_type
        return (sums.unsqueeze(-1) * slopes).sum(dim=3)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines, slopes, q = ctx.saved_tensors
        d_sums = (d.unsqueeze(3) * slopes).sum(dim=4)  # [f, N, S, 2 x]
        x, parts = d_sums.shape[3] // 2, []
        for begin, end in zip(ctx.slots[:-1], ctx.slots[1:], strict=True):
            first, second = (d_sums[:, :, begin:end, k : k + x].transpose(2, 3) for k in (0, x))
            parts.append(torch.addcmul(first @ cosines[:, :, begin:end], second @ sines[:, :, begin:end], q))
        d_h = torch.stack(parts, dim=3).unflatten(2, (ctx.shape[2], ctx.columns[0]))  # [f, N, rows, groups, types, K]
        return d_h.reshape(ctx.shape), None, None, None, None


class Forces(torch.autograd.Function):
    """Forces [f, N, 3] of g [f, N, S, 3]: an atom's own slots less those in which it is the neighbour [f, N D]."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, received: Tensor, neighbor: Tensor) -> Tensor:
        ctx.save_for_backward(neighbor)
        n_frames, n = g.shape[:2]
        taken = torch.gather(g.reshape(n_frames, -1, 3), 1, received.unsqueeze(2).expand(-1, -1, 3))
        return g.sum(dim=2) - taken.reshape(n_frames, n, -1, 3).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        (neighbor,) = ctx.saved_tensors
        index = neighbor.flatten(1).unsqueeze(2).expand(-1, -1, 3)
        return d.unsqueeze(2) - torch.gather(d, 1, index).reshape(*neighbor.shape, 3), None, None


class ResidentEngine(AnyEngine):
    """Energies and forces of batches of a ResidentCache. nodes: of the model, where it is now."""

    def __init__(self, model: Any, nodes: Any):
        super().__init__(model, nodes)
        self.parts: list[OnNodes] = nodes.parts
        self.device = model.out_bias.device
        self.written_out = serves(model, self.parts)
        self._plans: dict[Any, Plan] = {}
        self._stacks: dict[Any, Any] = {}

    def plan_of(self, frames: Loaded) -> Plan:
        """Made anew for other nodes, which the shape knows."""
        key = (frames.shape, frames.present, frames.n_frames)
        if key not in self._plans:
            if any(old[0].nodes != frames.shape.nodes for old in self._plans):
                self._plans.clear()
            self._plans[key] = Plan(self.model, self.parts[0], frames, self._stacks)
        return self._plans[key]

    def __call__(
        self,
        batch: ResidentBatch | Loaded,
        with_forces: bool = True,
        create_graph: bool = True,
        with_virial: bool = True,
    ) -> Prediction:
        frames = batch if isinstance(batch, Loaded) else batch.loaded
        if self.written_out:
            with torch.set_grad_enabled(create_graph):
                atom_energy, h = energies(self.plan_of(frames), frames)
                forces, virial = self.forces_of(frames, (h,), with_virial)
            return Prediction(atom_energy.sum(dim=1), atom_energy.flatten(), forces.flatten(0, 1), virial)
        sums = [frames.tensors[f"{k}/sums"].detach().requires_grad_(with_forces) for k in range(len(self.parts))]
        with torch.set_grad_enabled(create_graph or with_forces):
            atom_energy = self.energies(frames, sums)
            energy = atom_energy.sum(dim=1)
            if not with_forces:
                return Prediction(energy, atom_energy.flatten(), None, None)
            slopes = torch.autograd.grad(
                atom_energy.sum(), sums, create_graph=create_graph, materialize_grads=True, allow_unused=True
            )
            forces, virial = self.forces_of(frames, slopes, with_virial)
        return Prediction(energy, atom_energy.flatten(), forces.flatten(0, 1), virial)

    def forces_of(
        self, frames: Loaded, slopes: tuple[Tensor, ...], with_virial: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Forces [f, N, 3] and virial [f, 3, 3] of dE/dB of every part."""
        forces, virial = [], []
        for k, (part, h) in enumerate(zip(self.parts, slopes, strict=True)):
            angle, own, vectors, neighbor, received = (
                frames.tensors[f"{k}/{name}"] for name in ("angle", "slopes", "vectors", "neighbor", "received")
            )
            columns = (2 if part.shape.switched else 1, len(part.module.davg), part.n_nodes)
            g = PairGradients.apply(h, angle, own, frames.shape.slots[k], columns)
            forces.append(Forces.apply(g, received, neighbor))
            if with_virial:
                virial.append(-torch.matmul(g.transpose(2, 3), vectors).sum(dim=1))
        return sum(forces[1:], forces[0]), sum(virial[1:], virial[0]) if with_virial else None

    def energies(self, frames: Loaded, sums: list[Tensor]) -> Tensor:
        """Atomic energies [f, N], 0 for atoms that are not there."""
        model, n_frames = self.model, frames.n_frames
        types_j = list(range(model.n_types))
        extras = [part.extra() for part in self.parts]
        shared = [part.coefficients(0, types_j, extra).flatten(0, 2) if part.shape.shared else None
                  for part, extra in zip(self.parts, extras, strict=True)]  # fmt: skip
        found = {}
        for t, begin, end in frames.blocks():
            descriptors = []
            for part, extra, b, gamma in zip(self.parts, extras, sums, shared, strict=True):
                if gamma is None:
                    gamma = part.coefficients(t, types_j, extra).flatten(0, 2)
                own = b[:, begin:end].to(part.module.dtype).flatten(0, 1)
                descriptors.append(part.module.of_sums(own @ gamma)[0])
            d = joined(model.descriptor, iter(descriptors), iter(extras), t)
            e = model.fitting.of_one_type(d, t, *self.parameters_of(frames, begin, end)).flatten()
            found[t] = ((e * model.fitting.keep[t] + model.out_bias[t]) * model.atom_keep[t]).reshape(n_frames, -1)
        mask, like = frames.tensors["mask"], next(iter(found.values()))
        blocks = [found[t] if t in found else like.new_zeros(n_frames, n)
                  for t, n in enumerate(frames.shape.counts) if n]  # fmt: skip
        blocks.append(like.new_zeros(n_frames, 1))
        return torch.cat(blocks, dim=1) * mask

    def parameters_of(self, frames: Loaded, begin: int, end: int) -> list[Tensor | None]:
        """fparam and aparam of some atoms of each frame, [f n, dim]."""
        found: list[Tensor | None] = [None, None]
        if self.dims[0]:
            one = frames.tensors["label/fparam"].reshape(frames.n_frames, 1, -1)
            found[0] = one.expand(-1, end - begin, -1).flatten(0, 1)
        if self.dims[1]:
            every = frames.tensors["label/aparam"].reshape(frames.n_frames, -1, self.dims[1])
            found[1] = every[:, begin:end].flatten(0, 1)
        return found

    def loss_of(self, loss: Any, frames: Loaded, lr: float | Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The loss and its reported errors. Waits for nothing."""
        prediction = self(frames, with_forces=loss.needs_forces, with_virial="v" in loss.terms)
        return loss.tensors(prediction, frames, lr)

    def differentiate(
        self, loss: Any, batch: ResidentBatch, lr: float, parameters: list[Tensor]
    ) -> tuple[float, dict[str, Any]]:
        for parameter in parameters:
            parameter.grad = None
        total, report = self.loss_of(loss, batch.loaded, lr)
        if total.requires_grad and math.isfinite(float(total.detach())):
            total.backward()
        return float(total.detach()), {k: float(value) for k, value in report.items()}

    def settle(self) -> None:
        super().settle()
        for part in self.parts:
            refuse_sharp(part)

    def basis_key(self) -> tuple[Any, ...]:
        """Equal where the nodes are the same."""
        return tuple(part.basis_key() for part in self.parts)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:  # a plain training keeps nothing here; then the nodes stay those of the data
            super().load_state_dict(state)


def joined(descriptor: Any, found: Any, extras: Any, t: int) -> Tensor:
    """The descriptor of atoms of type t from those of its parts, which stand in the order of `node_parts`."""
    if hasattr(descriptor, "parts"):
        pieces = [joined(part, found, extras, t).to(descriptor.dtype) for part in descriptor.parts]
        return torch.cat(pieces, dim=1)
    d, extra = next(found), next(extras)
    if getattr(descriptor, "joins_types", False):
        return torch.cat([d, extra[0][t].expand(d.shape[0], -1)], dim=1)
    return d


def why_not(model: Any, loss: Any) -> str:
    """Why a training cannot be resident; empty if it can."""
    descriptor, terms = getattr(model, "descriptor", None), getattr(loss, "terms", {})
    if type(model).__name__ != "EnergyModel":
        return "models other than an energy from one descriptor"
    for one in getattr(descriptor, "parts", [descriptor]):
        if not isinstance(one, DescriptorSeE2A | DescriptorSeE2R | DescriptorSeAtten):
            return "descriptors other than se_e2_a, se_e2_r, se_atten without attention and hybrids of them"
        shape = one.node_parts()[0][0].node_shape()
        if shape is None:
            return "attention, and activation functions that are not smooth"
        if shape.pooled and model.n_types > MOST_TYPES:
            return f"a type embedding with more than {MOST_TYPES} types"
    if type(loss).__name__ != "EnergyLoss" or set(terms) - {"e", "f", "v", "ae", "pf"} or loss.weighted_energy:
        return "terms of the loss other than e, f, v, ae and pf"
    if not any(math.prod(p.shape) for p in model.parameters() if p.requires_grad):
        return "models without anything to train"
    return ""
