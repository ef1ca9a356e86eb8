"""The schema of `model/fitting_net`, one function pair per kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dargs import Argument, Variant

from . import fitting_outputs
from .fitting_shared import check_common, network_arguments, parameter_arguments
from .messages import require


def _energy() -> Argument:
    fields = [
        *parameter_arguments(),
        *network_arguments(),
        Argument(
            "rcond",
            [float, None],
            optional=True,
            default=None,
            doc="Relative cut-off of singular values when the energy of each type is fitted to the data. null "
            "leaves it at the rounding error.",
        ),
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
            doc="Whether atomic parameters only say which atoms are real; false here.",
        ),
    ]
    return Argument("ener", dict, fields, doc="The potential energy, and forces and virial as its derivatives.")


def _check_energy(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    check_common(section, path)
    rcond = section["rcond"]
    require(rcond is None or rcond > 0, f"{path}/rcond", rcond, "null or a positive number")
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
