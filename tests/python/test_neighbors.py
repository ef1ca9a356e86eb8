"""The cell list against brute force over images, against itself in a replicated cell, and against ASE."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from deepmd.errors import EngineError
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lj import image_shifts

ALL_PBC = list(itertools.product([0, 1], repeat=3))


@pytest.fixture(scope="module", autouse=True)
def _needs_library(compiled):
    return compiled


def listed(positions, cell, rcut, pbc=None, skin=0.0):
    """Rows (i, j, S1, S2, S3) [n_pairs, 5] of the compiled list, sorted, and checked for the order of centres."""
    from deepmd.core import Neighbors

    first, index, shift, rebuilt = Neighbors(rcut, skin).update(positions, cell, pbc)
    assert rebuilt and first[0] == 0 and first[-1] == len(index) == len(shift) and len(first) == len(positions) + 1
    centers = np.repeat(np.arange(len(positions)), np.diff(first))
    rows = np.column_stack([centers, index, shift]).astype(int)
    return rows[np.lexsort(rows.T[::-1])]


def brute_force(positions, cell, rcut, pbc=None):
    """The same rows by trying every image of every atom; positions may lie outside the cell."""
    wraps = np.zeros((len(positions), 3), dtype=int)
    if cell is not None:
        periodic = np.ones(3, dtype=bool) if pbc is None else np.asarray(pbc, dtype=bool)
        full = np.where(periodic[:, None], cell, 0.0)
        wraps = np.where(periodic, np.floor(positions @ np.linalg.pinv(full) + 1e-12), 0).astype(int)
        positions = positions - wraps @ full
    rows = []
    for shift in image_shifts(cell, pbc, rcut):
        vectors = positions[None] - positions[:, None] + (0.0 if cell is None else shift @ cell)
        near = (vectors**2).sum(axis=2) < rcut**2
        if not shift.any():
            np.fill_diagonal(near, False)
        i, j = np.nonzero(near)
        rows.append(np.column_stack([i, j, shift + wraps[i] - wraps[j]]))
    rows = np.concatenate(rows)
    return rows[np.lexsort(rows.T[::-1])]


def random_cell(rng, scale, skew=0.6):
    """A right-handed cell with edges of about `scale`."""
    while True:
        cell = scale * (np.eye(3) * rng.uniform(0.8, 1.3, 3) + rng.uniform(-skew, skew, (3, 3)))
        if np.linalg.det(cell) > 0.3 * scale**3:
            return cell


@pytest.mark.parametrize("pbc", ALL_PBC)
@pytest.mark.parametrize("scale", [0.35, 0.8, 1.7, 3.4])
def test_list_equals_brute_force(pbc, scale):
    rcut = 4.0
    rng = np.random.default_rng(100 * int(scale * 10) + sum(p << k for k, p in enumerate(pbc)))
    for n_atoms in (1, 7, 30):
        cell = random_cell(rng, scale * rcut)
        positions = rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell
        np.testing.assert_array_equal(listed(positions, cell, rcut, pbc), brute_force(positions, cell, rcut, pbc))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.3, 3.0),
    n_atoms=st.integers(0, 12),
    pbc=st.sampled_from(ALL_PBC),
    rcut=st.floats(0.5, 7.0),
)
def test_random_cells_equal_brute_force(seed, scale, n_atoms, pbc, rcut):
    rng = np.random.default_rng(seed)
    cell = random_cell(rng, scale * rcut)
    positions = rng.uniform(-2, 3, (n_atoms, 3)) @ cell
    np.testing.assert_array_equal(listed(positions, cell, rcut, pbc), brute_force(positions, cell, rcut, pbc))


@pytest.mark.parametrize("pbc", ALL_PBC)
def test_list_equals_ase(pbc):
    ase_list = pytest.importorskip("ase.neighborlist").primitive_neighbor_list
    rng = np.random.default_rng(7)
    for scale in (0.6, 1.5, 3.0):
        cell = random_cell(rng, scale * 5.0)
        positions = rng.uniform(0, 1, (25, 3)) @ cell
        i, j, shift = ase_list("ijS", np.array(pbc, dtype=bool), cell, positions, 5.0)
        expected = np.column_stack([i, j, shift]).astype(int)
        expected = expected[np.lexsort(expected.T[::-1])]
        np.testing.assert_array_equal(listed(positions, cell, 5.0, pbc), expected)


def test_replicated_cell_has_the_same_neighbours():
    rng = np.random.default_rng(3)
    cell = random_cell(rng, 3.0)
    positions = rng.uniform(0, 1, (9, 3)) @ cell
    first, index, shift, _ = _update(positions, cell, 5.0)
    single = np.sort(np.linalg.norm(_vectors(positions, cell, first, index, shift), axis=1))
    grid = np.array(list(itertools.product(range(3), repeat=3)))
    many = (positions[None] + (grid @ cell)[:, None]).reshape(-1, 3)
    first, index, shift, _ = _update(many, 3 * cell, 5.0)
    replicated = np.sort(np.linalg.norm(_vectors(many, 3 * cell, first, index, shift), axis=1))
    np.testing.assert_allclose(replicated, np.repeat(single, 27), atol=1e-12)


def _update(positions, cell, rcut, skin=0.0):
    from deepmd.core import Neighbors

    return Neighbors(rcut, skin).update(positions, cell)


def _vectors(positions, cell, first, index, shift):
    centers = np.repeat(np.arange(len(first) - 1), np.diff(first))
    return positions[index] + shift @ cell - positions[centers]


def test_open_slab_and_wire_ignore_what_stands_in_open_directions():
    rng = np.random.default_rng(11)
    cell = random_cell(rng, 3.0)
    positions = rng.uniform(-5, 8, (20, 3))
    for pbc in ALL_PBC[:-1]:
        without = np.where(np.array(pbc, dtype=bool)[:, None], cell, 0.0)
        np.testing.assert_array_equal(listed(positions, without, 4.0, pbc), listed(positions, cell, 4.0, pbc))
    np.testing.assert_array_equal(listed(positions, None, 4.0), listed(positions, cell, 4.0, (0, 0, 0)))


def test_no_atoms_one_atom_and_far_atoms():
    from deepmd.core import Neighbors

    first, index, shift, _ = Neighbors(4.0, 1.0).update(np.zeros((0, 3)))
    assert first.tolist() == [0] and index.size == 0 and shift.shape == (0, 3)
    first, index, _, _ = Neighbors(4.0, 1.0).update(np.zeros((1, 3)))
    assert first.tolist() == [0, 0] and index.size == 0
    # An outlier far away must cost neither memory nor its neighbours.
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [9e8, -9e8, 9e8], [9e8 + 1, -9e8, 9e8]])
    assert listed(positions, None, 4.0)[:, :2].tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


def test_atom_sees_its_own_images():
    cell = np.eye(3) * 3.0
    rows = listed(np.array([[50.0, -7.0, 0.3]]), cell, 3.5)
    assert sorted(map(tuple, rows[:, 2:])) == sorted(
        s for s in itertools.product([-1, 0, 1], repeat=3) if sum(map(abs, s)) == 1
    )


def test_pair_at_the_cutoff_is_left_out():
    positions = np.array([[0.0, 0, 0], [4.0, 0, 0]])
    assert len(listed(positions, None, 4.0)) == 0
    assert len(listed(positions, None, np.nextafter(4.0, 5.0))) == 2


@pytest.mark.parametrize("periodic", [True, False])
def test_skin_keeps_the_list_until_it_is_used_up(periodic):
    from deepmd.core import Neighbors

    rng = np.random.default_rng(5)
    cell = random_cell(rng, 9.0) if periodic else None
    positions = rng.uniform(0, 9, (40, 3))
    neighbors = Neighbors(4.0, 1.0)
    assert neighbors.update(positions, cell)[3]
    assert not neighbors.update(positions, cell)[3]
    moved = positions.copy()
    moved[3] += [0.49, 0, 0]
    assert not neighbors.update(moved, cell)[3]
    moved[3] += [0.02, 0, 0]
    assert neighbors.update(moved, cell)[3]
    assert neighbors.update(moved[:-1], cell)[3]


def test_kept_list_misses_no_pair_while_cell_and_atoms_move():
    from deepmd.core import Neighbors

    rng = np.random.default_rng(6)
    rcut, cell = 4.0, random_cell(rng, 7.0)
    positions = rng.uniform(0, 1, (30, 3)) @ cell
    neighbors = Neighbors(rcut, 0.8)
    n_kept = 0
    for _ in range(60):
        strain = np.eye(3) + rng.normal(0, 0.004, (3, 3))
        cell, positions = cell @ strain, positions @ strain + rng.normal(0, 0.02, positions.shape)
        first, index, shift, rebuilt = neighbors.update(positions, cell)
        n_kept += not rebuilt
        vectors = _vectors(positions, cell, first, index, shift)
        inside = (vectors**2).sum(axis=1) < rcut**2
        rows = np.column_stack([np.repeat(np.arange(30), np.diff(first)), index, shift])[inside]
        np.testing.assert_array_equal(rows[np.lexsort(rows.T[::-1])], brute_force(positions, cell, rcut))
    assert n_kept > 5


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (np.diag([3.0, 3.0, -3.0]), "left-handed"),
        (np.array([[3.0, 0, 0], [3.0, 0, 0], [0, 0, 3.0]]), "singular"),
        (np.array([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 0]]), "length 0"),
        (np.diag([3.0, np.nan, 3.0]), "component 2 of cell vector 2"),
        (np.diag([3.0, np.inf, 3.0]), "component 2 of cell vector 2"),
        (np.diag([1e-7, 5.0, 5.0]), "too flat"),
    ],
)
def test_bad_cells_are_refused_in_words(cell, words):
    with pytest.raises(EngineError, match=words) as caught:
        listed(np.zeros((1, 3)), cell, 3.0)
    assert caught.value.code == "DP_ERROR_GEOMETRY"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_bad_positions_are_refused_in_words(value):
    positions = np.zeros((3, 3))
    positions[:, 0] = [0, 1, 2]
    positions[1, 2] = value
    with pytest.raises(EngineError, match="coordinate z of atom 2"):
        listed(positions, None, 3.0)


def test_bad_arguments_are_refused_in_words():
    from deepmd.core import Neighbors

    with pytest.raises(EngineError, match="positive cutoff"):
        Neighbors(-1.0, 0.0)
    with pytest.raises(EngineError, match="skin of 0 or more"):
        Neighbors(1.0, -0.1)
    with pytest.raises(EngineError, match="without a cell"):
        Neighbors(1.0, 0.0).update(np.zeros((1, 3)), None, [1, 0, 0])
    with pytest.raises(EngineError, match=r"positions has shape \[3\], expected \[n, 3\]"):
        Neighbors(1.0, 0.0).update(np.zeros(3))
