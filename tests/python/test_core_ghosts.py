"""Ghosts as engines hand them over, and models that pass messages: rows for ghosts, or the owners of ghosts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checks import assert_close
from reference.tiny_descriptors import make_model
from reference.tiny_models import make_frames

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd.core import Model  # noqa: E402
from deepmd.errors import EngineError  # noqa: E402
from deepmd.freeze import freeze_model  # noqa: E402

FRAME = "skewed"


@pytest.fixture(scope="module", params=["dpa2", "dpa3", "hybrid, mixed types"])
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("ghosts") / "model.pth"
    freeze_model(make_model(request.param), path)
    return Model(str(path))


def with_ghosts(frame, reach):
    """positions [n_all, 3] and owners [n_all]: all images within `reach` of any atom follow the atoms."""
    positions, owners = [frame.positions], [np.arange(len(frame.positions))]
    for shift in itertools.product(range(-4, 5), repeat=3):
        image = frame.positions + np.array(shift) @ frame.cell
        distance = np.linalg.norm(image[:, None] - frame.positions[None], axis=2).min(axis=1)
        near = np.flatnonzero((distance < reach) & any(shift))
        positions.append(image[near])
        owners.append(near)
    return np.concatenate(positions), np.concatenate(owners)


def rows(positions, n_centers, rcut):
    """A list (first, index) of all atoms within the cutoff of each of the first atoms."""
    distance = np.linalg.norm(positions[None, :] - positions[:n_centers, None], axis=2)
    found = [np.flatnonzero((d < rcut) & (np.arange(len(positions)) != i)) for i, d in enumerate(distance)]
    return np.concatenate([[0], np.cumsum([len(row) for row in found])]), np.concatenate(found)


def onto_owners(forces, owners, n):
    total = np.zeros((n, 3))
    np.add.at(total, owners, forces)
    return total


def ghost_call(model, frame, reach, with_rows, with_owners=False):
    positions, owners = with_ghosts(frame, reach)
    n = len(frame.positions)
    found = rows(positions, len(positions) if with_rows else n, model.rcut)
    given = (*found, None, owners) if with_owners else found
    result = model.evaluate(positions, frame.types[owners], list=given, n_local=n, atomic=True)
    return {**result, "forces": onto_owners(result["forces"], owners, n)}


def test_rows_of_ghosts_and_owners_give_the_numbers_of_the_periodic_frame(model):
    frame = make_frames()[FRAME]
    expected = model.evaluate(**frame.as_input(), atomic=True)
    for result in (
        ghost_call(model, frame, model.receptive_field, True),
        ghost_call(model, frame, model.rcut, False, True),
    ):
        for key in ("energy", "forces", "virial", "atom_energy"):
            assert_close(result[key], expected[key], "doors")
        assert_close(result["atom_virial"].sum(axis=0), expected["virial"], "doors")


def test_ghosts_that_do_not_reach_far_enough_change_the_forces(model):
    frame = make_frames()[FRAME]
    expected = model.evaluate(**frame.as_input())["forces"]
    short = ghost_call(model, frame, model.rcut, True)["forces"]
    assert np.abs(short - expected).max() > 1e3 * 1e-9, "the comparison above could not fail"


def test_ghosts_without_rows_or_owners_are_refused(model):
    frame = make_frames()[FRAME]
    with pytest.raises(EngineError, match="passes messages between atoms, but the neighbour list has rows for local"):
        ghost_call(model, frame, model.rcut, False)


def test_a_radius_stands_for_rows(model):
    """The core finds the pairs, those of ghosts too."""
    frame = make_frames(2)[FRAME]
    positions, owners = with_ghosts(frame, model.receptive_field)
    n, types = len(frame.positions), frame.types[owners]
    expected = model.evaluate(positions, types, list=rows(positions, len(positions), model.rcut), n_local=n)
    found = model.evaluate(positions, types, list=float(model.rcut), n_local=n)
    assert_close(found["forces"], expected["forces"], "doors")
    with pytest.raises(EngineError, match="no rows and the radius 1, expected at least the cutoff"):
        model.evaluate(positions, types, list=1.0, n_local=n)
    with pytest.raises(EngineError, match="expected periodic images as ghosts"):
        model.evaluate(positions, types, frame.cell, list=float(model.rcut), n_local=n)


def test_owners_that_cannot_be_are_refused(model):
    frame = make_frames()[FRAME]
    positions, owners = with_ghosts(frame, model.rcut)
    n = len(frame.positions)
    for wrong, change in ((owners.copy(), (n, n)), (owners.copy(), (0, 1))):
        wrong[change[0]] = change[1]
        with pytest.raises(EngineError, match="the owner of atom"):
            found = rows(positions, n, model.rcut)
            model.evaluate(positions, frame.types[owners], list=(*found, None, wrong), n_local=n)


def test_large_frames_are_evaluated_in_one_piece(model):
    """More pairs than one call takes of other models: messages pass all over the frame."""
    frame = make_frames()["bulk"]
    cells = np.array(list(itertools.product(range(3), range(2), range(2))))
    positions = (frame.positions[None] + (cells @ frame.cell)[:, None]).reshape(-1, 3)
    single = model.evaluate(**frame.as_input())
    many = model.evaluate(positions, np.tile(frame.types, len(cells)), np.diag([3.0, 2.0, 2.0]) @ frame.cell)
    assert_close(many["forces"], np.tile(single["forces"], (len(cells), 1)), "doors")
    assert_close(many["energy"], len(cells) * single["energy"], "closed form, many atoms")
