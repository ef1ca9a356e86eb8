"""Descriptors: one file each, with `argument()` for the schema and `check()` for what types do not say.

A new descriptor is a file here, its line in FAMILIES and its name in `deepmd.config.built.BUILT`.
"""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from . import se_e2_a

FAMILIES = {"se_e2_a": se_e2_a}


def argument() -> Argument:
    """The schema of `model/descriptor`."""
    choice = Variant("type", [family.argument() for family in FAMILIES.values()], doc="The kind of descriptor.")
    return Argument(
        "descriptor", dict, [], [choice], doc="How the surroundings of an atom become numbers without orientation."
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """Check the values of a descriptor section whose types are right."""
    FAMILIES[section["type"]].check(section, path, type_map)
