"""The reciprocal part of an Ewald sum: the energy of charges that are smeared to Gaussians, in a periodic cell.

    E = C / (2 pi V) sum_{m != 0} exp(-pi^2 m^2 / beta^2) / m^2 |S(m)|^2,    S(m) = sum_n q_n exp(2 pi i m . r_n)

m runs over the reciprocal vectors h_1 b_1 + h_2 b_2 + h_3 b_3 with |h_a| <= K_a / 2, where K_a is the length of cell
vector a over the spacing, rounded up to an even number. The energy of each smeared charge with itself is part of the
sum; m = 0 is left out, so a net charge meets a uniform background. Source: Zhang et al., J. Chem. Phys. 156, 124107
(2022); Essmann et al., J. Chem. Phys. 103, 8577 (1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COULOMB = 14.39964535475696995031
"""e^2 / (4 pi epsilon_0) in eV Angstrom, to the digits of DeePMD-kit (CODATA 2018: 14.39964548)."""


def grid_sizes(cell: np.ndarray, spacing: float) -> list[int]:
    """K_a for each cell vector: even numbers. cell [3, 3], spacing in Angstrom."""
    whole = np.ceil(np.linalg.norm(cell, axis=1) / spacing).astype(int)
    return [int(n + n % 2) for n in whole]


def ewald_energy(positions: Tensor, charges: Tensor, cell: Tensor, sizes: Sequence[int], beta: float) -> Tensor:
    """The sum above in eV, a scalar that carries a graph. positions [n, 3], charges [n] in e, cell [3, 3], beta in 1/A.

    S(-m) is the conjugate of S(m), so h_1 runs from 0 on and counts twice.
    """
    inverse = torch.linalg.inv(cell)
    fractional = positions @ inverse
    halves = [size // 2 for size in sizes]
    counts = [torch.arange(0 if a == 0 else -halves[a], halves[a] + 1, dtype=cell.dtype) for a in range(3)]
    waves = []
    for a in range(3):
        angle = 2.0 * math.pi * fractional[:, a : a + 1] * counts[a]
        waves.append(torch.polar(torch.ones_like(angle), angle))
    plane = (charges[:, None] * waves[0])[:, :, None] * waves[1][:, None, :]
    s = plane.reshape(len(charges), -1).T @ waves[2]  # [n_1 n_2, n_3]
    index = torch.cartesian_prod(*counts)
    m = index @ inverse.T
    square = (m * m).sum(dim=1)
    origin = (index == 0).all(dim=1)
    square = torch.where(origin, torch.ones_like(square), square)
    factor = torch.exp(-((math.pi / beta) ** 2) * square) / square
    weight = torch.where(index[:, 0] == 0, 1.0, 2.0).masked_fill(origin, 0.0)
    power = (s.real**2 + s.imag**2).reshape(-1)
    return COULOMB / (2.0 * math.pi) * (weight * factor * power).sum() / torch.linalg.det(cell).abs()
