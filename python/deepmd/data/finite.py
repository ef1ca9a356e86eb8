"""Search of stored arrays for NaN and inf."""

from __future__ import annotations

import math

import numpy as np

from deepmd.data.system import System
from deepmd.keys import Field

_BLOCK_BYTES = 16 << 20


def first_bad(system: System, kind: Field, index: int) -> str | None:
    """The first value of one array that is not finite, in words; None if all are.

    Only the extremes of each block are computed, without a copy: NaN and inf show there.
    """
    array, n_frames = system.array(kind, index)
    width = max(1, math.prod(array.shape) // n_frames)
    step = max(1, _BLOCK_BYTES // (8 * width))
    count, first = 0, None
    for start in range(0, n_frames, step):
        rows = array.rows(slice(start, start + step), n_frames)
        if np.isfinite(rows.min()) and np.isfinite(rows.max()):
            continue
        bad = np.argwhere(~np.isfinite(rows))
        if first is None:
            row, column = (int(k) for k in bad[0])
            first = (start + row, column, rows[row, column])
        count += len(bad)
    if first is None:
        return None
    frame, column, value = first
    place = ""
    if kind.per_atom or kind.shape == ("3n", "3n"):
        per_atom = max(1, width // system.n_atoms)
        axis = f" ({'xyz'[column % 3]})" if kind.shape == (3,) else ""
        place = f", atom {column // per_atom}{axis}"
    more = f", one of {count} such values" if count > 1 else ""
    number = system.sets[index].number(frame)
    return (
        f"{array.where}, frame {number}{place}: {kind.name} is {value}{more}, expected finite numbers; remove the frame"
    )
