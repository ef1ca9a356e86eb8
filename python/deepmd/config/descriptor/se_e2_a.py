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
    shared.check_rows(section, path, type_map)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    return [shared.SelEntry(section, "sel", section["rcut"], f"{path}/sel", by_type=True)]
