"""The smooth descriptor with a two-body embedding and full relative coordinates."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_e2_a."""
    return Argument(
        "se_e2_a",
        dict,
        [
            shared.sel_argument(),
            *shared.cutoff_arguments(),
            *shared.embedding_arguments(),
            *shared.exclusion_arguments(),
        ],
        alias=["se_a"],
        doc="Distances and directions of the neighbours, with an embedding of the distance.",
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_cutoff(section, path)
    shared.check_sel(section["sel"], f"{path}/sel", type_map)
    shared.check_embedding(section, path)
    shared.check_pairs(section["exclude_types"], f"{path}/exclude_types", len(type_map))
    protection = section["env_protection"]
    shared.require(protection >= 0, f"{path}/env_protection", protection, "a length of 0 or more in Angstrom")
