"""Coordinates of the nearest neighbours in a frame that two of them span."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is loc_frame."""
    fields = [
        Argument("sel_a", list[int], doc="How many nearest neighbours of each type enter with their coordinates."),
        Argument("sel_r", list[int], doc="How many of those that follow enter with their distance alone."),
        Argument("rcut", float, optional=True, default=6.0, doc="Cutoff radius in Angstrom."),
        Argument(
            "axis_rule",
            list[int],
            optional=True,
            default=[],
            doc="Six numbers for each type: class (0: of sel_a, 1: of sel_r), type and index of the neighbour of the "
            "first axis, and of the second. A type of -(t + 1) stands for all types but t. Empty: the two nearest.",
        ),
    ]
    return Argument("loc_frame", dict, fields, doc="Coordinates of the nearest neighbours in a frame of the atom.")


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    rcut, rule, n = section["rcut"], section["axis_rule"], len(type_map)
    shared.require(rcut > 0, f"{path}/rcut", rcut, "a positive length in Angstrom")
    for key in ("sel_a", "sel_r"):
        sel = section[key]
        good = len(sel) == n and all(one >= 0 for one in sel)
        shared.require(good, f"{path}/{key}", sel, f"{n} numbers of 0 or more, one per type of model/type_map")
    shared.require(sum(section["sel_a"]) > 0, f"{path}/sel_a", section["sel_a"], "at least one neighbour in total")
    shared.require(len(rule) in (0, 6 * n), f"{path}/axis_rule", rule, f"an empty list or {6 * n} numbers")
    for k in range(0, len(rule), 3):
        kind, of_type, index = rule[k : k + 3]
        words = f"class 0 or 1, a type from {-n - 1} to {n - 1} and an index of 0 or more"
        good = kind in (0, 1) and -n - 1 <= of_type < n and index >= 0
        shared.require(good, f"{path}/axis_rule[{k}]", rule[k : k + 3], words)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """None that the data could decide."""
    del section, path
    return []
