"""Neighbour pairs of single frames for checks and statistics: by the compiled list, or by NumPy where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from deepmd.errors import EngineError

_BLOCK = 1_000_000  # distances held at once by the NumPy search

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def pair_finder(rcut: float) -> Callable[[np.ndarray, np.ndarray | None], Pairs]:
    """A function (positions [n, 3], cell [3, 3] or None) -> (i, j, r_j - r_i [n_pairs, 3]) of all pairs within rcut.

    Each pair comes in both directions, sorted by i; periodic images, also of an atom itself, are pairs of their own.
    """
    try:
        from deepmd.core import Neighbors
    except (ImportError, EngineError):
        return lambda positions, cell: numpy_pairs(positions, cell, rcut)
    neighbors = Neighbors(rcut, 0.0)

    def find(positions: np.ndarray, cell: np.ndarray | None) -> Pairs:
        first, index, shift, _ = neighbors.update(positions, cell, None)
        i = np.repeat(np.arange(len(positions)), np.diff(first))
        vectors = positions[index] - positions[i]
        if cell is not None:
            vectors += shift @ cell
        near = np.einsum("ka,ka->k", vectors, vectors) < rcut**2
        return i[near], index[near], vectors[near]

    return find


def numpy_pairs(positions: np.ndarray, cell: np.ndarray | None, rcut: float) -> Pairs:
    """All pairs by comparing every atom with every other; the same result as the compiled list, in another order."""
    if cell is None:
        return _within(positions, rcut, np.zeros((1, 3)))
    inverse = np.linalg.inv(cell)
    wrapped = positions - np.floor(positions @ inverse) @ cell
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    if heights.min() >= 2 * rcut:
        return _nearest_images(wrapped @ inverse, cell, rcut)
    reach = np.ceil(rcut / heights).astype(int)
    shifts = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach])))
    return _within(wrapped, rcut, shifts @ cell)


def _within(positions: np.ndarray, rcut: float, offsets: np.ndarray) -> Pairs:
    found = []
    step = max(1, _BLOCK // max(len(positions), 1))
    for start in range(0, len(positions), step):
        difference = positions[None] - positions[start : start + step, None]
        for offset in offsets:
            moved = difference + offset
            square = np.einsum("ija,ija->ij", moved, moved)
            near = square < rcut**2
            if not offset.any():
                rows = np.arange(len(near))
                near[rows, start + rows] = False
            i, j = np.nonzero(near)
            found.append((i + start, j, moved[i, j]))
    i, j, vectors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(i, kind="stable")
    return i[order], j[order], vectors[order]


def _nearest_images(fractions: np.ndarray, cell: np.ndarray, rcut: float) -> Pairs:
    """Pairs when rcut is at most half of each height of the cell: then only the nearest image can be within it."""
    found = []
    step = max(1, _BLOCK // max(len(fractions), 1))
    for start in range(0, len(fractions), step):
        difference = fractions[None] - fractions[start : start + step, None]
        difference -= np.round(difference)
        vectors = difference @ cell
        near = np.einsum("ija,ija->ij", vectors, vectors) < rcut**2
        rows = np.arange(len(near))
        near[rows, start + rows] = False
        i, j = np.nonzero(near)
        found.append((i + start, j, vectors[i, j]))
    i, j, vectors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return i, j, vectors
