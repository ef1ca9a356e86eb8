"""se_e2_a with one embedding net whose output is combined by vectors of the types."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_a_tpe."""
    return Argument(
        "se_a_tpe",
        dict,
        [
            shared.sel_argument(),
            *shared.cutoff_arguments(),
            *shared.embedding_arguments(),
            *shared.exclusion_arguments(),
            Argument("type_nchanl", int, optional=True, default=4, doc="Width of the vector of a type."),
            Argument("type_nlayer", int, optional=True, default=2, doc="Layers of the net that makes the vectors."),
            Argument("numb_aparam", int, optional=True, default=0, doc="Atomic parameters of the neighbours; 0 here."),
        ],
        alias=["se_a_ebd"],
        doc="As se_e2_a, with one embedding net for all types and a vector for each type.",
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_cutoff(section, path)
    shared.check_sel(section["sel"], f"{path}/sel", type_map)
    shared.check_embedding(section, path)
    shared.check_rows(section, path, type_map)
    for key in ("type_nchanl", "type_nlayer"):
        shared.require(section[key] > 0, f"{path}/{key}", section[key], "a number above 0")
    n = section["numb_aparam"]
    shared.require(n == 0, f"{path}/numb_aparam", n, "0, as this documented option is not built here yet")


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    return [shared.SelEntry(section, "sel", section["rcut"], f"{path}/sel", by_type=True)]
