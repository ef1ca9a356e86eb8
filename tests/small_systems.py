"""Small made-up systems with labels."""

from __future__ import annotations

import numpy as np


def make_frames(n_frames: int = 5, n_molecules: int = 4, seed: int = 0, periodic: bool = True) -> dict:
    """Water-like molecules on a grid with made-up labels: types, type_map and the arrays of `System.frames`."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n_molecules ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_molecules] * 3.1
    molecule = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    rest = (grid[:, None] + molecule).reshape(-1, 3)
    n_atoms = len(rest)
    data = {
        "positions": rest + rng.normal(0, 0.05, (n_frames, n_atoms, 3)),
        "energy": rng.normal(-10.0 * n_molecules, 0.1, n_frames),
        "force": rng.normal(0, 1, (n_frames, n_atoms, 3)),
    }
    if periodic:
        data["cell"] = np.eye(3) * 3.1 * side + np.tril(rng.normal(0, 0.05, (n_frames, 3, 3)))
        half = rng.normal(0, 1, (n_frames, 3, 3))
        data["virial"] = half + half.transpose(0, 2, 1)
    return {"types": np.tile([0, 1, 1], n_molecules), "type_map": ["O", "H"], "data": data}
