"""Frames ready for the model: atoms sorted by type, ragged pairs, labels. Built once per frame and kept, since frames
do not move.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch

from deepmd.data.system import System
from deepmd.keys import field as key_field
from deepmd.nn.frames import Pairs, find_pairs

LABELS = ("energy", "force", "virial", "atom_ener", "atom_pref", "atom_ener_coeff", "fparam", "aparam")
"""What a batch of an energy model carries; losses of other kinds name their own."""
BY_ATOM = ("drdq",)
"""Fields of a frame whose rows go by atom and Cartesian component; they travel as fields of atoms."""


@dataclass
class Room:
    """How many bytes may still be kept beside frames."""

    left: int


@cache
def room_of_process() -> Room:
    """That of all training data of this process: 1 GiB, or its part of an eighth of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Room(min(1 << 30, memory // 8 // max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)))


class Memory:
    """What engines keep of a frame because it depends on positions alone; a frame that finds no room keeps nothing."""

    def __init__(self, room: Room):
        self.room = room
        self._kept: dict[Any, tuple[Any, int]] = {}

    def get(self, key: Any) -> Any:
        """What is kept under a key, or None."""
        return self._kept.get(key, (None, 0))[0]

    def put(self, key: Any, value: Any, n_bytes: int) -> None:
        """Keeps a value of that size in place of what had the key, if there is room."""
        self.room.left += self._kept.pop(key, (None, 0))[1]
        if n_bytes <= self.room.left:
            self._kept[key] = value, n_bytes
            self.room.left -= n_bytes

    def close(self) -> None:
        """Gives the room back, and keeps nothing from now on."""
        self.room.left += sum(n_bytes for _, n_bytes in self._kept.values())
        self._kept.clear()
        self.room = Room(0)


@dataclass
class Batch:
    """One or several frames of one system. Atoms of all frames stand together, sorted by type; pairs by centre."""

    types: np.ndarray  # [n_atoms] int32, ascending
    frame: np.ndarray  # [n_atoms] int32
    n_frames: int
    first: np.ndarray  # [n_atoms + 1] int64
    neighbor: np.ndarray  # [n_pairs] int32
    vectors: np.ndarray  # [n_pairs, 3]
    atoms_per_frame: np.ndarray  # [n_frames] real atoms
    labels: dict[str, np.ndarray]
    """Frame quantities with a leading n_frames, atomic ones with a leading n_atoms in the order of `types`.

    drdq is [n_atoms, 3, n_coordinates]; hessian is a frame quantity whose atoms stand in the order of the frame here.
    """
    found: dict[str, bool]
    origin: str  # system and frames, for messages
    memory: Memory = field(default_factory=lambda: Memory(Room(0)))  # of single frames that are kept themselves
    padding: ClassVar[None] = None  # all atoms are there

    @property
    def centers(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.types)), np.diff(self.first))

    def tensor(self, name: str) -> torch.Tensor:
        """A label or atoms_per_frame, where predictions are computed."""
        return torch.from_numpy(self.atoms_per_frame if name == "atoms_per_frame" else self.labels[name])

    @property
    def n_atoms(self) -> int:
        return len(self.types)

    @property
    def n_bytes(self) -> int:
        return self.vectors.nbytes + self.neighbor.nbytes + sum(a.nbytes for a in self.labels.values())


class GraphCache:
    """Batches by (system, frame), the most recent ones kept within a memory budget.

    systems: the data. rcut: Angstrom. pair_keep: [n_types, n_types] pairs that the model does not see are left out.
    labels: names of the fields that the batches carry. room: for what engines keep of frames. modifier: its energies,
    forces and virials are taken off the labels; see `deepmd.nn.modifier`.
    """

    def __init__(
        self,
        systems: list[System],
        rcut: float,
        pair_keep: np.ndarray | None = None,
        budget: int = 2 << 30,
        labels: Sequence[str] = LABELS,
        modifier: Any = None,
        room: Room | None = None,
    ):
        self.systems = systems
        self.labels = tuple(dict.fromkeys(labels))
        self.rcut = rcut
        self.pair_keep = pair_keep
        self.budget = budget
        self._kept: OrderedDict[tuple[int, int], Batch] = OrderedDict()
        self._bytes = 0
        self.room = room or Room(0)
        self.modifier = modifier
        self._modified: dict[tuple[int, int], dict[str, Any]] = {}  # kept for all frames, as it costs more than a list

    def batch(self, system: int, frames: np.ndarray) -> Batch:
        """The batch of some frames of a system."""
        singles = [self.single(system, int(frame)) for frame in frames]
        return singles[0] if len(singles) == 1 else merge(singles)

    def single(self, system: int, frame: int) -> Batch:
        key = (system, frame)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        batch = self._build(system, frame)
        self._kept[key] = batch
        self._bytes += batch.n_bytes
        while self._bytes > self.budget and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.n_bytes
            oldest.memory.close()
        return batch

    def forget(self, system: int, frame: int) -> None:
        """Drops a frame that is kept elsewhere from now on."""
        if batch := self._kept.pop((system, frame), None):
            self._bytes -= batch.n_bytes
            batch.memory.close()

    def _build(self, system: int, frame: int) -> Batch:
        source = self.systems[system]
        data = source.frames([frame], self.labels)
        types = data["types"][0]
        real = np.flatnonzero(types >= 0)
        order = real[np.argsort(types[real], kind="stable")]
        types = types[order].astype(np.int32)
        cell = None if data["cell"] is None else data["cell"][0]
        pairs = self._visible(find_pairs(data["positions"][0][order], cell, self.rcut), types)
        labels = {key: arranged(key, data[key_field(key).name], order, len(data["types"][0])) for key in self.labels}
        found = {key: bool(data["find_" + key_field(key).name][0]) for key in self.labels}
        if self.modifier is not None:
            if (system, frame) not in self._modified:
                self._modified[system, frame] = self.modifier.evaluate(data["positions"][0][order], types, cell)
            labels = without(labels, found, self._modified[system, frame])
            if "atom_ener" in found:
                found["atom_ener"] = False  # energies of single atoms cannot be split
        first = np.zeros(len(types) + 1, dtype=np.int64)
        np.cumsum(np.bincount(pairs.centers, minlength=len(types)), out=first[1:])
        return Batch(
            types=types,
            frame=np.zeros(len(types), dtype=np.int32),
            n_frames=1,
            first=first,
            neighbor=pairs.neighbors.astype(np.int32),
            vectors=np.ascontiguousarray(pairs.vectors),
            atoms_per_frame=np.array([float(len(types))]),
            labels=labels,
            found=found,
            origin=f"{source.name} frame {frame}",
            memory=Memory(self.room),
        )

    def _visible(self, pairs: Pairs, types: np.ndarray) -> Pairs:
        if self.pair_keep is None or self.pair_keep.all():
            return pairs
        kept = self.pair_keep[types[pairs.centers], types[pairs.neighbors]]
        return Pairs(pairs.vectors[kept], pairs.centers[kept], pairs.neighbors[kept])


def without(labels: dict[str, np.ndarray], found: dict[str, bool], part: dict[str, Any]) -> dict[str, np.ndarray]:
    """Labels of a frame less what a modifier says of it; labels that were not found stay as they are."""
    names = {"energy": "energy", "force": "forces", "virial": "virial"}
    taken = {key: labels[key] - np.reshape(part[names[key]], labels[key].shape) for key in names if found.get(key)}
    return {**labels, **taken}


def per_atom(key: str) -> bool:
    """Whether a label has a leading n_atoms in a batch."""
    return key in BY_ATOM or key_field(key).per_atom


def arranged(key: str, value: np.ndarray, order: np.ndarray, n_all: int) -> np.ndarray:
    """The values of one frame [1, ...] with the atoms in another order, as `Batch.labels` holds them."""
    if key in BY_ATOM:
        value = value.reshape(1, n_all, 3, -1)
    elif key == "hessian":
        blocks = value.reshape(n_all, 3, n_all, 3)[order][:, :, order]
        return blocks.reshape(1, 3 * len(order), 3 * len(order))
    return value[0][order] if per_atom(key) else value


def merge(singles: list[Batch]) -> Batch:
    """Several single-frame batches as one, atoms sorted by type again."""
    offsets = np.cumsum([0] + [len(b.types) for b in singles])
    types = np.concatenate([b.types for b in singles])
    frame = np.concatenate([np.full(len(b.types), k, dtype=np.int32) for k, b in enumerate(singles)])
    order = np.argsort(types, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    counts = np.concatenate([np.diff(b.first) for b in singles])
    starts = np.cumsum(counts) - counts
    first = np.concatenate([[0], np.cumsum(counts[order])])
    picked = np.repeat(starts[order] - first[:-1], counts[order]) + np.arange(first[-1])
    neighbor = np.concatenate([b.neighbor.astype(np.int64) + offsets[k] for k, b in enumerate(singles)])
    labels: dict[str, Any] = {}
    for key in singles[0].labels:
        joined = np.concatenate([b.labels[key] for b in singles])
        labels[key] = joined[order] if per_atom(key) else joined
    return Batch(
        types=types[order],
        frame=frame[order],
        n_frames=len(singles),
        first=first.astype(np.int64),
        neighbor=rank[neighbor[picked]].astype(np.int32),
        vectors=np.ascontiguousarray(np.concatenate([b.vectors for b in singles])[picked]),
        atoms_per_frame=np.concatenate([b.atoms_per_frame for b in singles]),
        labels=labels,
        found={key: all(b.found[key] for b in singles) for key in labels},
        origin=f"{singles[0].origin.rsplit(' frame ', 1)[0]} frames {', '.join(b.origin.split()[-1] for b in singles)}",
    )
