"""Frames of an extended xyz file as systems, one for each sequence of elements and kind of boundary."""

from __future__ import annotations

import numpy as np

from deepmd.data.sources import Source, memory_set
from deepmd.errors import DataError

_ENERGY = ("energy", "REF_energy", "DFT_energy", "dft_energy")
_FORCE = ("forces", "force", "REF_forces", "DFT_forces", "dft_forces", "dft_force")
_VIRIAL = ("virial", "virials", "REF_virial", "dft_virial")
_STRESS = ("stress", "REF_stress", "DFT_stress", "dft_stress")


def open_extxyz(path: str) -> list[Source]:
    """All frames of the file, in groups of equal elements in equal order; labels must be the same within a group."""
    try:
        from ase.io import iread
    except ImportError:
        raise DataError(f"{path} needs the package ase to be read; pip install ase") from None
    groups: dict[tuple, list] = {}
    frame = -1
    try:
        for frame, atoms in enumerate(iread(path, index=":", format="extxyz")):
            key = (tuple(atoms.get_chemical_symbols()), bool(atoms.pbc.any()))
            groups.setdefault(key, []).append((frame, atoms))
    except DataError:
        raise
    except Exception as error:  # ase raises many kinds for a malformed line
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise DataError(
            f"{path}, frame {frame + 1}: not readable as extended xyz ({reason}); mend that frame"
        ) from None
    if not groups:
        raise DataError(f"{path} holds no frames, expected extended xyz; write it again")
    return [_group(path, key, members, len(groups) > 1) for key, members in groups.items()]


def _group(path: str, key: tuple, members: list, several: bool) -> Source:
    symbols, periodic = key
    names = sorted(set(symbols))
    for frame, atoms in members:
        if periodic and not atoms.pbc.all():
            raise DataError(
                f"{path}, frame {frame}: pbc is {atoms.pbc.tolist()}, expected all or none periodic; make it one"
            )
    arrays = {"coord": np.array([atoms.positions for _, atoms in members])}
    if periodic:
        arrays["box"] = np.array([atoms.cell.array for _, atoms in members])
    for stem, read in (("energy", _energy), ("force", _force), ("virial", _virial)):
        values = [read(atoms) for _, atoms in members]
        missing = [frame for (frame, _), value in zip(members, values, strict=True) if value is None]
        if 0 < len(missing) < len(values):
            raise DataError(
                f"{path}, frame {missing[0]}: no {stem}, which other frames of its kind have; split the file"
            )
        if not missing:
            arrays[stem] = np.array(values, dtype=np.float64)
    types = " ".join(str(names.index(symbol)) for symbol in symbols)
    where = f"{path}#{_formula(symbols)}@{members[0][0]}" if several else path
    chunk = memory_set(path, arrays, [frame for frame, _ in members])
    return Source(where, types, " ".join(names), not periodic, [chunk])


def _formula(symbols: tuple[str, ...]) -> str:
    return "".join(f"{name}{symbols.count(name)}" for name in sorted(set(symbols)))


def _first(places: list[dict], names: tuple[str, ...]):
    return next((np.asarray(place[name]) for place in places for name in names if name in place), None)


def _results(atoms) -> dict:
    return dict(atoms.calc.results) if atoms.calc is not None else {}


def _energy(atoms) -> float | None:
    value = _first([_results(atoms), atoms.info], _ENERGY)
    return None if value is None else float(value)


def _force(atoms) -> np.ndarray | None:
    return _first([_results(atoms), atoms.arrays], _FORCE)


def _virial(atoms) -> np.ndarray | None:
    value = _first([atoms.info, _results(atoms)], _VIRIAL)
    if value is not None:
        return _matrix(value)
    stress = _first([_results(atoms), atoms.info], _STRESS)
    if stress is None or not atoms.pbc.any():
        return None
    return -_matrix(stress) * atoms.get_volume()


def _matrix(values: np.ndarray) -> np.ndarray:
    """A 3x3 matrix from nine numbers or from six in the order xx, yy, zz, yz, xz, xy."""
    if values.size == 6:
        xx, yy, zz, yz, xz, xy = values.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return values.reshape(3, 3)
