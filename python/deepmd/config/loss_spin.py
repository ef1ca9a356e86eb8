"""The schema of the loss of models with spins."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from .built import check_choice
from .messages import require

_TERMS = (
    ("e", "energy", "energy.npy", 0.02, 1.0),
    ("fr", "forces on atoms", "force.npy", 1000, 1.0),
    ("fm", "magnetic forces", "force_mag.npy", 10000, 10.0),
    ("v", "virial", "virial.npy", 0.0, 0.0),
    ("ae", "atomic energies", "atom_ener.npy", 0.0, 0.0),
    ("pf", "forces weighted by atom", "force.npy and atom_pref.npy", 0.0, 0.0),
)


def schema() -> Argument:
    """The fields of `loss` of type ener_spin."""
    fields = []
    for name, quantity, file, start, limit in _TERMS:
        begin = f"Weight of the {quantity} at the start of training; labels come from {file}."
        end = f"Weight of the {quantity} as the learning rate goes to zero."
        fields.append(Argument(f"start_pref_{name}", [float, int], optional=True, default=start, doc=begin))
        fields.append(Argument(f"limit_pref_{name}", [float, int], optional=True, default=limit, doc=end))
    fields += [
        Argument("relative_f", [float, None], optional=True,
                 doc="Divide the error of each force by the length of the labelled force plus this number."),
        Argument("enable_atom_ener_coeff", bool, optional=True, default=False,
                 doc="Take the energy as a sum of atomic energies weighted by atom_ener_coeff.npy."),
        Argument("loss_func", str, optional=True, default="mse", doc="`mse`: squared errors. `mae`: absolute errors."),
        Argument("intensive_ener_virial", bool, optional=True, default=False,
                 doc="Divide squared errors of energy and virial by the square of the number of atoms."),
    ]  # fmt: skip
    return Argument("ener_spin", dict, fields, doc="Errors of energies, forces, magnetic forces and virials.")


def check(section: dict[str, Any], path: str) -> None:
    """Check the values of a section whose types are right."""
    keys = [f"{end}_pref_{name}" for name, *_ in _TERMS for end in ("start", "limit")]
    for key in keys:
        require(section[key] >= 0, f"{path}/{key}", section[key], "a prefactor of 0 or more")
    require(any(section[key] for key in keys), path, 0, "at least one prefactor above 0", "set start_pref_fr")
    check_choice(f"{path}/loss_func", section["loss_func"], "loss/loss_func")
    relative = section.get("relative_f")
    require(relative is None or relative > 0, f"{path}/relative_f", relative, "null or a positive force in eV/Angstrom")
