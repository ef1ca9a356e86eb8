"""Descriptors: one file each, with `argument()` for the schema, `check()` for what types do not say, and
`sel_entries()` for the numbers of neighbours that `auto` leaves to the data.

A new descriptor is a file here, its line in FAMILIES and its name in `deepmd.config.built.BUILT`.
"""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from ..messages import require
from . import dpa2, dpa3, loc_frame, se_a_mask, se_a_tpe, se_atten, se_atten_v2, se_e2_a, se_e2_r, se_e3, se_e3_tebd
from .shared import SelEntry

FAMILIES = {
    "se_e2_a": se_e2_a,
    "se_e2_r": se_e2_r,
    "se_e3": se_e3,
    "se_atten": se_atten,
    "se_atten_v2": se_atten_v2,
    "se_e3_tebd": se_e3_tebd,
    "dpa2": dpa2,
    "dpa3": dpa3,
    "se_a_tpe": se_a_tpe,
    "loc_frame": loc_frame,
    "se_a_mask": se_a_mask,
}


def _choice(with_hybrid: bool) -> Variant:
    choices = [family.argument() for family in FAMILIES.values()]
    if with_hybrid:
        doc = "The descriptors, each as it would be alone."
        parts = Argument("list", list, [], [_choice(False)], repeat=True, doc=doc)
        choices.append(Argument("hybrid", dict, [parts], doc="Several descriptors side by side."))
    return Variant("type", choices, doc="The kind of descriptor.")


def argument() -> Argument:
    """The schema of `model/descriptor`."""
    doc = "How the surroundings of an atom become numbers without orientation."
    return Argument("descriptor", dict, [], [_choice(True)], doc=doc)


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """Check the values of a descriptor section whose types are right."""
    if section["type"] == "hybrid":
        require(len(section["list"]) > 0, f"{path}/list", section["list"], "at least one descriptor")
        kinds = [part["type"] for part in section["list"]]
        require("se_a_mask" not in kinds, f"{path}/list", kinds, "no se_a_mask, which stands alone")
    for part, where in _parts(section, path):
        FAMILIES[part["type"]].check(part, where, type_map)


def sel_entries(section: dict[str, Any], path: str = "model/descriptor") -> list[SelEntry]:
    """Every number of neighbours in a descriptor section."""
    return [e for part, where in _parts(section, path) for e in FAMILIES[part["type"]].sel_entries(part, where)]


def _parts(section: dict[str, Any], path: str) -> list[tuple[dict[str, Any], str]]:
    if section["type"] != "hybrid":
        return [(section, path)]
    return [(part, f"{path}/list[{k}]") for k, part in enumerate(section["list"])]
