"""A guess at the sign of virials from the frames themselves.

With W = -dE/d(strain), W grows when atoms are pressed together. In open boundaries the virial of the forces is known
exactly, sum_i F_i r_i. In a periodic cell two things rise and fall with its trace at a given volume: how close atoms
come (sum of r^-8) and how hard near neighbours push each other apart; and the trace falls when the volume grows.
"""

from __future__ import annotations

import numpy as np

from deepmd.data.distances import pair_finder
from deepmd.data.neighbor_stat import real_frames
from deepmd.data.system import System

AGREES = "sign as expected"
REVERSED = "sign seems reversed"
UNCLEAR = "sign cannot be told from these frames"

_REACH = 3.0  # A
_ENOUGH = 8  # frames below which a correlation says nothing
_CLEAR = 0.4


def sign(system: System, frames: np.ndarray, virial: np.ndarray) -> str:
    """AGREES, REVERSED or UNCLEAR for the virials [n_frames, 3, 3] of the frames [n_frames]."""
    force = system.read("force", frames)[0] if system.has("force") else None
    if not system.periodic:
        return UNCLEAR if force is None else _open_sign(system, frames, virial, force)
    if len(frames) < _ENOUGH:
        return UNCLEAR
    trace = np.trace(virial, axis1=1, axis2=2)
    volume = np.linalg.det(system.read("cell", frames)[0])
    scores = [_partial(signal, trace, volume) for signal in _signals(system, frames, force)]
    if volume.std() > 2e-3 * volume.mean():
        scores.append(-_partial(volume, trace, np.ones_like(volume)))
    score = float(np.mean(scores))
    return AGREES if score > _CLEAR else REVERSED if score < -_CLEAR else UNCLEAR


def _open_sign(system: System, frames: np.ndarray, virial: np.ndarray, force: np.ndarray) -> str:
    positions = system.read("positions", frames)[0]
    exact = np.einsum("fia,fib->fab", force, positions - positions.mean(axis=1, keepdims=True))
    size = float(np.sqrt((exact**2).sum() * (virial**2).sum()))
    score = float((exact * virial).sum()) / size if size > 0 else 0.0
    return AGREES if score > _CLEAR else REVERSED if score < -_CLEAR else UNCLEAR


def _signals(system: System, frames: np.ndarray, force: np.ndarray | None) -> list[np.ndarray]:
    find = pair_finder(_REACH)
    nearness = np.zeros(len(frames))
    push = np.zeros(len(frames))
    for row, (_, positions, cell, types) in enumerate(real_frames(system, frames)):
        i, j, vectors = find(positions, cell)
        if not len(i):
            continue
        r = np.sqrt(np.einsum("ka,ka->k", vectors, vectors))
        nearness[row] = (r**-8.0).sum()
        if force is not None and len(types) == system.n_atoms:
            nearest = np.full(len(positions), np.inf)
            np.minimum.at(nearest, i, r)
            bonded = r < 1.2 * nearest[i]
            difference = force[row, j[bonded]] - force[row, i[bonded]]
            push[row] = np.einsum("ka,ka->", difference, vectors[bonded])
    return [signal for signal in (nearness, push) if signal.std() > 0]


def _partial(signal: np.ndarray, trace: np.ndarray, given: np.ndarray) -> float:
    """Correlation of signal and trace with what depends linearly on `given` taken out of both."""
    basis = np.stack([np.ones_like(given), given / np.abs(given).mean()], axis=1)
    left, right = (values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0] for values in (signal, trace))
    size = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / size if size > 0 else 0.0
