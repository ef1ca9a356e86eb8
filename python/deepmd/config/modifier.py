"""The schema of `model/modifier`: what is taken off the labels before a model is trained, and added to its answers."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from .messages import require


def argument() -> Argument:
    """The schema of `model/modifier`."""
    fields = [
        Argument("model_name", str, doc="File of the dipole model: frozen (.pth), a checkpoint or a .dp file."),
        Argument("model_charge_map", list[float],
                 doc="Charge in e of the centroid of each type that the dipole model gives a dipole, in the order of "
                 "its type_map."),
        Argument("sys_charge_map", list[float], doc="Charge in e of the atoms of each type of model/type_map."),
        Argument("ewald_beta", float, optional=True, default=0.4,
                 doc="Width of the smeared charges in 1/Angstrom; in LAMMPS `kspace_modify gewald` must be the same."),
        Argument("ewald_h", float, optional=True, default=1.0,
                 doc="Spacing in Angstrom that sets how many waves are summed."),
    ]  # fmt: skip
    choice = Argument("dipole_charge", dict, fields, doc="Charges on atoms and at the ends of dipoles.")
    kind = Variant("type", [choice], doc="The kind of modifier.")
    words = "Interactions that the model leaves to somebody else, such as long-range electrostatics."
    return Argument("modifier", [dict, None], [], [kind], optional=True, default=None, doc=words)


def check(section: dict[str, Any], path: str) -> None:
    """Checks `model/modifier` of a model section whose own kind has been checked."""
    modifier, where = section.get("modifier"), f"{path}/modifier"
    if modifier is None:
        return
    n_types = len(section["type_map"])
    charges = modifier["sys_charge_map"]
    require(bool(modifier["model_name"].strip()), f"{where}/model_name", modifier["model_name"], "a file name")
    require(len(charges) == n_types, f"{where}/sys_charge_map", charges, f"{n_types} charges, one for each type")
    require(len(modifier["model_charge_map"]) > 0, f"{where}/model_charge_map", [], "one charge for each centroid")
    for key, unit in (("ewald_h", "Angstrom"), ("ewald_beta", "1/Angstrom")):
        require(modifier[key] > 0, f"{where}/{key}", modifier[key], f"a positive number in {unit}")
    kind = (section.get("fitting_net") or {}).get("type", "ener")
    require(kind == "ener", where, modifier, f"null, as the model predicts '{kind}', and modifiers are of energies")
    require(section.get("spin") is None, where, modifier, "null, as the model has spins")
    masked = (section.get("descriptor") or {}).get("type") == "se_a_mask"
    require(not masked, where, modifier, "null, as se_a_mask takes open frames and the modifier periodic ones")
