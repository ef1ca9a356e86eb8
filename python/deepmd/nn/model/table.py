"""Tables of pair energies: reading, continuation up to the cutoff, and cubic pieces.

The file has the distance (Angstrom, even steps) in its first column and the energy (eV) of the pairs 0-0, 0-1, ...,
1-1, ... in the others. Between two points stands a cubic with the slopes of the spline that is flat at both ends.
A table that ends before the cutoff is continued by zeros if it ends with zeros, else by one cubic that starts with
the table's last slope and reaches zero with slope zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepmd.errors import InputError


@dataclass
class Table:
    """values [n_points, 1 + n_pairs], first column the distance; coefficients [n_types, n_types, n_pieces, 4]."""

    values: np.ndarray
    coefficients: np.ndarray  # of u^3, u^2, u, 1 with u in [0, 1) inside a piece

    @property
    def start(self) -> float:
        return float(self.values[0, 0])

    @property
    def step(self) -> float:
        return float(self.values[1, 0] - self.values[0, 0])

    @property
    def n_types(self) -> int:
        return self.coefficients.shape[0]

    @property
    def n_pieces(self) -> int:
        return self.coefficients.shape[2]


def read_table(path: str | Path, rcut: float, n_types: int) -> Table:
    """The table of a file for `n_types` types and a cutoff in Angstrom."""
    try:
        values = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except OSError as error:
        raise InputError(f"{path}: cannot read the table of pair energies: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: the table of pair energies holds something else than numbers ({error})") from error
    wanted = 1 + n_types * (n_types + 1) // 2
    if values.shape[1] != wanted or len(values) < 2:
        raise InputError(
            f"{path}: got a table of {values.shape[0]} rows and {values.shape[1]} columns, expected at least 2 rows "
            f"and {wanted} columns: the distance and one energy for each pair of {n_types} types"
        )
    steps = np.diff(values[:, 0])
    if steps[0] <= 0 or np.abs(steps - steps[0]).max() > 1e-6 * steps[0] + 1e-12 * len(steps):
        raise InputError(f"{path}: the distances of the table do not rise in even steps; write it on an even grid")
    values = continued(values, rcut)
    return Table(values, pieces(values, n_types))


def continued(values: np.ndarray, rcut: float) -> np.ndarray:
    """The table with points added up to the first one at or beyond the cutoff."""
    start, step, end = values[0, 0], values[1, 0] - values[0, 0], values[-1, 0]
    n_more = math.ceil((rcut - start) / step - 1e-9) - (len(values) - 1)
    if n_more <= 0:
        return values
    more = np.zeros((n_more, values.shape[1]))
    more[:, 0] = end + step * np.arange(1, n_more + 1)
    last, slope = values[-1, 1:], (values[-1, 1:] - values[-2, 1:]) / step
    if np.any(last != 0):
        length = step * max(n_more - 1, 1)  # zero from the point before the cutoff on
        x = np.minimum((more[:, :1] - end) / length, 1.0)
        more[:, 1:] = last * (1 + 2 * x) * (1 - x) ** 2 + length * slope * x * (1 - x) ** 2
    return np.concatenate([values, more])


def pieces(values: np.ndarray, n_types: int) -> np.ndarray:
    """Coefficients [n_types, n_types, n_pieces, 4] of a table."""
    v = values[:, 1:]
    d = clamped_slopes(v)  # per step
    v0, v1, d0, d1 = v[:-1], v[1:], d[:-1], d[1:]
    one = np.stack([2 * v0 - 2 * v1 + d0 + d1, -3 * v0 + 3 * v1 - 2 * d0 - d1, d0, v0], axis=-1)
    result = np.empty((n_types, n_types, len(v0), 4))
    column = 0
    for a in range(n_types):
        for b in range(a, n_types):
            result[a, b] = result[b, a] = one[:, column]
            column += 1
    return result


def clamped_slopes(v: np.ndarray) -> np.ndarray:
    """Slopes of the cubic spline through the points v [n, m] at unit steps, zero at both ends.

    Source: d[k-1] + 4 d[k] + d[k+1] = 3 (v[k+1] - v[k-1]), solved by elimination.
    """
    n = len(v)
    d = np.zeros_like(v)
    if n < 3:
        return d
    right = 3.0 * (v[2:] - v[:-2])
    upper = np.empty(n - 2)
    upper[0] = 0.25
    right[0] *= 0.25
    for k in range(1, n - 2):
        pivot = 1.0 / (4.0 - upper[k - 1])
        upper[k] = pivot
        right[k] = (right[k] - right[k - 1]) * pivot
    d[n - 2] = right[-1]
    for k in range(n - 4, -1, -1):
        d[k + 1] = right[k] - upper[k] * d[k + 2]
    return d
