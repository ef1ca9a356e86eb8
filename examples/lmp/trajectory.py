"""Read LAMMPS dumps and i-PI trajectories, compare two of them, and compute radial distribution functions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Trajectory:
    """One run: steps [n_frames], positions [n_frames, n_atoms, 3] (Angstrom), elements, length of the cube."""

    steps: np.ndarray
    positions: np.ndarray
    elements: np.ndarray
    length: float

    def after(self, step: int) -> Trajectory:
        """The frames from `step` on."""
        wanted = self.steps >= step
        return Trajectory(self.steps[wanted], self.positions[wanted], self.elements, self.length)


def read_dump(path: Path, names: tuple[str, ...] = ("O", "H")) -> Trajectory:
    """A LAMMPS dump written with `custom ... id type xu yu zu` and sorted by id; names[k] is atom type k + 1."""
    lines = path.read_text().splitlines()
    n_atoms = int(lines[3])
    low, high = map(float, lines[5].split()[:2])
    block = n_atoms + 9
    n_frames = len(lines) // block
    steps = np.array([int(lines[block * k + 1]) for k in range(n_frames)])
    rows = [line.split() for k in range(n_frames) for line in lines[block * k + 9 : block * (k + 1)]]
    table = np.array(rows, dtype=float).reshape(n_frames, n_atoms, 5)
    elements = np.array([names[int(kind) - 1] for kind in table[0, :, 1]])
    return Trajectory(steps, table[:, :, 2:5], elements, high - low)


def read_beads(paths: list[Path], stride: int = 1) -> Trajectory:
    """The xyz files of all beads of an i-PI run, frame by frame and bead by bead."""
    frames, elements, length, steps = [], None, 0.0, []
    for path in paths:
        lines = path.read_text().splitlines()
        n_atoms = int(lines[0])
        block = n_atoms + 2
        for k in range(len(lines) // block):
            rows = [line.split() for line in lines[block * k + 2 : block * (k + 1)]]
            frames.append([[float(x) for x in row[1:4]] for row in rows])
            elements = np.array([row[0] for row in rows])
            steps.append(k * stride)
        length = float(lines[1].split("CELL(abcABC):")[1].split()[0])
    order = np.argsort(np.array(steps), kind="stable")
    return Trajectory(np.array(steps)[order], np.array(frames)[order], elements, length)


def radial_distribution(run: Trajectory, pair: tuple[str, str], n_bins: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Distances r [n_bins] up to half the cell, and g(r) [n_bins] of two elements averaged over the frames."""
    first, second = (np.flatnonzero(run.elements == name) for name in pair)
    edges = np.linspace(0.0, run.length / 2.0, n_bins + 1)
    counts = np.zeros(n_bins)
    for positions in run.positions:
        vectors = positions[second][None] - positions[first][:, None]
        vectors -= run.length * np.round(vectors / run.length)
        distances = np.linalg.norm(vectors, axis=2).ravel()
        counts += np.histogram(distances[distances > 1e-6], edges)[0]
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    n_pairs = len(first) * (len(second) - (pair[0] == pair[1]))
    return 0.5 * (edges[1:] + edges[:-1]), counts / (len(run.steps) * n_pairs) * run.length**3 / shells


def largest_difference(one: Trajectory, other: Trajectory) -> float:
    """The largest difference of any coordinate in any frame, in Angstrom; both runs must hold the same frames."""
    if not np.array_equal(one.steps, other.steps) or not np.array_equal(one.elements, other.elements):
        raise SystemExit("trajectory: the two files do not hold the same steps and atoms")
    vectors = one.positions - other.positions
    vectors -= one.length * np.round(vectors / one.length)
    return float(np.abs(vectors).max())


def main() -> None:
    """`python trajectory.py one.dump other.dump [tolerance]`: status 1 if they differ by more than the tolerance."""
    one, other = (read_dump(Path(name)) for name in sys.argv[1:3])
    tolerance = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-6
    difference = largest_difference(one, other)
    print(f"{len(one.steps)} frames, largest difference of a coordinate {difference:.1e} Angstrom")
    if difference > tolerance:
        raise SystemExit(f"trajectory: the runs differ, expected less than {tolerance:.1e} Angstrom")


if __name__ == "__main__":
    main()
