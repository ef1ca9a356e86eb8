"""Physics checks that hold for any model, and the one table of tolerances."""

from __future__ import annotations

import numpy as np

TOLERANCES: dict[str, tuple[float, str]] = {
    # name: (value, reason)
    "same frames, other container": (0.0, "npy, raw text of 17 digits, HDF5 and mixed sets hold the same float64"),
    "nodes against every neighbour": (
        1e-9,
        "Chebyshev interpolation refined to 1e-12, amplified by sums and derivatives",
    ),
    "same frames, text of 8 digits": (1e-7, "extended xyz as ase writes it rounds positions and forces to 8 decimals"),
    "LAMMPS energy": (1e-10, "sums of up to 100 atoms of some eV in other orders; relative for totals"),
    "LAMMPS force": (1e-9, "LAMMPS wraps positions and carries ghosts: other roundings of the same vectors"),
    "LAMMPS virial": (1e-9, "as the force; converted to pressure and back; relative for totals"),
    "LAMMPS trajectory": (1e-8, "roundings of 1e-14 grow by the rough potential of random weights in 60 steps"),
    "distance": (1e-12, "two orders of summation of one distance of a few A"),
    "closed form": (1e-12, "a few hundred terms of size 1 summed in another order"),
    "closed form, many atoms": (1e-9, "energies and virials of 1e3 eV summed in another order"),
    "wrapping": (1e-11, "positions of 20 A lose digits when a few periods are added"),
    "finite differences": (2e-8, "fourth order with a step of 1e-4 A: rounding of energies of 1 to 10 eV"),
}


def tolerance(name: str) -> float:
    """The tolerance of the table; a name that is not there is an error in the test."""
    return TOLERANCES[name][0]


def assert_close(actual: np.ndarray, expected: np.ndarray, name: str, scale: float = 1.0) -> None:
    """Compare by the absolute tolerance `name`, times the scale of the quantity."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    difference = float(np.abs(actual - expected).max()) if actual.size else 0.0
    limit = tolerance(name) * scale
    assert difference <= limit, f"{name}: largest difference {difference:.3e}, allowed {limit:.3e}"
