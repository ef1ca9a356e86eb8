"""Write frames as a standard system: type.raw, type_map.raw and numbered sets of npy files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepmd import keys as vocabulary
from deepmd.errors import DataError


def write_system(
    folder: str | os.PathLike,
    types: Sequence[int] | np.ndarray,
    type_map: Sequence[str],
    data: Mapping[str, np.ndarray],
    set_size: int | None = None,
) -> Path:
    """Write one system and return its folder.

    `types` [n_atoms], or [n_frames, n_atoms] for mixed data. `data` maps field names to arrays with frames first:
    positions [n_frames, n_atoms, 3]; cell [n_frames, 3, 3], None or absent for open boundaries; energy [n_frames] and
    so on. All values are written as float64. `set_size` frames go to a set (default: all to one).
    """
    folder = Path(folder)
    types = np.asarray(types, dtype=np.int64)
    arrays = {vocabulary.field(key): np.asarray(value) for key, value in data.items() if value is not None}
    n_frames = len(np.asarray(data["positions"] if "positions" in data else data["coord"]))
    n_atoms = types.shape[-1]
    if types.ndim == 2:
        arrays[vocabulary.FIELDS["types"]] = types
    if types.size and (types.max() >= len(type_map) or types.min() < (-1 if types.ndim == 2 else 0)):
        raise DataError(
            f"types run from {types.min()} to {types.max()}, expected indices into the type_map {list(type_map)}"
        )
    flat = {field: _flat(field, values, n_frames, n_atoms) for field, values in arrays.items()}
    _write_head(
        folder, np.zeros(n_atoms, int) if types.ndim == 2 else types, type_map, "cell" in {f.name for f in flat}
    )
    step = set_size or max(n_frames, 1)
    starts = range(0, n_frames, step)
    digits = max(3, len(str(len(starts) - 1)))
    for number, start in enumerate(starts):
        chunk = folder / f"set.{number:0{digits}d}"
        chunk.mkdir(exist_ok=True)
        for field, values in flat.items():
            np.save(chunk / f"{field.stem}.npy", values[start : start + step])
    return folder


def _flat(field: vocabulary.Field, values: np.ndarray, n_frames: int, n_atoms: int) -> np.ndarray:
    width = field.width(n_atoms)
    fits = values.size % (n_frames * width) == 0 if field.open else values.size == n_frames * width
    if values.shape[:1] != (n_frames,) or not fits:
        raise DataError(
            f"{field.name} has shape {values.shape}, expected {n_frames} frames of {width} numbers; reshape the array"
        )
    flat = values.astype(np.int64 if field.integer else np.float64)
    return flat if field.shape == () and not field.per_atom else flat.reshape(n_frames, -1)


def _write_head(folder: Path, types: np.ndarray, type_map: Sequence[str], periodic: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("set.*")):
        raise DataError(f"{folder} already has sets, expected a new folder; remove it or choose another name")
    (folder / "type.raw").write_text("".join(f"{kind}\n" for kind in types), encoding="utf-8")
    (folder / "type_map.raw").write_text("".join(f"{name}\n" for name in type_map), encoding="utf-8")
    if not periodic:
        (folder / "nopbc").touch()
