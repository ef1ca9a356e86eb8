#!/usr/bin/env python3
"""Labels for the inputs of this folder, made by simple formulas from the positions of ../lmp/data.

They stand in for what an electronic-structure program gives, so that every input runs out of the box: bond charges and
bond polarisabilities for the tensors, a peak for each O-H bond for the density of states, and the mean length of these
bonds for the property. Run `python make_data.py` here; the folder `data` is written anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SOURCE, TARGET = HERE.parent / "lmp" / "data", HERE / "data"
CHARGE = 0.35  # e
ALPHA, ALPHA_BOND = 0.9, 0.5  # A^3, and A
GRID = np.linspace(0.7, 1.4, 25)  # A; bond lengths take the place of energies
WIDTH = 0.05  # A


def bonds(positions: np.ndarray, cell: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Vectors from each oxygen to its two nearest hydrogens, [n_oxygen, 2, 3] in Angstrom."""
    vectors = positions[types == 1][None, :, :] - positions[types == 0][:, None, :]
    fractions = vectors @ np.linalg.inv(cell)
    vectors = (fractions - np.round(fractions)) @ cell
    nearest = np.argsort((vectors**2).sum(axis=2), axis=1)[:, :2]
    return np.take_along_axis(vectors, nearest[:, :, None], axis=1)


def labels(positions: np.ndarray, cell: np.ndarray, types: np.ndarray) -> dict[str, np.ndarray]:
    """All labels of one frame; atomic ones are zero for hydrogen."""
    b = bonds(positions, cell, types)
    lengths = np.linalg.norm(b, axis=2)
    n, oxygen = len(types), types == 0
    dipole, polar, dos = np.zeros((n, 3)), np.zeros((n, 9)), np.zeros((n, len(GRID)))
    dipole[oxygen] = CHARGE * b.sum(axis=1)
    polar[oxygen] = (ALPHA * np.eye(3) + ALPHA_BOND * np.einsum("nka,nkb->nab", b, b)).reshape(-1, 9)
    dos[oxygen] = np.exp(-(((GRID - lengths[:, :, None]) / WIDTH) ** 2)).sum(axis=1)
    return {
        "atomic_dipole": dipole.ravel(), "dipole": dipole.sum(axis=0),
        "atomic_polarizability": polar.ravel(), "polarizability": polar.sum(axis=0),
        "atom_dos": dos.ravel(), "dos": dos.sum(axis=0),
        "bond": np.array([lengths.mean(), lengths.std()]),
    }  # fmt: skip


def main() -> None:
    """Copies each system and adds the labels."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for path in sorted(SOURCE.rglob("type.raw")):
        folder = TARGET / path.parent.relative_to(SOURCE)
        (folder / "set.000").mkdir(parents=True)
        for name in ("type.raw", "type_map.raw"):
            shutil.copy(path.parent / name, folder / name)
        types = np.loadtxt(path, dtype=int)
        given = {name: np.load(path.parent / "set.000" / f"{name}.npy") for name in ("coord", "box")}
        frames = zip(given["coord"], given["box"], strict=True)
        made = [labels(x.reshape(-1, 3).astype(float), c.reshape(3, 3).astype(float), types) for x, c in frames]
        for name, values in {**given, **{key: np.array([one[key] for one in made]) for key in made[0]}}.items():
            np.save(folder / "set.000" / f"{name}.npy", values)


if __name__ == "__main__":
    main()
