"""Physics checks that hold for any model, and the one table of tolerances."""

from __future__ import annotations

import numpy as np

TOLERANCES: dict[str, tuple[float, str]] = {
    # name: (value, reason)
    "same frames, other container": (0.0, "npy, raw text of 17 digits, HDF5 and mixed sets hold the same float64"),
    "same frames, text of 8 digits": (1e-7, "extended xyz as ase writes it rounds positions and forces to 8 decimals"),
    "distance": (1e-12, "two orders of summation of one distance of a few A"),
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
