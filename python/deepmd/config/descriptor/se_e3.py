"""The three-body descriptor with an embedding of angles."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_e3."""
    return Argument(
        "se_e3",
        dict,
        [
            shared.sel_argument(),
            *shared.cutoff_arguments(),
            shared.neuron_argument([10, 20, 40]),
            *shared.network_arguments(),
            *shared.exclusion_arguments(),
        ],
        alias=["se_at", "se_a_3be", "se_t"],
        doc="Angles between neighbours, with an embedding of the angle for each pair of types.",
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_cutoff(section, path)
    shared.check_sel(section["sel"], f"{path}/sel", type_map)
    shared.check_neuron(section["neuron"], f"{path}/neuron")
    shared.check_network(section, path)
    shared.check_rows(section, path, type_map)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    return [shared.SelEntry(section, "sel", section["rcut"], f"{path}/sel", by_type=True)]
