"""The schema of the losses of tensors, densities of states and properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dargs import Argument

from .messages import listed, require

FUNCTIONS = ("smooth_mae", "mae", "mse", "rmse", "mape")


def _tensor() -> Argument:
    fields = [
        Argument("pref", [float, int], doc="Weight of the tensor of the frame; labels come from dipole.npy or "
                 "polarizability.npy."),
        Argument("pref_atomic", [float, int], doc="Weight of atomic tensors; labels come from atomic_dipole.npy or "
                 "atomic_polarizability.npy."),
        Argument("enable_atomic_weight", bool, optional=True, default=False,
                 doc="Multiply the error of each atom by its weight of atomic_weight.npy."),
    ]  # fmt: skip
    return Argument("tensor", dict, fields, doc="Errors of dipoles or polarisabilities.")


_DOS_TERMS = (
    ("dos", "density of states", "dos.npy", 0.0),
    ("cdf", "running sum of the density of states", "dos.npy", 0.0),
    ("ados", "atomic densities of states", "atom_dos.npy", 1.0),
    ("acdf", "running sums of the atomic densities of states", "atom_dos.npy", 0.0),
)


def _dos() -> Argument:
    fields = []
    for name, quantity, file, value in _DOS_TERMS:
        begin = f"Weight of the {quantity} at the start of training; labels come from {file}."
        default = 1.0 if name == "ados" else value
        fields.append(Argument(f"start_pref_{name}", [float, int], optional=True, default=default, doc=begin))
        end = f"Weight of the {quantity} as the learning rate goes to zero."
        fields.append(Argument(f"limit_pref_{name}", [float, int], optional=True, default=default, doc=end))
    return Argument("dos", dict, fields, doc="Errors of densities of states.")


def _property() -> Argument:
    fields = [
        Argument("loss_func", str, optional=True, default="smooth_mae",
                 doc=f"Function of the error in units of the data's spread: {listed(FUNCTIONS)}."),
        Argument("metric", list[str], optional=True, default=["mae"],
                 doc=f"Errors to show, in the unit of the labels: {listed(FUNCTIONS)}."),
        Argument("beta", [float, int], optional=True, default=1.0,
                 doc="Where `smooth_mae` goes over from a square to an absolute value."),
    ]  # fmt: skip
    return Argument("property", dict, fields, doc="Errors of a property.")


def _check_tensor(section: dict[str, Any], path: str) -> None:
    for key in ("pref", "pref_atomic"):
        require(section[key] >= 0, f"{path}/{key}", section[key], "a weight of 0 or more")
    weights = [section["pref"], section["pref_atomic"]]
    require(any(weights), path, weights, "at least one weight above 0", "set pref or pref_atomic")


def _check_dos(section: dict[str, Any], path: str) -> None:
    keys = [f"{end}_pref_{name}" for name, *_ in _DOS_TERMS for end in ("start", "limit")]
    for key in keys:
        require(section[key] >= 0, f"{path}/{key}", section[key], "a prefactor of 0 or more")
    require(any(section[key] for key in keys), path, 0, "at least one prefactor above 0", "set start_pref_dos")


def _check_property(section: dict[str, Any], path: str) -> None:
    known = section["loss_func"] in FUNCTIONS
    require(known, f"{path}/loss_func", section["loss_func"], f"one of {listed(FUNCTIONS)}")
    for index, one in enumerate(section["metric"]):
        require(one in FUNCTIONS, f"{path}/metric[{index}]", one, f"one of {listed(FUNCTIONS)}")
    require(section["beta"] > 0, f"{path}/beta", section["beta"], "a positive number")


KINDS: dict[str, tuple[Callable[[], Argument], Callable[[dict[str, Any], str], None]]] = {
    "tensor": (_tensor, _check_tensor),
    "dos": (_dos, _check_dos),
    "property": (_property, _check_property),
}
