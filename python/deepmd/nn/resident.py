"""Training of se_e2_a energies where the data stay on the device: frames once, then a step without host work.

Per frame the device keeps B, the sums over neighbours (see `deepmd.nn.nodes`), and for each slot of a padded list the
radial place z, the row R and their derivatives by the pair vector. With H = dE/dB a pair's gradient is

    g_b = sum_a P_a dR_a/dv_b + (sum_a Q_a R_a) dz/dv_b,    P_a = sum_q H[a,q] T_q(z),  Q_a = sum_q H[a,q] T_q'(z),

and a force is the sum of an atom's own pairs less those in which it is the neighbour, gathered in a fixed order. All is
made of torch's operations on tensors of fixed shapes, so that it runs on any device, and a GPU can record the step.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd import _kernels
from deepmd.data.graph import Batch, GraphCache
from deepmd.errors import TrainingError
from deepmd.nn.nodes import OnNodes
from deepmd.nn.plain import AnyEngine, Prediction

ROUND = 8  # numbers of slots are multiples of this
WARM_UP = 3  # calls before a step is recorded, in which libraries set themselves up


@dataclass
class Frames:
    """Frames of equal shape on a device; n atoms each, sorted by type, and S slots for the neighbours of an atom."""

    sums: Tensor  # [n_frames, n, 4, n_columns]
    z: Tensor  # [n_frames, n, S]
    rows: Tensor  # [n_frames, n, 4, S], zeros in slots that are empty
    slopes: Tensor  # [n_frames, n, 4, 3, S] dR/dv
    z_slopes: Tensor  # [n_frames, n, 3, S] dz/dv
    vectors: Tensor  # [n_frames, n, 3, S] Angstrom
    neighbor: Tensor  # [n_frames, n, S] int64, n in empty slots
    received: Tensor  # [n_frames, n, D] int64: the slots in which an atom is the neighbour, n S beyond them

    @property
    def n_bytes(self) -> int:
        return sum(getattr(self, f.name).nbytes for f in fields(self))


@dataclass
class ResidentBatch:
    """Frames of one system with their labels; what a loss asks of a `Batch`, in the order of frame and atom."""

    frames: Frames
    labels: dict[str, Tensor]  # of frames [n_frames, ...], of atoms [n_frames * n, ...], and atoms_per_frame
    found: dict[str, bool]
    blocks: tuple[tuple[int, int, int], ...]  # type, first atom and end
    slots: tuple[int, ...]  # [n_types + 1] where the slots of each type of neighbour begin
    origin: str

    @property
    def n_frames(self) -> int:
        return self.frames.z.shape[0]

    @property
    def n_atoms(self) -> int:
        return self.frames.z.shape[0] * self.frames.z.shape[1]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Equal where a recorded step fits."""
        found = tuple(sorted(self.found.items()))
        return self.blocks, self.slots, tuple(self.frames.received.shape), self.n_frames, found

    def tensor(self, name: str) -> Tensor:
        return self.labels[name]

    def inputs(self) -> list[Tensor]:
        """All tensors in a fixed order."""
        return [*vars(self.frames).values(), *(self.labels[k] for k in sorted(self.labels))]


def chebyshev(z: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """T_q(z) and T_q'(z) for q < n, [..., n, m] of z [..., m]; each round doubles how many are known."""
    one, zero = torch.ones_like(z), torch.zeros_like(z)
    t, d = torch.stack([one, z], dim=-2), torch.stack([zero, one], dim=-2)
    while t.shape[-2] < n:
        top, d_top = t[..., -1:, :], d[..., -1:, :]
        before, d_before = t[..., :-1, :].flip(-2), d[..., :-1, :].flip(-2)
        rest, d_rest = t[..., 1:, :], d[..., 1:, :]
        t, d = (torch.cat([t, 2.0 * top * rest - before], dim=-2),
                torch.cat([d, 2.0 * (d_top * rest + top * d_rest) - d_before], dim=-2))  # fmt: skip
    return t[..., :n, :], d[..., :n, :]


class Received(torch.autograd.Function):
    """For each atom [n_frames, n, 3] the sum of g [n_frames, n, 3, S] over the slots in which it is the neighbour."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, received: Tensor, neighbor: Tensor) -> Tensor:
        ctx.save_for_backward(neighbor)
        n_frames, n, _, n_slots = g.shape
        flat = g.transpose(2, 3).reshape(n_frames, n * n_slots, 3)
        flat = torch.cat([flat, flat.new_zeros(n_frames, 1, 3)], dim=1)
        index = received.reshape(n_frames, -1, 1).expand(-1, -1, 3)
        return torch.gather(flat, 1, index).reshape(n_frames, n, -1, 3).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        (neighbor,) = ctx.saved_tensors
        n_frames, n, n_slots = neighbor.shape
        padded = torch.cat([d, d.new_zeros(n_frames, 1, 3)], dim=1)
        index = neighbor.reshape(n_frames, -1, 1).expand(-1, -1, 3)
        return torch.gather(padded, 1, index).reshape(n_frames, n, n_slots, 3).transpose(2, 3), None, None


class ResidentCache:
    """Frames on a device, the most recent ones kept within a budget (bytes). Takes the place of a GraphCache."""

    def __init__(self, cache: GraphCache, part: OnNodes, device: torch.device, budget: int):
        self.source, self.part, self.device, self.budget = cache, part, device, budget
        self._kept: OrderedDict[tuple[int, int], tuple[Frames, dict[str, Tensor]]] = OrderedDict()
        self._bytes = 0
        self._basis: tuple[Any, ...] = ()
        self._widths: dict[int, np.ndarray] = {}  # of a system: see `widths_of`, rounded up

    def batch(self, system: int, frames: np.ndarray) -> ResidentBatch:
        """The batch of some frames of a system."""
        singles = [self.source.single(system, int(frame)) for frame in frames]
        new = [one for frame, one in zip(frames, singles, strict=True) if (system, int(frame)) not in self._kept]
        self._refresh(system, new)
        parts = [self._single((system, int(frame)), one) for frame, one in zip(frames, singles, strict=True)]
        if self._basis != self.part.basis_key():  # one of these had closer pairs than those before
            return self.batch(system, frames)
        starts = np.searchsorted(singles[0].types, np.arange(len(self.part.module.davg) + 1))
        ends = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        blocks = tuple((t, begin, end) for t, (begin, end) in enumerate(ends) if begin < end)
        slots = (0, *np.cumsum(self._widths[system][:-1]).tolist())
        joined, labels = parts[0]
        if len(parts) > 1:
            joined = Frames(*(torch.cat([getattr(p[0], f.name) for p in parts]) for f in fields(Frames)))
            labels = {key: torch.cat([p[1][key] for p in parts]) for key in labels}
        found = {key: all(one.found[key] for one in singles) for key in singles[0].found}
        origin = singles[0].origin + "".join(f", {one.origin.split()[-1]}" for one in singles[1:])
        return ResidentBatch(joined, labels, found, blocks, slots, origin)

    def _refresh(self, system: int, new: list[Batch]) -> None:
        """Drops what was made for other nodes, or for lists that are too narrow for new frames of this system."""
        key = self.part.basis_key()
        if key != self._basis:
            self._kept.clear()
            self._bytes, self._basis = 0, key
        n_types = len(self.part.module.davg)
        known = self._widths.setdefault(system, np.full(n_types + 1, ROUND))
        needed = np.max([known, *(widths_of(one, n_types) for one in new)], axis=0)
        if (needed > known).any():
            self._widths[system] = np.maximum(known, -(-needed // ROUND) * ROUND)
            for stale in [one for one in self._kept if one[0] == system]:
                self._forget(stale)

    def _forget(self, key: tuple[int, int]) -> None:
        frames, labels = self._kept.pop(key)
        self._bytes -= frames.n_bytes + sum(value.nbytes for value in labels.values())

    def _single(self, key: tuple[int, int], batch: Batch) -> tuple[Frames, dict[str, Tensor]]:
        if key not in self._kept:
            host = lay_out(batch, self.part, self._widths[key[0]])
            frames = Frames(*(getattr(host, f.name).to(self.device) for f in fields(Frames)))
            labels = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.labels.items()}
            labels["atoms_per_frame"] = torch.from_numpy(batch.atoms_per_frame)
            kept = frames, {name: value.to(self.device) for name, value in labels.items()}
            self._kept[key] = kept
            self._bytes += frames.n_bytes + sum(value.nbytes for value in kept[1].values())
            while self._bytes > self.budget and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))
            return kept
        self._kept.move_to_end(key)
        return self._kept[key]


def widths_of(batch: Batch, n_types: int) -> np.ndarray:
    """How many neighbours of each type an atom has at most, and how often it is one [n_types + 1]."""
    n, centers = len(batch.types), batch.centers
    counts = np.bincount(centers * n_types + batch.types[batch.neighbor], minlength=n * n_types).reshape(n, n_types)
    seen = np.bincount(batch.neighbor, minlength=n)
    return np.append(counts.max(axis=0), seen.max())


def lay_out(batch: Batch, part: OnNodes, widths: np.ndarray) -> Frames:
    """One frame in slots, on the host. widths: see `widths_of`."""
    module = part.module
    n, n_types = len(batch.types), len(module.davg)
    centers, types_j = batch.centers, batch.types[batch.neighbor]
    order = np.lexsort((types_j, centers))
    groups = (centers * n_types + types_j)[order]
    begins = np.concatenate([[0], np.cumsum(widths[:-1])])
    place = centers[order] * begins[-1] + begins[types_j[order]] + rank_within(groups)
    index, vectors = batch.neighbor[order].astype(np.int64), torch.from_numpy(batch.vectors[order])
    kinds = batch.types.astype(np.int64)
    values = pair_values(part, vectors, kinds[centers[order]], kinds[index])
    n_slots, shape = int(begins[-1]), (1, n, int(begins[-1]))

    def spread(value: Tensor) -> Tensor:
        """[n_pairs, ...] -> [1, n, ..., S]"""
        table = torch.zeros(n * n_slots, *value.shape[1:], dtype=torch.float64)
        table[torch.from_numpy(place)] = value
        return table.reshape(1, n, n_slots, *value.shape[1:]).movedim(2, -1).contiguous()

    neighbor = np.full(n * n_slots, n)
    neighbor[place] = index
    received = np.full((n, int(widths[-1])), n * n_slots)
    by_neighbor = np.argsort(index, kind="stable")
    received[index[by_neighbor], rank_within(index[by_neighbor])] = place[by_neighbor]
    return Frames(
        sums=sums_of(batch, part).unsqueeze(0),
        **{name: spread(value) for name, value in values.items()},
        vectors=spread(vectors),
        neighbor=torch.from_numpy(neighbor).reshape(shape),
        received=torch.from_numpy(received).unsqueeze(0),
    )


def rank_within(groups: np.ndarray) -> np.ndarray:
    """The number of each entry within its group; groups [m] stand together."""
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def sums_of(batch: Batch, part: OnNodes) -> Tensor:
    """B of a frame by the compiled kernel, with more nodes or a wider interval if the frame needs them."""
    present = tuple(range(len(part.module.davg)))
    pairs = _kernels.Pairs(batch.first, batch.neighbor, batch.vectors, batch.types)
    b, outside = part.basis(present).sum(pairs)
    if outside:
        part.widen(torch.from_numpy(batch.vectors))
        b, _ = part.basis(present).sum(pairs)
    refuse_sharp(part)
    return torch.from_numpy(b)


def refuse_sharp(part: OnNodes) -> None:
    """There is no plain path here."""
    if not part.active:
        raise TrainingError(
            "the embedding networks have become too sharp for nodes, expected smooth ones; go on with --restart and "
            "the environment variable DEVICE=cpu"
        )


def pair_values(part: OnNodes, vectors: Tensor, types_i: np.ndarray, types_j: np.ndarray) -> dict[str, Tensor]:
    """z, rows, slopes and z_slopes of pairs on the host, the derivatives by autograd."""
    module = part.module
    davg, dstd, keep = (table.cpu() for table in (module.davg, module.dstd, module.keep))
    free = vectors.detach().clone().requires_grad_(True)
    raw = module.raw_rows(free)
    slopes = [torch.autograd.grad(raw[:, a].sum(), free, retain_graph=True)[0] for a in range(raw.shape[1])]
    kept = keep[types_i, types_j].unsqueeze(1) / dstd[types_i]
    rows = (raw.detach() - davg[types_i]) * kept
    slope = torch.stack(slopes, dim=1) * kept.unsqueeze(2)
    lo, hi = (torch.from_numpy(end)[types_i] for end in part.interval())
    scale = 2.0 / (hi - lo)
    z = ((rows[:, 0] - lo) * scale - 1.0).clamp(-1.0, 1.0)
    return {"z": z, "rows": rows, "slopes": slope, "z_slopes": slope[:, 0] * scale.unsqueeze(1)}


class ResidentEngine(AnyEngine):
    """Energies and forces of batches of a ResidentCache; records the step on a GPU."""

    def __init__(self, model: Any, nodes: Any, part: OnNodes | None = None):
        super().__init__(model, nodes)
        self.part = nodes.parts[0] if part is None else part
        self.device = model.out_bias.device
        self._recorded: dict[Any, Recorded] = {}

    def __call__(self, batch: ResidentBatch, with_forces: bool = True, create_graph: bool = True) -> Prediction:
        frames = batch.frames
        n_frames, n = frames.z.shape[:2]
        sums = frames.sums.detach().requires_grad_(with_forces)
        with torch.set_grad_enabled(create_graph or with_forces):
            atom_energy = self.energies(batch, sums)
            energy = atom_energy.sum(dim=1)
            if not with_forces:
                return Prediction(energy, atom_energy.flatten(), None, None)
            h = torch.autograd.grad(atom_energy.sum(), sums, create_graph=create_graph, materialize_grads=True)[0]
            g = self.gradients(batch, h)
            forces = g.sum(dim=3) - Received.apply(g, frames.received, frames.neighbor)
            virial = -torch.matmul(g, frames.vectors.transpose(2, 3)).sum(dim=1)
        return Prediction(energy, atom_energy.flatten(), forces.reshape(n_frames * n, 3), virial)

    def energies(self, batch: ResidentBatch, sums: Tensor) -> Tensor:
        """Atomic energies [n_frames, n]."""
        model, part, parts = self.model, self.part, []
        types_j = list(range(model.n_types))
        shared = part.coefficients(0, types_j, ()).flatten(0, 2) if part.shape.shared else None
        for t, begin, end in batch.blocks:
            gamma = part.coefficients(t, types_j, ()).flatten(0, 2) if shared is None else shared
            own = sums[:, begin:end].to(part.module.dtype)
            d, _ = part.module.of_sums((own @ gamma).flatten(0, 1))
            e = model.fitting.of_one_type(d, t, *self.parameters_of(batch, begin, end)).flatten()
            e = (e * model.fitting.keep[t] + model.out_bias[t]) * model.atom_keep[t]
            parts.append(e.reshape(batch.n_frames, end - begin))
        return torch.cat(parts, dim=1)

    def parameters_of(self, batch: ResidentBatch, begin: int, end: int) -> list[Tensor | None]:
        """fparam and aparam of some atoms of each frame, [n, dim]."""
        found: list[Tensor | None] = [None, None]
        n_frames, n = batch.n_frames, end - begin
        if self.dims[0]:
            found[0] = batch.tensor("fparam").reshape(n_frames, 1, -1).expand(-1, n, -1).flatten(0, 1)
        if self.dims[1]:
            found[1] = batch.tensor("aparam").reshape(n_frames, -1, self.dims[1])[:, begin:end].flatten(0, 1)
        return found

    def gradients(self, batch: ResidentBatch, h: Tensor) -> Tensor:
        """g [n_frames, n, 3, S] from H [n_frames, n, 4, n_columns]; linear."""
        frames, k, parts = batch.frames, self.part.n_nodes, []
        for t, (begin, end) in enumerate(zip(batch.slots[:-1], batch.slots[1:], strict=True)):
            value, slope = chebyshev(frames.z[..., begin:end], k)
            own = h[..., t * k : (t + 1) * k]
            p, q = own @ value, own @ slope  # [n_frames, n, 4, m]
            along = (q * frames.rows[..., begin:end]).sum(dim=2, keepdim=True) * frames.z_slopes[..., begin:end]
            parts.append(along + (p.unsqueeze(3) * frames.slopes[..., begin:end]).sum(dim=2))
        return torch.cat(parts, dim=3)

    def loss_of(self, loss: Any, batch: ResidentBatch, lr: float | Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The loss and its reported errors; the way back has put gradients into the parameters. Waits for nothing."""
        total, report = loss.tensors(self(batch, with_forces=loss.needs_forces), batch, lr)
        if total.requires_grad:
            total.backward()
        return total.detach(), report

    def differentiate(
        self, loss: Any, batch: Any, lr: float, parameters: list[Tensor]
    ) -> tuple[float, dict[str, Any]]:
        if self.device.type == "cuda":
            key = (batch.shape, self.part.basis_key())
            if key not in self._recorded:
                self._recorded = {k: v for k, v in self._recorded.items() if k[1] == key[1]}
                self._recorded[key] = Recorded(self, loss, batch, parameters)
            total, report = self._recorded[key].run(batch, lr, parameters)
        else:
            for parameter in parameters:
                parameter.grad = None
            total, report = self.loss_of(loss, batch, lr)
        return float(total), {k: float(value) for k, value in report.items()}

    def settle(self) -> None:
        super().settle()
        refuse_sharp(self.part)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._recorded.clear()  # the nodes are made anew, and a recorded step reads them where they were


class Recorded:
    """The step for batches of one shape as a CUDA graph: inputs are copied to where it reads."""

    def __init__(self, engine: ResidentEngine, loss: Any, batch: ResidentBatch, parameters: list[Tensor]):
        self.lr = torch.zeros((), dtype=torch.float64, device=engine.device)
        frames = Frames(*(getattr(batch.frames, f.name).clone() for f in fields(Frames)))
        labels = {key: value.clone() for key, value in batch.labels.items()}
        self.batch = ResidentBatch(frames, labels, batch.found, batch.blocks, batch.slots, batch.origin)
        self.graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._clear(parameters)
                engine.loss_of(loss, self.batch, self.lr)
        torch.cuda.current_stream().wait_stream(aside)
        self._clear(parameters)
        with torch.cuda.graph(self.graph):
            self.total, self.report = engine.loss_of(loss, self.batch, self.lr)
        self.gradients = [parameter.grad for parameter in parameters]

    @staticmethod
    def _clear(parameters: list[Tensor]) -> None:
        for parameter in parameters:
            parameter.grad = None

    def run(self, batch: ResidentBatch, lr: float, parameters: list[Tensor]) -> tuple[Tensor, dict[str, Any]]:
        """One step on another batch of the same shape."""
        self.lr.fill_(lr)
        for to, source in zip(self.batch.inputs(), batch.inputs(), strict=True):
            to.copy_(source)
        self.graph.replay()
        for parameter, gradient in zip(parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.total, self.report


def why_not(model: Any, loss: Any) -> str:
    """Why a training cannot be resident; empty if it can."""
    descriptor, terms = getattr(model, "descriptor", None), getattr(loss, "terms", {})
    if model.facts().kind != "energy" or getattr(descriptor, "node_shape", None) is None:
        return "models other than energies of se_e2_a"
    shape = descriptor.node_shape()
    if shape is None or shape.rows != 4 or shape.switched or shape.pooled or shape.couples or descriptor.mixed_types:
        return "descriptors other than se_e2_a with a smooth activation function"
    if type(loss).__name__ != "EnergyLoss" or set(terms) - {"e", "f", "v", "ae", "pf"} or loss.weighted_energy:
        return "terms of the loss other than e, f, v, ae and pf"
    if not any(math.prod(p.shape) for p in model.parameters() if p.requires_grad):
        return "models without anything to train"
    return ""
