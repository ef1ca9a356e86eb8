"""Shortest pair distance and largest neighbour counts of the training data, and what `sel: auto` makes of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from deepmd.data.distances import pair_finder
from deepmd.data.system import System
from deepmd.errors import DataError, InputError

_CHUNK = 64  # frames read at once


def neighbor_stat(
    systems: Sequence[System], rcut: float, n_types: int, one_type: bool = False, max_frames: int | None = None
) -> tuple[float, np.ndarray]:
    """Shortest distance of two atoms (A; inf if none are nearer than rcut), and the largest number of neighbours.

    The counts [n_types] are by type of the neighbour, each the largest over all atoms and frames; with `one_type` [1],
    the largest count whatever the types. Two atoms on one spot are refused. About `max_frames` frames are looked at
    (None: all), shared among the systems by size and spread evenly in each.
    """
    find = pair_finder(rcut)
    shortest = math.inf
    largest = np.zeros(1 if one_type else n_types, dtype=np.int64)
    chosen = spread_frames(systems, max_frames)
    total = sum(len(frames) for frames in chosen)
    with tqdm(total=total, desc="neighbour statistics", unit="frame", disable=None, delay=2.0) as bar:
        for system, frames in zip(systems, chosen, strict=True):
            for frame, positions, cell, types in real_frames(system, frames):
                i, j, vectors = find(positions, cell)
                bar.update()
                if not len(i):
                    continue
                square = np.einsum("ka,ka->k", vectors, vectors)
                nearest = int(square.argmin())
                if square[nearest] < 1e-12:
                    _refuse_overlap(system, frame, int(i[nearest]), int(j[nearest]))
                shortest = min(shortest, math.sqrt(square[nearest]))
                kinds = np.zeros(len(j), dtype=np.int64) if one_type else types[j]
                counts = np.bincount(i * len(largest) + kinds, minlength=len(positions) * len(largest))
                np.maximum(largest, counts.reshape(-1, len(largest)).max(axis=0), out=largest)
    return shortest, largest


def spread_frames(systems: Sequence[System], most: int | None) -> list[np.ndarray]:
    """Frames to look at in each system: all, or about `most` altogether, at least one a system."""
    total = max(1, sum(system.n_frames for system in systems))
    shares = [system.n_frames if most is None else -(-most * system.n_frames // total) for system in systems]
    return [evenly(system.n_frames, max(share, 1)) for system, share in zip(systems, shares, strict=True)]


def evenly(n_frames: int, most: int) -> np.ndarray:
    """At most `most` frames, evenly from the first to the last."""
    if n_frames <= most:
        return np.arange(n_frames)
    return np.unique(np.linspace(0, n_frames - 1, most).astype(np.int64))


def real_frames(
    system: System, frames: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None, np.ndarray]]:
    """(frame, positions, cell or None, types) of each frame, virtual atoms left out."""
    frames = np.arange(system.n_frames) if frames is None else frames
    for start in range(0, len(frames), _CHUNK):
        part = frames[start : start + _CHUNK]
        data = system.frames(part, keys=())
        for row, frame in enumerate(part):
            real = data["types"][row] >= 0
            cell = None if data["cell"] is None else data["cell"][row]
            yield int(frame), data["positions"][row][real], cell, data["types"][row][real]


def auto_sel(sel: str | int | Sequence[int], max_neighbors: Sequence[int] | np.ndarray) -> list[int]:
    """The numbers that `auto` or `auto:factor` stands for, factor (1.1) times the counts rounded up to fours.

    Numbers are handed back as they are.
    """
    if not isinstance(sel, str):
        return [int(sel)] if isinstance(sel, int) else [int(n) for n in sel]
    match = re.fullmatch(r"auto(?::([0-9.eE+-]+))?", sel.strip())
    try:
        factor = float(match[1] or 1.1) if match else math.nan
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"sel is '{sel}', expected numbers, 'auto' or 'auto:factor' such as auto:1.2")
    found = [4 * ((int(int(count) * factor) + 3) // 4) for count in max_neighbors]
    return found if sum(found) else [4] * len(found)  # the descriptor is divided by the total


def main(args: Any) -> int:
    """`dp neighbor-stat -s SYSTEM -r RCUT -t TYPES...`: print both figures."""
    from deepmd.data.expand import load_systems

    type_map = list(args.type_map or [])
    systems = load_systems(args.system, type_map or None)
    n_types = len(type_map) or max(len(system.type_map) for system in systems)
    distance, counts = neighbor_stat(systems, float(args.rcut), n_types, bool(getattr(args, "mixed_type", False)))
    print(f"min_nbor_dist: {distance:f}")
    print(f"max_nbor_size: {counts.tolist()}")
    return 0


def _refuse_overlap(system: System, frame: int, i: int, j: int) -> None:
    raise DataError(
        f"{system.file_of('positions', frame)}: atoms {i} and {j} are on one spot, expected some "
        "distance; remove the frame"
    )
