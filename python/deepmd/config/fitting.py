"""The schema of `model/fitting_net`, one function pair per kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dargs import Argument, Variant

from . import fitting_outputs
from .fitting_shared import RCOND, check_common, check_rcond, network_arguments, parameter_arguments
from .messages import require


def _energy() -> Argument:
    fields = [
        *parameter_arguments(),
        *network_arguments(),
        Argument("rcond", [float, None], optional=True, default=None, doc=RCOND),
        Argument(
            "atom_ener",
            list[float | None],
            optional=True,
            default=[],
            doc="One entry per type. A number marks a type whose energy vanishes for an isolated atom: what the net "
            "gives for an empty neighbourhood is taken off. null leaves the type as it is. The number itself is "
            "not used as a bias; `model/preset_out_bias` sets one. Use it with `set_davg_zero`.",
        ),
        Argument(
            "use_aparam_as_mask",
            bool,
            optional=True,
            default=False,
            doc="Whether the atomic parameter only says which atoms are there, 1 or 0; goes with se_a_mask.",
        ),
    ]
    return Argument("ener", dict, fields, doc="The potential energy, and forces and virial as its derivatives.")


def _check_energy(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    check_common(section, path)
    check_rcond(section, path)
    energies = section["atom_ener"]
    require(
        len(energies) in (0, len(type_map)),
        f"{path}/atom_ener",
        energies,
        f"an empty list or {len(type_map)} entries, one number or null per type of model/type_map",
    )


KINDS: dict[str, tuple[Callable[[], Argument], Callable[[dict[str, Any], str, list[str]], None]]] = {
    "ener": (_energy, _check_energy),
    **fitting_outputs.KINDS,
}


def argument() -> Argument:
    """The schema of `model/fitting_net`."""
    choice = Variant(
        "type", [schema() for schema, _ in KINDS.values()], optional=True, default_tag="ener", doc="What is fitted."
    )
    return Argument("fitting_net", dict, [], [choice], doc="The net from the descriptor to the fitted property.")


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """Check the values of a fitting section whose types are right."""
    KINDS[section["type"]][1](section, path, type_map)
