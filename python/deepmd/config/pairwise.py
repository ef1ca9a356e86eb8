"""The schema of `model` of type pairwise_dprc: quantum atoms, and quantum atoms with each molecule around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dargs import Argument, Variant

from .messages import require

PARTS = {
    "qm_model": "The energy of the quantum atoms alone.",
    "qmmm_model": "The energy of the quantum atoms together with one fragment, summed over the fragments.",
}


def argument(kinds: list[Argument], common: list[Argument]) -> Argument:
    """kinds: what each part can be; common: keys of all of these."""
    fields = []
    for name, doc in PARTS.items():
        names = Argument("type_map", list[str], optional=True, doc="Names of the types, those of the whole.")
        kind = Variant("type", kinds, optional=True, default_tag="standard", doc="The kind of part.")
        fields.append(Argument(name, dict, [names, *common], [kind], doc=doc))
    words = "Quantum atoms in a force field; aparam.npy is 0 for them and a number for each fragment."
    return Argument("pairwise_dprc", dict, fields, doc=words)


def check(section: dict[str, Any], path: str, check_model: Callable[[dict[str, Any], str], None]) -> None:
    """Checks both parts; check_model: that of a whole model section."""
    for key in PARTS:
        part, where = section[key], f"{path}/{key}"
        part.setdefault("type_map", list(section["type_map"]))
        names = part["type_map"]
        require(names == section["type_map"], f"{where}/type_map", names, "that of the whole")
        check_model(part, where)
        fit = part.get("fitting_net") or {}
        require(fit.get("type", "ener") == "ener", f"{where}/fitting_net/type", fit.get("type"), "'ener'")
        for name in ("numb_fparam", "numb_aparam"):
            words = "0, as aparam names the fragments"
            require(fit.get(name, 0) == 0, f"{where}/fitting_net/{name}", fit.get(name), words)
        for index, value in enumerate(fit.get("atom_ener") or []):
            words = "null or 0, as the energies of the quantum types are fitted to the data"
            require(value in (None, 0), f"{where}/fitting_net/atom_ener[{index}]", value, words)
        for name in ("spin", "use_srtab"):
            require(part.get(name) is None, f"{where}/{name}", part.get(name), "null in a part of pairwise_dprc")
    require(section.get("modifier") is None, f"{path}/modifier", section.get("modifier"), "null for pairwise_dprc")
