"""`sel: auto` and the shortest distance, from the neighbours that the training data have."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from deepmd.config.descriptor import sel_entries
from deepmd.config.descriptor.shared import SelEntry
from deepmd.data.system import System
from deepmd.errors import InputError

log = logging.getLogger(__name__)


def resolve_sel(section: dict[str, Any], systems: list[System], skip: bool) -> float | None:
    """Replaces `sel: auto` by numbers; returns the shortest pair distance (Angstrom), None if unknown."""
    entries = sel_entries(section["descriptor"])
    if skip:
        for entry in entries:
            if isinstance(entry.owner[entry.key], str):
                raise InputError(
                    f"{entry.path}: got {entry.owner[entry.key]!r} together with --skip-neighbor-stat, expected "
                    "numbers; give sel as a list or drop the option"
                )
        return None
    counted: dict[tuple[float, bool], tuple[float, np.ndarray]] = {}
    for entry in sorted(entries, key=lambda e: not isinstance(e.owner[e.key], str)):  # `auto` wants every frame
        where = (entry.rcut, entry.by_type)
        if where not in counted:
            counted[where] = _count(entry, systems, section["type_map"])
        _settle(entry, counted[where][1], section["type_map"])
    distance = min((float(found) for found, _ in counted.values()), default=float("inf"))
    return distance if np.isfinite(distance) else None


def _count(entry: SelEntry, systems: list[System], type_map: list[str]) -> tuple[float, np.ndarray]:
    from deepmd.data.check import START_FRAMES
    from deepmd.data.neighbor_stat import neighbor_stat

    most = None if isinstance(entry.owner[entry.key], str) else START_FRAMES
    distance, counts = neighbor_stat(systems, float(entry.rcut), len(type_map), not entry.by_type, max_frames=most)
    log.info("shortest pair distance %.4f Angstrom, largest numbers of neighbours within %g Angstrom %s",
             distance, entry.rcut, list(map(int, counts)))  # fmt: skip
    return distance, counts


def _settle(entry: SelEntry, counts: np.ndarray, type_map: list[str]) -> None:
    """Puts numbers in the place of `auto`, and tells where given ones are below what the data have."""
    from deepmd.data.neighbor_stat import auto_sel

    sel = entry.owner[entry.key]
    if isinstance(sel, str):
        numbers = auto_sel(sel, counts)
        entry.owner[entry.key] = numbers if entry.by_type else numbers[0]
        log.info("%s: auto -> %s", entry.path.rpartition("/")[2], entry.owner[entry.key])
        return
    given = sel if entry.by_type else [int(np.sum(sel))]
    for name, n, limit in zip(type_map if entry.by_type else ["all types"], counts, given, strict=True):
        if n > limit:
            log.warning("sel of %s is %d, the data have up to %d such neighbours; none is dropped, but %d is a better "
                        "norm", name, limit, n, n)  # fmt: skip
