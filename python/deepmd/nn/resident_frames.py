"""Frames that stay on a device for training: what depends on positions only, laid out in slots, and the labels.

A frame is one row of numbers in whole pages of an arena, so that a step fetches its frames by page numbers that it
reads on the device: the same recorded step serves every frame of its shape. Atoms stand in blocks by type, and room for
atoms and neighbours is rounded up, so that few shapes exist; atoms that are not there have no neighbours and no weight.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd import _kernels
from deepmd.data.graph import Batch, GraphCache, per_atom
from deepmd.errors import TrainingError
from deepmd.nn.nodes import OnNodes

ROUND = 8  # the least step of room
PAGE = 1 << 12  # numbers of a page
FIRST_PAGES = 1 << 9
EDGE = 1e-9  # how far places stay from the ends of [-1, 1], where angles have no slope


def room(count: int) -> int:
    """Room for so many, in steps of about an eighth."""
    step = max(ROUND, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step


@dataclass(frozen=True)
class Shape:
    """What frames have in common that one recorded step serves."""

    counts: tuple[int, ...]  # room for atoms of each type
    slots: tuple[tuple[int, ...], ...]  # for each part [n_types + 1]: where the slots of each type of neighbour begin
    received: tuple[int, ...]  # for each part: room for the slots in which an atom is the neighbour
    nodes: tuple[Any, ...]  # see `OnNodes.basis_key`
    labels: tuple[tuple[str, tuple[int, ...]], ...]  # with what follows the number of frames or atoms

    @property
    def n(self) -> int:
        """Atoms, the last of which is nobody in any frame."""
        return sum(self.counts) + 1


@dataclass
class Field:
    """Where a tensor of a frame stands in its row."""

    begin: int
    shape: tuple[int, ...]
    is_index: bool


class Layout:
    """The fields of frames of one shape: tensors of the part k have the prefix `k/`, labels `label/`."""

    def __init__(self, frame: dict[str, Tensor]):
        self.fields: dict[str, Field] = {}
        end = 0
        for name, value in frame.items():
            self.fields[name] = Field(end, tuple(value.shape), value.dtype == torch.int64)
            end += value.numel()
        self.n_pages = -(-end // PAGE)

    def row(self, frame: dict[str, Tensor]) -> Tensor:
        """[n_pages, PAGE] of a frame."""
        flat = torch.zeros(self.n_pages * PAGE, dtype=torch.float64)
        for name, value in frame.items():
            own, begin = value.contiguous().flatten(), self.fields[name].begin
            flat[begin : begin + value.numel()] = own.view(torch.float64)
        return flat.reshape(self.n_pages, PAGE)

    def fetch(self, arena: Tensor, pages: Tensor) -> dict[str, Tensor]:
        """Tensors [n_frames, ...] of the frames in `pages` [n_frames * n_pages]."""
        rows = arena.index_select(0, pages).reshape(-1, self.n_pages * PAGE)
        found = {}
        for name, field in self.fields.items():
            own = rows[:, field.begin : field.begin + math.prod(field.shape)]
            own = own.view(torch.int64) if field.is_index else own
            found[name] = own.unflatten(1, field.shape)
        return found


@dataclass
class Loaded:
    """Frames of one shape as tensors on the device, and what a loss asks of a `Batch`, by frame and atom."""

    shape: Shape
    tensors: dict[str, Tensor]  # [n_frames, ...]
    found: dict[str, bool]
    present: tuple[int, ...]  # types of atoms that are there

    @property
    def n_frames(self) -> int:
        return self.tensors["mask"].shape[0]

    @cached_property
    def padding(self) -> Tensor:
        """What a mean over all atoms, those that are not there included, has to be multiplied with."""
        return self.tensors["mask"].numel() / self.tensors["label/atoms_per_frame"].sum()

    def tensor(self, name: str) -> Tensor:
        value = self.tensors[f"label/{name}"]
        return value.flatten(0, 1) if name == "atoms_per_frame" or value.shape[1] == 1 or per_atom(name) else value

    def blocks(self) -> list[tuple[int, int, int]]:
        """Type, first atom and end of those that are present."""
        ends = np.cumsum((0, *self.shape.counts)).tolist()
        return [(t, ends[t], ends[t + 1]) for t in self.present]


@dataclass
class ResidentBatch:
    """Frames of one system that lie in an arena."""

    shape: Shape
    cache: ResidentCache
    pages: np.ndarray  # [n_frames * n_pages]
    n_frames: int
    found: dict[str, bool]
    present: tuple[int, ...]
    n_atoms: int  # that are there
    origin: str
    _loaded: Loaded | None = None

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Equal where a recorded step fits."""
        return self.shape, self.n_frames, self.present, tuple(sorted(self.found.items()))

    def fetch(self, pages: Tensor) -> Loaded:
        """The frames in other pages of the same arena, which are of the same shape."""
        tensors = self.cache.layouts[self.shape].fetch(self.cache.arena.pages, pages)
        return Loaded(self.shape, tensors, self.found, self.present)

    @property
    def loaded(self) -> Loaded:
        if self._loaded is None:
            self._loaded = self.fetch(torch.from_numpy(self.pages).to(self.cache.arena.pages.device))
        return self._loaded

    @property
    def padding(self) -> Tensor:
        return self.loaded.padding

    def tensor(self, name: str) -> Tensor:
        return self.loaded.tensor(name)


class Arena:
    """Pages on a device. budget: bytes. It grows by doubling; then what has been recorded reads the wrong place."""

    def __init__(self, device: torch.device, budget: int):
        self.most = max(budget // (8 * PAGE), 1)
        self.pages = torch.empty(min(FIRST_PAGES, self.most), PAGE, dtype=torch.float64, device=device)
        self.free = list(range(len(self.pages)))

    def take(self, n: int) -> list[int] | None:
        """n pages, None where there is no room for them."""
        while len(self.free) < n:
            old = len(self.pages)
            if old >= self.most:
                return None
            more = torch.empty(min(2 * old, self.most), PAGE, dtype=torch.float64, device=self.pages.device)
            more[:old] = self.pages
            self.pages = more
            self.free += range(old, len(more))
        taken, self.free = self.free[-n:], self.free[:-n]
        return taken


@dataclass
class Kept:
    """A frame in the arena, and what the host has to know of it."""

    shape: Shape
    pages: np.ndarray
    found: dict[str, bool]
    present: tuple[int, ...]
    n_atoms: int
    origin: str


class ResidentCache:
    """Frames on a device, the most recent ones kept within a budget (bytes). Takes the place of a GraphCache."""

    def __init__(self, cache: GraphCache, parts: list[OnNodes], device: torch.device, budget: int):
        self.source, self.parts, self.device = cache, parts, device
        self.arena = Arena(device, budget)
        self.layouts: dict[Shape, Layout] = {}
        self._kept: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._needs: dict[int, Needs] = {}
        self._nodes: tuple[Any, ...] = ()

    @property
    def systems(self) -> list[Any]:
        return self.source.systems

    def batch(self, system: int, frames: np.ndarray) -> ResidentBatch:
        """The batch of some frames of a system."""
        numbers = [int(frame) for frame in frames]
        for _ in range(ATTEMPTS):  # a frame may ask for more room, or for other nodes, than those before it have
            kept = [self._single((system, frame), numbers) for frame in numbers]
            if all(one.shape == kept[-1].shape and self._kept.get((system, frame)) is one
                   for frame, one in zip(numbers, kept, strict=True)):  # fmt: skip
                break
        else:
            raise TrainingError(
                f"{kept[0].origin}: a batch of {len(numbers)} such frames does not fit in the memory for frames; raise "
                "DEEPMD_GPU_MEMORY (MiB), take smaller batches, or train with DEVICE=cpu"
            )
        if len(kept) == 1:
            one = kept[0]
            return ResidentBatch(one.shape, self, one.pages, 1, one.found, one.present, one.n_atoms, one.origin)
        return ResidentBatch(
            kept[0].shape, self, np.concatenate([one.pages for one in kept]), len(kept),
            {key: all(one.found[key] for one in kept) for key in kept[0].found},
            tuple(sorted({t for one in kept for t in one.present})), sum(one.n_atoms for one in kept),
            kept[0].origin + "".join(f", {one.origin.split()[-1]}" for one in kept[1:]),
        )  # fmt: skip

    def _single(self, key: tuple[int, int], together: list[int]) -> Kept:
        """A frame; those that go together with it stay in the arena."""
        nodes = tuple(part.basis_key() for part in self.parts)
        if nodes != self._nodes:  # sums of other nodes serve no longer
            for old in list(self._kept):
                self._forget(old)
            self.layouts.clear()
            self._nodes = nodes
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        batch = self.source.single(*key)
        needs = self._needs.setdefault(key[0], Needs(len(self.parts), len(self.parts[0].module.davg)))
        if needs.widen(batch, self.parts):
            for old in [one for one in self._kept if one[0] == key[0]]:
                self._forget(old)
        frame = lay_out(batch, self.parts, needs)
        if tuple(part.basis_key() for part in self.parts) != self._nodes:  # it has closer pairs than those before
            return self._single(key, together)
        shape = needs.shape(self._nodes, batch)
        layout = self.layouts.setdefault(shape, Layout(frame))
        pages = self._room(layout.n_pages, {(key[0], other) for other in together})
        if pages is None:
            raise TrainingError(
                f"{batch.origin} does not fit in the memory for frames on the device; raise DEEPMD_GPU_MEMORY (MiB), "
                "or train with DEVICE=cpu"
            )
        self.arena.pages[torch.tensor(pages, device=self.device)] = layout.row(frame).to(self.device)
        present = tuple(np.unique(batch.types).tolist())
        self._kept[key] = Kept(shape, np.array(pages), batch.found, present, len(batch.types), batch.origin)
        if len(self.arena.pages) < self.arena.most:  # then nothing has to go, and the host needs no list of its own
            self.source.forget(*key)
        return self._kept[key]

    def _room(self, n: int, spared: set[tuple[int, int]]) -> list[int] | None:
        """n pages, for which other frames go, the least recently used first."""
        while (pages := self.arena.take(n)) is None:
            oldest = next((key for key in self._kept if key not in spared), None)
            if oldest is None:
                return None
            self._forget(oldest)
        return pages

    def _forget(self, key: tuple[int, int]) -> None:
        self.arena.free += self._kept.pop(key).pages.tolist()


ATTEMPTS = 4


class Needs:
    """How much room the frames of a system have needed so far."""

    def __init__(self, n_parts: int, n_types: int):
        self.counts = np.zeros(n_types, dtype=int)
        self.widths = np.zeros((n_parts, n_types + 1), dtype=int)  # by type of the neighbour; the last: as a neighbour

    def widen(self, batch: Batch, parts: list[OnNodes]) -> bool:
        """Takes a frame in; whether the room of the others is too small now."""
        before = self.rooms()
        n_types = len(self.counts)
        np.maximum(self.counts, np.bincount(batch.types, minlength=n_types), out=self.counts)
        for k, part in enumerate(parts):
            np.maximum(self.widths[k], widths_of(near(batch, part), n_types), out=self.widths[k])
        return self.rooms() != before

    def rooms(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
        """Of atoms by type, where slots begin, and of the slots in which an atom is the neighbour."""
        counts = tuple(room(int(c)) for c in self.counts)
        # One slot more than is needed: the very last one is empty, and what is nowhere points at it.
        slots = tuple((0, *np.cumsum([room(int(w) + 1) for w in own[:-1]]).tolist()) for own in self.widths)
        return counts, slots, tuple(room(max(int(own[-1]), 1)) for own in self.widths)

    def shape(self, nodes: tuple[Any, ...], batch: Batch) -> Shape:
        labels = tuple((name, tuple(value.shape[1:])) for name, value in sorted(batch.labels.items()))
        return Shape(*self.rooms(), nodes, labels)


@dataclass
class Near:
    """The pairs of a frame that a part sees."""

    first: np.ndarray
    centers: np.ndarray
    neighbor: np.ndarray
    vectors: np.ndarray
    types: np.ndarray


def near(batch: Batch, part: OnNodes) -> Near:
    """The pairs within the cutoff of a part, which may be shorter than that of the lists."""
    centers = batch.centers
    kept = (batch.vectors**2).sum(axis=1) < part.module.rcut**2
    if kept.all():
        return Near(batch.first, centers, batch.neighbor, batch.vectors, batch.types)
    first = np.zeros_like(batch.first)
    np.cumsum(np.bincount(centers[kept], minlength=len(batch.types)), out=first[1:])
    return Near(first, centers[kept], batch.neighbor[kept], np.ascontiguousarray(batch.vectors[kept]), batch.types)


def widths_of(pairs: Near, n_types: int) -> np.ndarray:
    """How many neighbours of each type an atom has at most, and how often it is one [n_types + 1]."""
    n = len(pairs.types)
    groups = pairs.centers * n_types + pairs.types[pairs.neighbor]
    counts = np.bincount(groups, minlength=n * n_types).reshape(n, n_types)
    return np.append(counts.max(axis=0, initial=0), np.bincount(pairs.neighbor, minlength=n).max(initial=0))


def lay_out(batch: Batch, parts: list[OnNodes], needs: Needs) -> dict[str, Tensor]:
    """The tensors of one frame on the host, N atoms: mask [N], those of `of_part`, and labels."""
    counts, slots, received = needs.rooms()
    begins = np.concatenate([[0], np.cumsum(counts)])
    place = begins[batch.types] + rank_within(batch.types)
    n_all = int(begins[-1]) + 1

    def spread(value: np.ndarray) -> Tensor:
        """[n, ...] -> [N, ...]"""
        table = np.zeros((n_all, *value.shape[1:]))
        table[place] = value
        return torch.from_numpy(table)

    frame = {"mask": spread(np.ones(len(batch.types)))}
    for k, part in enumerate(parts):
        found = of_part(near(batch, part), part, (np.array(slots[k]), received[k]), (place, n_all))
        frame |= {f"{k}/{name}": value for name, value in found.items()}
    for name, value in batch.labels.items():
        frame[f"label/{name}"] = spread(value) if per_atom(name) else torch.from_numpy(np.array(value[0], ndmin=1))
    frame["label/atoms_per_frame"] = torch.from_numpy(batch.atoms_per_frame)
    return frame


def of_part(
    pairs: Near, part: OnNodes, rooms: tuple[np.ndarray, int], atoms: tuple[np.ndarray, int]
) -> dict[str, Tensor]:
    """What a part needs of a frame, with S slots an atom; atoms: their places among all N.

    sums [N, rows, n_columns]; angle [N, S] of the place z = cos(angle); slopes [N, S, 2 rows n_groups, 3], by which
    the sums over columns of H T and of H T' go into dE/d(vector); vectors [N, S, 3]; neighbor [N, S]; received [N D].
    """
    (begins, n_received), (place, n_all) = rooms, atoms
    n_slots, types_j = int(begins[-1]), pairs.types[pairs.neighbor]
    order = np.lexsort((types_j, pairs.centers))
    centers, types_j, index = pairs.centers[order], types_j[order], pairs.neighbor[order].astype(np.int64)
    slot = place[centers] * n_slots + begins[types_j] + rank_within(centers * len(begins) + types_j)
    vectors = torch.from_numpy(pairs.vectors[order])
    angle, slopes = pair_values(part, vectors, pairs.types[centers].astype(np.int64), types_j.astype(np.int64))

    def spread(value: Tensor) -> Tensor:
        """[n_pairs, ...] -> [N, S, ...]"""
        table = torch.zeros(n_all * n_slots, *value.shape[1:], dtype=torch.float64)
        table[torch.from_numpy(slot)] = value
        return table.reshape(n_all, n_slots, *value.shape[1:])

    own = sums_of(pairs, part)
    sums = torch.zeros(n_all, *own.shape[1:], dtype=torch.float64)
    sums[torch.from_numpy(place)] = own
    neighbor = np.zeros(n_all * n_slots, dtype=np.int64)
    neighbor[slot] = place[index]
    received = np.full((n_all, n_received), n_slots - 1)  # a slot that is empty
    by_neighbor = np.argsort(index, kind="stable")
    received[place[index[by_neighbor]], rank_within(index[by_neighbor])] = slot[by_neighbor]
    return {
        "sums": sums,
        "angle": spread(angle),
        "slopes": spread(slopes),
        "vectors": spread(vectors),
        "neighbor": torch.from_numpy(neighbor).reshape(n_all, n_slots),
        "received": torch.from_numpy(received).flatten(),
    }


def rank_within(groups: np.ndarray) -> np.ndarray:
    """The number of each entry within its group; groups [m] stand together."""
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def sums_of(pairs: Near, part: OnNodes) -> Tensor:
    """B of a frame by the compiled kernel, with more nodes or a wider interval if the frame needs them."""
    present = tuple(range(len(part.module.davg)))
    given = _kernels.Pairs(pairs.first, pairs.neighbor.astype(np.int32), pairs.vectors, pairs.types)
    b, outside = part.basis(present).sum(given)
    if outside:
        part.widen(torch.from_numpy(pairs.vectors))
        b, _ = part.basis(present).sum(given)
    refuse_sharp(part)
    return torch.from_numpy(b)


def refuse_sharp(part: OnNodes) -> None:
    """There is no plain path here."""
    if not part.active:
        raise TrainingError(
            "the embedding networks have become too sharp for nodes, expected smooth ones; go on with --restart and "
            "the environment variable DEVICE=cpu"
        )


def pair_values(part: OnNodes, vectors: Tensor, types_i: np.ndarray, types_j: np.ndarray) -> tuple[Tensor, Tensor]:
    """angle [n] and slopes [n, 2 rows n_groups, 3] of pairs on the host, the derivatives by autograd.

    With rows R (for a second group w R with the switch w), z = cos(angle): d(R T(z))/dv = T dR/dv + T' R dz/dv, and
    T_q' = q sin(q angle) / sin(angle), whose denominator is taken in here.
    """
    module, shape = part.module, part.shape
    davg, dstd, keep = (table.cpu() for table in (module.davg, module.dstd, module.keep))
    free = vectors.detach().clone().requires_grad_(True)
    kept = keep[types_i, types_j].unsqueeze(1) / dstd[types_i]
    entries = (module.raw_rows(free) - davg[types_i]) * kept
    rows = entries if shape.rows == 4 else torch.ones(len(vectors), 1, dtype=torch.float64)
    if shape.switched:
        rows = torch.stack([rows, rows * module.weights(free).unsqueeze(1)], dim=2).flatten(1)

    def slope(value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(vectors)
        return torch.autograd.grad(value.sum(), free, retain_graph=True)[0]

    lo, hi = (torch.from_numpy(end)[types_i] for end in part.interval())
    scale = 2.0 / (hi - lo)
    z = ((entries.detach()[:, 0] - lo) * scale - 1.0).clamp(EDGE - 1.0, 1.0 - EDGE)
    along = slope(entries[:, 0]) * (scale / torch.sqrt((1.0 - z) * (1.0 + z))).unsqueeze(1)
    first = torch.stack([slope(rows[:, a]) for a in range(rows.shape[1])], dim=1)
    return torch.arccos(z), torch.cat([first, rows.detach().unsqueeze(2) * along.unsqueeze(1)], dim=1)
