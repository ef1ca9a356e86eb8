"""The schema of `loss`."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from . import loss_outputs, loss_spin
from .built import check_choice
from .messages import require

OTHERS = {"ener_spin": (loss_spin.schema, loss_spin.check), **loss_outputs.KINDS}

# Name, quantity, label file, prefactor at the start and at the limit.
_TERMS = (
    ("e", "energy", "energy.npy", 0.02, 1.0),
    ("f", "forces", "force.npy", 1000, 1.0),
    ("v", "virial", "virial.npy", 0.0, 0.0),
    ("h", "second derivatives of the energy", "hessian.npy", 0.0, 0.0),
    ("ae", "atomic energies", "atom_ener.npy", 0.0, 0.0),
    ("pf", "forces weighted by atom", "force.npy and atom_pref.npy", 0.0, 0.0),
    ("gf", "generalised forces", "drdq.npy", 0.0, 0.0),
)


def _prefactors() -> list[Argument]:
    arguments = []
    for name, quantity, file, start, limit in _TERMS:
        begin = f"Weight of the {quantity} at the start of training; labels come from {file}."
        end = f"Weight of the {quantity} as the learning rate goes to zero."
        arguments.append(Argument(f"start_pref_{name}", [float, int], optional=True, default=start, doc=begin))
        arguments.append(Argument(f"limit_pref_{name}", [float, int], optional=True, default=limit, doc=end))
    return arguments


def _energy() -> Argument:
    fields = [
        *_prefactors(),
        Argument("use_default_pf", bool, optional=True, default=False,
                 doc="Whether data without atom_pref.npy count in the pf term, with 1 for each atom."),
        Argument(
            "relative_f",
            [float, None],
            optional=True,
            doc="Divide the error of each force by the length of the labelled force plus this number, in eV/Angstrom.",
        ),
        Argument(
            "enable_atom_ener_coeff",
            bool,
            optional=True,
            default=False,
            doc="Take the energy as a sum of atomic energies weighted by atom_ener_coeff.npy.",
        ),
        Argument(
            "numb_generalized_coord", int, optional=True, default=0, doc="Number of generalised coordinates of drdq.npy"
        ),
        Argument("loss_func", str, optional=True, default="mse", doc="`mse`: squared errors. `mae`: absolute errors."),
        Argument("use_huber", bool, optional=True, default=False, doc="Squared for small errors, linear for large."),
        Argument(
            "huber_delta",
            [float, list[float]],
            optional=True,
            default=0.01,
            doc="Where the Huber loss becomes linear: one number, or three for energy, forces and virial.",
        ),
        Argument(
            "f_use_norm",
            bool,
            optional=True,
            default=False,
            doc="Take the length of the error of a force instead of its components, with `mae` or Huber.",
        ),
        Argument(
            "intensive_ener_virial",
            bool,
            optional=True,
            default=False,
            doc="Divide squared errors of energy and virial by the square of the number of atoms, not by the number.",
        ),
    ]
    return Argument("ener", dict, fields, alias=["ener_hess"], doc="Errors of energies, forces and virials.")


def argument() -> Argument:
    """The schema of `loss`."""
    others = [schema() for schema, _ in OTHERS.values()]
    choice = Variant("type", [_energy(), *others], optional=True, default_tag="ener", doc="The kind of loss.")
    return Argument(
        "loss",
        dict,
        [],
        [choice],
        optional=True,
        doc="What training makes small. The weight of a term moves from its start value to its limit value in "
        "proportion to the learning rate.",
    )


def check(section: dict[str, Any], path: str = "loss") -> None:
    """Check the values of a section whose types are right."""
    if section.get("type") in OTHERS:
        OTHERS[section["type"]][1](section, path)
        return
    _check_energy(section, path)


def _check_energy(section: dict[str, Any], path: str) -> None:
    for name, *_ in _TERMS:
        for key in (f"start_pref_{name}", f"limit_pref_{name}"):
            require(section[key] >= 0, f"{path}/{key}", section[key], "a prefactor of 0 or more")
    active = [name for name, *_ in _TERMS if section[f"start_pref_{name}"] or section[f"limit_pref_{name}"]]
    weights = [section["start_pref_e"], section["start_pref_f"], section["start_pref_v"]]
    require(bool(active), path, weights, "at least one prefactor above 0", "set start_pref_f and limit_pref_f")
    check_choice(f"{path}/loss_func", section["loss_func"], "loss/loss_func")
    n = section["numb_generalized_coord"]
    wanted = "a number above 0, as start_pref_gf is set" if "gf" in active else "a number of 0 or more"
    require(n > 0 if "gf" in active else n >= 0, f"{path}/numb_generalized_coord", n, wanted)
    relative = section.get("relative_f")
    require(relative is None or relative > 0, f"{path}/relative_f", relative, "null or a positive force in eV/Angstrom")
    _check_huber(section, path, active)


def _check_huber(section: dict[str, Any], path: str, active: list[str]) -> None:
    huber, delta = section["use_huber"], section["huber_delta"]
    deltas = delta if isinstance(delta, list) else [delta] * 3
    require(
        len(deltas) == 3 and all(one > 0 for one in deltas),
        f"{path}/huber_delta",
        delta,
        "a positive number, or three of them for energy, forces and virial",
    )
    norm = section["f_use_norm"]
    require(
        not norm or huber or section["loss_func"] == "mae",
        f"{path}/f_use_norm",
        norm,
        "false, as loss_func is 'mse' and use_huber is false",
        "it goes with loss_func 'mae' or with use_huber",
    )
    clash = "relative_f" if section.get("relative_f") is not None else "pf" if "pf" in active else None
    require(
        not huber or clash is None,
        f"{path}/use_huber",
        huber,
        f"false, as the Huber loss does not go with {'relative_f' if clash == 'relative_f' else 'start_pref_pf'}",
        "keep one of the two",
    )
