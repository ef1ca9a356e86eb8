"""The reciprocal part of an Ewald sum with loops, in float64 NumPy: the judge of `deepmd.nn.ewald`."""

from __future__ import annotations

import itertools
import math

import numpy as np

COULOMB = 14.39964535475696995031  # eV Angstrom, as DeePMD-kit has it


def ewald(positions: np.ndarray, charges: np.ndarray, cell: np.ndarray, spacing: float, beta: float) -> float:
    """E = C / (2 pi V) sum over all m but 0 of exp(-pi^2 m^2 / beta^2) / m^2 |S(m)|^2, in eV."""
    reciprocal = np.linalg.inv(cell).T
    ranges = []
    for vector in cell:
        size = math.ceil(np.linalg.norm(vector) / spacing)
        size += size % 2
        ranges.append(range(-size // 2, size // 2 + 1))
    total = 0.0
    for h in itertools.product(*ranges):
        if h == (0, 0, 0):
            continue
        m = np.array(h) @ reciprocal
        s = sum(q * np.exp(2j * math.pi * (m @ r)) for q, r in zip(charges, positions, strict=True))
        total += math.exp(-((math.pi / beta) ** 2) * (m @ m)) / (m @ m) * abs(s) ** 2
    return COULOMB / (2 * math.pi * abs(np.linalg.det(cell))) * total
