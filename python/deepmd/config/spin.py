"""The schema of `model/spin`, and old spellings of it."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from .messages import fail, require


def argument() -> Argument:
    """The schema of `model/spin`."""
    fields = [
        Argument("use_spin", [list[bool], list[int], list[str]],
                 doc="Types that carry a spin: true or false for each type, or the indices or names of those that do."),
        Argument("virtual_scale", [float, list[float]],
                 doc="Distance in Angstrom between an atom and its virtual atom for each Bohr magneton of spin: one "
                 "number, one for each type, or one for each type that carries a spin."),
        Argument("scheme", str, optional=True, default="deepspin", doc="How spins enter; 'deepspin': virtual atoms."),
        Argument("allow_missing_label", bool, optional=True, default=False,
                 doc="Whether data without spin.npy count as data with spins of zero."),
    ]  # fmt: skip
    return Argument("spin", [dict, None], fields, optional=True, default=None,
                    doc="Atomic spins as inputs, from spin.npy.")  # fmt: skip


def check(section: dict[str, Any], path: str) -> None:
    """Checks `model/spin` and writes it out: true or false, and a number, for each type (in place)."""
    spin, names = section["spin"], section["type_map"]
    where = f"{path}/spin"
    require(spin["scheme"] == "deepspin", f"{where}/scheme", spin["scheme"], "'deepspin'", "no other scheme runs here")
    spin["use_spin"] = magnetic = _flags(spin["use_spin"], names, f"{where}/use_spin")
    spin["virtual_scale"] = _scales(spin["virtual_scale"], magnetic, f"{where}/virtual_scale")
    fit = section["fitting_net"]["type"]
    require(fit == "ener", f"{path}/fitting_net/type", fit, "'ener', as models with spins predict energies")
    table = section["use_srtab"]
    require(table is None, f"{path}/use_srtab", table, "null, as the model has spins")


def _flags(given: list[Any], names: list[str], path: str) -> list[bool]:
    if given and all(isinstance(one, bool) for one in given):
        require(len(given) == len(names), path, given, f"{len(names)} of true or false, one for each type")
        chosen = [t for t, flag in enumerate(given) if flag]
    else:
        for one in given:
            known = one in names if isinstance(one, str) else 0 <= one < len(names)
            require(known, path, one, f"a type of model/type_map, by name or by an index from 0 to {len(names) - 1}")
        chosen = [names.index(one) if isinstance(one, str) else one for one in given]
    require(len(chosen) > 0, path, given, "at least one type that carries a spin", "leave model/spin out without spins")
    return [t in chosen for t in range(len(names))]


def _scales(given: Any, magnetic: list[bool], path: str) -> list[float]:
    n, n_magnetic = len(magnetic), sum(magnetic)
    values = given if isinstance(given, list) else [given] * n
    good = len(values) in (n, n_magnetic)
    require(good, path, given, f"one number, {n} numbers for the types or {n_magnetic} for those that carry a spin")
    if len(values) < n:
        rest = iter(values)
        values = [next(rest) if flag else 0.0 for flag in magnetic]
    for value, flag in zip(values, magnetic, strict=True):
        require(value > 0 or not flag, path, given, "positive numbers for types that carry a spin")
    return [float(value) if flag else 0.0 for value, flag in zip(values, magnetic, strict=True)]


def upgrade(section: Any, path: str, changes: list[str]) -> None:
    """`virtual_len` over `spin_norm`, the spelling of version 2, is `virtual_scale` (in place)."""
    if not isinstance(section, dict) or not {"virtual_len", "spin_norm"} & set(section):
        return
    lengths, norms = section.pop("virtual_len", None), section.pop("spin_norm", None)
    good = isinstance(lengths, list) and isinstance(norms, list) and len(lengths) == len(norms) and all(norms)
    if not good or "virtual_scale" in section:
        fail(f"{path}/virtual_len", lengths, f"one number for each entry of spin_norm ({norms})", "give virtual_scale")
    section["virtual_scale"] = [length / norm for length, norm in zip(lengths, norms, strict=True)]
    changes.append(f"{path}/virtual_len over spin_norm became {path}/virtual_scale ({section['virtual_scale']})")
