"""A model on whole frames: pairs in, energy, forces and virial out. The plain torch path of tests and self-tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass
class Pairs:
    """The neighbour pairs of one frame, shorter than the cutoff and sorted by centre."""

    vectors: np.ndarray  # [n_pairs, 3] Angstrom
    centers: np.ndarray  # [n_pairs]
    neighbors: np.ndarray  # [n_pairs] owners: the same index whichever image it is


def find_pairs(positions: np.ndarray, cell: np.ndarray | None, rcut: float, pbc: Any = None) -> Pairs:
    """Pairs of one frame by the compiled cell list. positions [n, 3], cell [3, 3] or None."""
    from deepmd.core import Neighbors

    first, index, shift, _ = Neighbors(rcut, 0.0).update(positions, cell, pbc)
    centers = np.repeat(np.arange(len(first) - 1), np.diff(first))
    vectors = positions[index] - positions[centers]
    if cell is not None:
        vectors = vectors + shift @ cell
    near = (vectors**2).sum(axis=1) < rcut**2
    return Pairs(vectors[near], centers[near], index[near].astype(np.int64))


def assemble(pairs: Pairs, gradient: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Forces [n, 3] and virial [3, 3] from pair gradients: F_j -= g, F_i += g, W[a, b] = -sum g[a] vector[b]."""
    forces = np.zeros((n_atoms, 3))
    np.add.at(forces, pairs.neighbors, -gradient)
    np.add.at(forces, pairs.centers, gradient)
    return forces, -gradient.T @ pairs.vectors


def evaluate(
    model: Any,
    pairs: Pairs,
    types: np.ndarray,
    fparam: Any = None,
    aparam: Any = None,
    spin: Any = None,
    atom_virial: bool = False,
) -> dict[str, np.ndarray]:
    """One frame by a torch module (eager or scripted).

    Energy models: energy, forces, virial, atom_energy, with spins force_mag, if asked atom_virial [n, 3, 3].
    Others: the atomic output under the name that the module gives it (atom_dipole, ...) and, where there are
    derivatives, forces [width, n, 3] and virial [width, 3, 3] by component.
    """
    n = len(types)
    inputs = arguments(pairs, types, fparam, aparam, spin)
    result = {key: value.detach().numpy() for key, value in model(*inputs).items()}
    gradient = result.pop("pair_gradient", None)
    if "atom_energy" in result:
        forces, virial = assemble(pairs, gradient, n)
        energies = result["atom_energy"]
        found = {"energy": np.array([energies.sum()]), "forces": forces, "virial": virial, "atom_energy": energies}
        if "spin_gradient" in result:
            found["force_mag"] = -result["spin_gradient"]
        if atom_virial:
            found["atom_virial"] = np.zeros((n, 3, 3))
            np.add.at(found["atom_virial"], pairs.neighbors, -np.einsum("pa,pb->pab", gradient, pairs.vectors))
        return found
    if gradient is not None:
        parts = [assemble(pairs, gradient[:, c], n) for c in range(gradient.shape[1])]
        result["forces"] = np.stack([forces for forces, _ in parts])
        result["virial"] = np.stack([virial for _, virial in parts])
    return result


def arguments(
    pairs: Pairs, types: np.ndarray, fparam: Any = None, aparam: Any = None, spin: Any = None
) -> tuple[Any, ...]:
    """A frame as the arguments of a model's `forward`; fparam [dim], aparam [n, dim], spin [n, 3]."""
    n = len(types)
    frame = None if fparam is None else torch.as_tensor(np.broadcast_to(fparam, (n, np.size(fparam))).copy())
    atomic = None if aparam is None else torch.as_tensor(np.asarray(aparam, dtype=np.float64).reshape(n, -1))
    return (
        torch.as_tensor(pairs.vectors),
        torch.as_tensor(pairs.centers),
        torch.as_tensor(pairs.neighbors),
        torch.as_tensor(np.asarray(types, dtype=np.int64)),
        n,
        frame,
        atomic,
        *(() if spin is None else (torch.as_tensor(np.asarray(spin, dtype=np.float64).reshape(n, 3)),)),
    )
