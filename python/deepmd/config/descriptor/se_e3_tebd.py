"""The three-body descriptor with one network for all types."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared, typed


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_e3_tebd."""
    return Argument(
        "se_e3_tebd",
        dict,
        [
            shared.total_sel_argument(),
            *shared.cutoff_arguments(),
            shared.neuron_argument([10, 20, 40]),
            *shared.network_arguments(),
            *shared.exclusion_arguments(True),
            *typed.type_arguments(bias=True),
            typed.mode_argument(),
            Argument(
                "smooth",
                bool,
                optional=True,
                default=True,
                doc="Whether the stripped type embedding fades with the switch of both neighbours.",
            ),
        ],
        doc="Angles between neighbours, with one net for all types.",
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_cutoff(section, path)
    shared.check_total_sel(section["sel"], f"{path}/sel")
    shared.check_neuron(section["neuron"], f"{path}/neuron")
    shared.check_network(section, path)
    shared.check_rows(section, path, type_map)
    typed.check_types(section, path)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    return [shared.SelEntry(section, "sel", section["rcut"], f"{path}/sel", by_type=False)]
