"""Keys of the descriptors that have one network for all types and tell types by a vector."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared

MODES = ("concat", "strip")


def type_arguments(bias: bool = False) -> list[Argument]:
    """The type embedding."""
    return [
        Argument("tebd_dim", int, optional=True, default=8, doc="Width of the vector of a type."),
        Argument(
            "use_econf_tebd",
            bool,
            optional=True,
            default=False,
            doc="Make the vectors from electron configurations; only false runs here.",
        ),
        Argument(
            "use_tebd_bias",
            bool,
            optional=True,
            default=bias,
            doc="Whether the layer that makes the vectors has a bias.",
        ),
        Argument(
            "concat_output_tebd",
            bool,
            optional=True,
            default=True,
            doc="Whether the vector of the centre's type is appended to the descriptor.",
        ),
    ]


def mode_argument() -> Argument:
    """How types enter the embedding net."""
    return Argument(
        "tebd_input_mode",
        str,
        optional=True,
        default="concat",
        doc="`concat`: the vectors of the types are inputs of the embedding net beside the distance. `strip`: a second "
        "net of the vectors multiplies the embedding of the distance.",
    )


def check_types(section: dict[str, Any], path: str) -> None:
    """Width and mode of the type embedding."""
    if "tebd_input_mode" in section:
        mode = section["tebd_input_mode"]
        shared.require(mode in MODES, f"{path}/tebd_input_mode", mode, f"one of {shared.listed(MODES)}")
    shared.require(section["tebd_dim"] > 0, f"{path}/tebd_dim", section["tebd_dim"], "a positive width")
    refuse_configurations(section, path)


def refuse_configurations(section: dict[str, Any], path: str) -> None:
    """Electron configurations are documented and not built."""
    flag = section["use_econf_tebd"]
    shared.require(not flag, f"{path}/use_econf_tebd", flag, "false, as this documented option is not built here yet")
