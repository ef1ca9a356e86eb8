"""The array shapes that callers of the inference classes may use, brought to one form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmd.errors import InputError


@dataclass
class Frames:
    """Frames of equal atom count in one form."""

    positions: np.ndarray  # [n_frames, n_atoms, 3]
    types: np.ndarray  # [n_frames, n_atoms], -1 for atoms that only pad
    cells: np.ndarray | None  # [n_frames, 3, 3]
    fparam: np.ndarray | None  # [n_frames, dim_fparam]
    aparam: np.ndarray | None  # [n_frames, n_atoms, dim_aparam]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """For each frame the arguments of `core.Model.evaluate` without padding atoms, and the mask of real atoms."""
        for k in range(len(self)):
            real = self.types[k] >= 0
            yield (
                {
                    "positions": self.positions[k][real],
                    "types": self.types[k][real],
                    "cell": None if self.cells is None else self.cells[k],
                    "fparam": None if self.fparam is None else self.fparam[k],
                    "aparam": None if self.aparam is None else self.aparam[k][real],
                },
                real,
            )


def arrange(coords: Any, cells: Any, atom_types: Any, mixed_type: bool = False) -> Frames:
    """coords (n_frames, 3 n_atoms), (n_frames, n_atoms, 3) or flat; cells (n_frames, 9 or 3, 3), flat or None;
    atom_types (n_atoms), or (n_frames, n_atoms) with mixed_type."""
    types = np.asarray(atom_types)
    if types.size and not np.issubdtype(types.dtype, np.integer):
        raise InputError(f"atom_types has the type {types.dtype}, expected integers (indices into the type map)")
    types = np.atleast_2d(types).astype(np.int64)
    if not mixed_type and len(types) != 1 and (types != types[0]).any():
        raise InputError("atom_types differs between frames; pass mixed_type=True if that is meant")
    n_atoms = types.shape[-1]
    coords = np.asarray(coords, dtype=np.float64)
    if n_atoms == 0 or coords.size % (3 * n_atoms):
        raise InputError(f"coords has {coords.size} numbers, expected a multiple of 3 x {n_atoms} atoms of atom_types")
    positions = coords.reshape(-1, n_atoms, 3)
    n_frames = len(positions)
    if len(types) not in (1, n_frames):
        raise InputError(f"atom_types has {len(types)} frames, coords has {n_frames}; expected as many, or one")
    types = np.broadcast_to(types[:1] if len(types) == 1 else types, (n_frames, n_atoms))
    if cells is not None:
        cells = np.asarray(cells, dtype=np.float64)
        if cells.size not in (9, 9 * n_frames):
            raise InputError(f"cells has {cells.size} numbers, expected 9 or 9 x {n_frames} frames")
        cells = np.broadcast_to(cells.reshape(-1, 3, 3), (n_frames, 3, 3))
    return Frames(positions, types, cells, None, None)


def spread_fparam(value: Any, n_frames: int, dim: int) -> np.ndarray | None:
    """Frame parameters as [n_frames, dim] from n_frames x dim or dim numbers."""
    if value is None:
        return None
    value = np.asarray(value, dtype=np.float64)
    if dim == 0:
        raise InputError(f"fparam was given ({value.size} numbers), but the model takes no frame parameters")
    if value.size not in (dim, n_frames * dim):
        raise InputError(f"fparam has {value.size} numbers, expected {dim} or {n_frames} frames x {dim}")
    return np.broadcast_to(value.reshape(-1, dim), (n_frames, dim))


def spread_aparam(value: Any, n_frames: int, n_atoms: int, dim: int) -> np.ndarray | None:
    """Atomic parameters as [n_frames, n_atoms, dim] from n_frames x n_atoms x dim, n_atoms x dim or dim numbers."""
    if value is None:
        return None
    value = np.asarray(value, dtype=np.float64)
    if dim == 0:
        raise InputError(f"aparam was given ({value.size} numbers), but the model takes no atomic parameters")
    shape = (n_frames, n_atoms, dim)
    for leading in ((n_frames, n_atoms), (1, n_atoms), (1, 1)):
        if value.size == leading[0] * leading[1] * dim:
            return np.broadcast_to(value.reshape(*leading, dim), shape)
    raise InputError(f"aparam has {value.size} numbers, expected {dim} or {n_atoms} atoms x {dim} (for each frame)")
