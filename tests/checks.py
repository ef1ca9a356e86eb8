"""Physics checks that hold for any model, and the one table of tolerances.

A check takes ``evaluate(positions, types, cell, pbc)``, which returns energy, forces [n, 3], virial [3, 3], atom_energy
[n] and, where the door has it, atom_virial [n, 3, 3]; and a frame with the attributes positions, types, cell, pbc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    "i-PI": (1e-9, "energies, forces, virials as i-PI writes them with all digits; sums in other orders, relative"),
    "distance": (1e-12, "two orders of summation of one distance of a few A"),
    "closed form": (1e-12, "a few hundred terms of size 1 summed in another order"),
    "closed form, many atoms": (1e-9, "energies and virials of 1e3 eV summed in another order"),
    "wrapping": (1e-11, "positions of 20 A lose digits when a few periods are added"),
    "doors": (1e-9, "the same sums in other orders and, at engines, with other units and other images of the atoms"),
    "spectral compression": (
        5e-6,
        "the tolerance of 2e-6 eV/A on stored frames with a margin for stranger ones; relative to the largest value",
    ),
    "exact compression": (5e-8, "the tolerance of 1e-8 eV/A with the same margin"),
    "mixed precision": (1e-4, "float32 networks of random weights: 1e-6 of values of size 1, amplified by derivatives"),
    "invariance": (
        1e-10,
        "the same pairs with positions rounded otherwise, energies of 1e2 eV in another order",
    ),
    "derivatives of a rough model": (
        1e-6,
        "fourth order with a step of 2e-4 A; fifth derivatives reach 1e9",
    ),
    "energy at the cutoff": (1e-9, "the weight falls with the third power of the distance to the cutoff, here 1e-4 A"),
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


# ------------------------------------------------------------------------------------------------- physics checks

Evaluate = Callable[..., dict[str, Any]]


def of_frame(evaluate: Evaluate, frame: Any, **changes: Any) -> dict[str, np.ndarray]:
    """The results for a frame with some of its parts exchanged."""
    parts = {name: getattr(frame, name, None) for name in ("positions", "types", "cell", "pbc")} | changes
    result = evaluate(parts["positions"], parts["types"], parts["cell"], parts["pbc"])
    shapes = {"energy": (), "forces": (-1, 3), "virial": (3, 3), "atom_energy": (-1,), "atom_virial": (-1, 3, 3)}
    return {name: np.reshape(result[name], shape) for name, shape in shapes.items() if name in result}


def periodic_axes(frame: Any) -> np.ndarray:
    """Flags of the periodic axes, [3]."""
    if frame.cell is None:
        return np.zeros(3, dtype=bool)
    return np.ones(3, dtype=bool) if frame.pbc is None else np.asarray(frame.pbc, dtype=bool)


def assert_equal_physics(result: dict, expected: dict, name: str = "invariance", scale: float = 1.0) -> None:
    """Compares everything that both results hold."""
    for quantity in expected.keys() & result.keys():
        try:
            assert_close(result[quantity], expected[quantity], name, scale)
        except AssertionError as problem:
            raise AssertionError(f"{quantity}: {problem}") from None


def check_parts_add_up(evaluate: Evaluate, frame: Any) -> None:
    """Atomic energies and virials add up to the totals; there is no net force, and no net torque on an open frame."""
    result = of_frame(evaluate, frame)
    assert_close(result["atom_energy"].sum(), result["energy"], "invariance")
    if "atom_virial" in result:
        assert_close(result["atom_virial"].sum(axis=0), result["virial"], "invariance")
    assert_close(result["forces"].sum(axis=0), np.zeros(3), "invariance")
    assert_close(result["virial"], result["virial"].T, "invariance")  # the torque: sum_k F_k[a] r_k[b] is symmetric


def check_translation(evaluate: Evaluate, frame: Any) -> None:
    moved = of_frame(evaluate, frame, positions=frame.positions + np.array([1.37, -2.61, 0.83]))
    assert_equal_physics(moved, of_frame(evaluate, frame))


def check_rotation_and_inversion(evaluate: Evaluate, frame: Any, rng: np.random.Generator) -> None:
    """A proper rotation turns forces and virial; inversion of an open frame turns the forces round."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    expected = of_frame(evaluate, frame)
    for matrix in (turn, -turn) if frame.cell is None else (turn,):
        cell = None if frame.cell is None else frame.cell @ matrix.T
        turned = of_frame(evaluate, frame, positions=frame.positions @ matrix.T, cell=cell)
        back = {**expected, "forces": expected["forces"] @ matrix.T}
        for name in ("virial", "atom_virial"):
            if name in back:
                back[name] = matrix @ back[name] @ matrix.T
        assert_equal_physics(turned, back)


def check_permutation(evaluate: Evaluate, frame: Any, rng: np.random.Generator) -> None:
    """The order of the atoms has no meaning."""
    order = rng.permutation(len(frame.types))
    permuted = of_frame(evaluate, frame, positions=frame.positions[order], types=frame.types[order])
    expected = of_frame(evaluate, frame)
    back = {name: value[order] if name.startswith(("forces", "atom_")) else value for name, value in expected.items()}
    assert_equal_physics(permuted, back)


def check_replication(evaluate: Evaluate, frame: Any, counts: tuple[int, int, int] = (2, 1, 3)) -> None:
    """A cell repeated along its periodic axes has that many times the energy and virial, and the same forces."""
    counts = np.where(periodic_axes(frame), counts, 1)
    if counts.prod() == 1:
        return
    grid = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (grid @ frame.cell)[:, None] + frame.positions
    larger = of_frame(
        evaluate, frame, positions=positions.reshape(-1, 3), types=np.tile(frame.types, len(grid)),
        cell=frame.cell * counts[:, None],
    )  # fmt: skip
    expected = {}
    for name, value in of_frame(evaluate, frame).items():
        repeated = np.concatenate([value] * len(grid)) if name.startswith(("forces", "atom_")) else len(grid) * value
        expected[name] = repeated
    assert_equal_physics(larger, expected, scale=float(len(grid)))


def check_wrapping(evaluate: Evaluate, frame: Any, rng: np.random.Generator) -> None:
    """Atoms may stand in any periodic image."""
    if frame.cell is None:
        return
    images = rng.integers(-2, 3, (len(frame.types), 3)) * periodic_axes(frame)
    assert_equal_physics(
        of_frame(evaluate, frame, positions=frame.positions + images @ frame.cell), of_frame(evaluate, frame)
    )


def check_lattice_reduction(evaluate: Evaluate, frame: Any) -> None:
    """The same lattice written with other, more skewed vectors."""
    if not periodic_axes(frame).all():
        return
    mix = np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]])
    assert_equal_physics(of_frame(evaluate, frame, cell=mix @ frame.cell), of_frame(evaluate, frame))


def derivative(function: Callable[[float], float], step: float = 2e-4) -> float:
    """Fourth-order central difference at zero."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8.0 * near - far) / (12.0 * step)


def check_forces(evaluate: Evaluate, frame: Any, atoms: int | None = None) -> None:
    """Forces are -dE/dr: every component of the first `atoms` atoms (None: all)."""
    forces = of_frame(evaluate, frame)["forces"]
    for i in range(len(frame.types) if atoms is None else min(atoms, len(frame.types))):
        for a in range(3):

            def energy(step: float, i: int = i, a: int = a) -> float:
                positions = frame.positions.copy()
                positions[i, a] += step
                return float(of_frame(evaluate, frame, positions=positions)["energy"])

            assert_close(-derivative(energy), forces[i, a], "derivatives of a rough model")


def check_virial(evaluate: Evaluate, frame: Any) -> None:
    """virial[a][b] is -dE/d(strain_ab) with r_a += strain_ab r_b, for all nine components."""
    virial = of_frame(evaluate, frame)["virial"]
    for a in range(3):
        for b in range(3):

            def energy(step: float, a: int = a, b: int = b) -> float:
                deform = np.eye(3)
                deform[b, a] += step
                cell = None if frame.cell is None else frame.cell @ deform
                return float(of_frame(evaluate, frame, positions=frame.positions @ deform, cell=cell)["energy"])

            assert_close(-derivative(energy), virial[a, b], "derivatives of a rough model", scale=10.0)


def check_cutoff(evaluate: Evaluate, types: tuple[int, int], rcut: float) -> None:
    """A pair goes through the cutoff with continuous energy, force and second derivative, and has no force beyond."""

    def pair(distance: float) -> dict[str, np.ndarray]:
        positions = np.array([[0.1, 0.2, 0.3], [0.1 + distance, 0.2, 0.3]])
        return of_frame(evaluate, None, positions=positions, types=np.array(types), cell=None, pbc=None)

    outside = pair(rcut + 1e-4)
    assert not outside["forces"].any()
    assert_close(pair(rcut - 1e-4)["energy"], outside["energy"], "energy at the cutoff")
    assert_close(pair(rcut + 5.0)["energy"], outside["energy"], "invariance")
    far, near = (abs(pair(rcut - distance)["forces"][0, 0]) for distance in (2e-2, 1e-2))
    assert near <= 0.35 * far, f"the force falls from {far:.2e} to {near:.2e} over half the way, expected a quarter"


def check_isolated_atoms(evaluate: Evaluate, n_types: int, rcut: float) -> None:
    """Atoms out of each other's reach feel nothing, and their energies are those of single atoms."""
    types = np.arange(n_types)
    positions = np.zeros((n_types, 3))
    positions[:, 1] = 1.5 * rcut * types
    apart = of_frame(evaluate, None, positions=positions, types=types, cell=None, pbc=None)
    assert not apart["forces"].any() and not apart["virial"].any()
    for t in types:
        alone = of_frame(evaluate, None, positions=positions[:1], types=types[t : t + 1], cell=None, pbc=None)
        assert_close(alone["energy"], apart["atom_energy"][t], "invariance")
