"""From raw text, one frame a line, to sets of npy files: what the shell script raw_to_set.sh used to do."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from deepmd import keys as vocabulary
from deepmd.data import sources
from deepmd.data.system import System
from deepmd.errors import DataError


def raw_to_set(folder: str, lines_per_set: int = 2000) -> list[str]:
    """Write set.000, set.001 ... of `lines_per_set` frames beside the raw files and return their paths."""
    if lines_per_set < 1:
        raise DataError(f"lines_per_set is {lines_per_set}, expected at least 1")
    names = sources.listing(folder)
    present = sorted(name for name in names if name.startswith("set."))
    if present:
        raise DataError(f"{folder} already has {present[0]}, expected raw text only; remove the sets first")
    if "coord.raw" not in names:
        raise DataError(f"{folder} has no coord.raw, expected raw text to convert; give the folder that holds it")
    system = System(sources.open_folder(folder))
    system.check_shapes()
    (chunk,) = system.sets
    starts = range(0, system.n_frames, lines_per_set)
    digits = max(3, len(str(len(starts) - 1)))
    written = []
    for number, start in enumerate(starts):
        path = os.path.join(folder, f"set.{number:0{digits}d}")
        os.mkdir(path)
        for stem in sorted(chunk.stems):
            rows = chunk.array(stem).rows(slice(start, start + lines_per_set), system.n_frames)
            np.save(os.path.join(path, stem + ".npy"), _stored(stem, rows))
        written.append(path)
    return written


def _stored(stem: str, rows: np.ndarray) -> np.ndarray:
    field = vocabulary.field(stem)
    values = rows.astype(np.int64 if field.integer else np.float64)
    return values.ravel() if field.shape == () and not field.per_atom else values


def main(args: Any) -> int:
    """Convert args.folder in sets of args.lines_per_set frames."""
    written = raw_to_set(args.folder, int(args.lines_per_set))
    print(f"wrote {len(written)} set(s): {', '.join(os.path.basename(path) for path in written)}")
    return 0
