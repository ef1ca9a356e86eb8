"""The schema of the fittings of other outputs than the energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dargs import Argument

from .fitting_shared import RCOND, check_common, check_rcond, network_arguments, parameter_arguments
from .messages import require


def _selection(alias: str) -> Argument:
    return Argument(
        "sel_type",
        [list[int], int, None],
        optional=True,
        default=None,
        alias=[alias],
        doc="Types whose atoms carry the tensor, such as [0]; the others give zero. Files of atomic labels may hold "
        "these atoms alone. null means all types.",
    )


def _dipole() -> Argument:
    fields = [*parameter_arguments(), *network_arguments(), _selection("dipole_type")]
    return Argument("dipole", dict, fields, doc="The dipole of each atom, whose sum is the dipole of the frame.")


def _polar() -> Argument:
    fields = [
        *parameter_arguments(),
        *network_arguments(),
        _selection("pol_type"),
        Argument("fit_diag", bool, optional=True, default=True, doc="Fit a diagonal matrix, not a symmetric one."),
        Argument(
            "scale",
            [list[float], float],
            optional=True,
            default=1.0,
            doc="Factor of the outputs, one number or one per type.",
        ),
        Argument(
            "shift_diag",
            bool,
            optional=True,
            default=True,
            doc="Start from a multiple of the unit matrix that is taken from the labels.",
        ),
    ]
    return Argument("polar", dict, fields, doc="The polarisability of each atom, whose sum is that of the frame.")


def _dos() -> Argument:
    fields = [
        *parameter_arguments(),
        *network_arguments("float64"),
        Argument("numb_dos", int, optional=True, default=300, doc="Points of the energy grid."),
        Argument("rcond", [float, None], optional=True, default=None, doc=RCOND),
    ]
    return Argument("dos", dict, fields, doc="The density of states of each atom, whose sum is that of the frame.")


def _property() -> Argument:
    fields = [
        *parameter_arguments(),
        *network_arguments(),
        Argument("property_name", str, doc="Name of the property; labels come from the file of that name, `NAME.npy`."),
        Argument("task_dim", int, optional=True, default=1, doc="How many numbers the property is."),
        Argument(
            "intensive",
            bool,
            optional=True,
            default=False,
            doc="True: the value of a frame is the mean of its atomic parts. False: it is their sum.",
        ),
        Argument(
            "distinguish_types",
            bool,
            optional=True,
            default=True,
            doc="Whether the mean that is taken off the labels is fitted for each type or is one for all.",
        ),
    ]
    return Argument("property", dict, fields, doc="Any property of a frame.")


def _check_selection(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    check_common(section, path)
    chosen = section["sel_type"]
    if isinstance(chosen, int):
        chosen = section["sel_type"] = [chosen]
    for index, one in enumerate(chosen or []):
        good = 0 <= one < len(type_map)
        require(good, f"{path}/sel_type[{index}]", one, f"a type index from 0 to {len(type_map) - 1}")
    require(chosen is None or len(chosen) > 0, f"{path}/sel_type", chosen, "at least one type, or null for all")


def _check_polar(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    _check_selection(section, path, type_map)
    scale = section["scale"]
    values = scale if isinstance(scale, list) else [scale] * len(type_map)
    good = len(values) == len(type_map) and all(one != 0 for one in values)
    require(good, f"{path}/scale", scale, f"a number other than 0, or {len(type_map)} of them, one per type")


def _check_dos(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    del type_map
    check_common(section, path)
    require(section["numb_dos"] > 0, f"{path}/numb_dos", section["numb_dos"], "a number of points, 1 or more")
    check_rcond(section, path)


def _check_property(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    del type_map
    check_common(section, path)
    name = section["property_name"]
    require(bool(name) and "/" not in name, f"{path}/property_name", name, "a name without slashes, such as 'gap'")
    require(section["task_dim"] > 0, f"{path}/task_dim", section["task_dim"], "a number of values, 1 or more")


KINDS: dict[str, tuple[Callable[[], Argument], Callable[[dict[str, Any], str, list[str]], None]]] = {
    "dipole": (_dipole, _check_selection),
    "polar": (_polar, _check_polar),
    "dos": (_dos, _check_dos),
    "property": (_property, _check_property),
}
