"""Every model of the peer that is stored: energies, forces, virials, atomic parts, tensors and their derivatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deepmd.errors import ModelError
from deepmd.exchange import read_tree
from deepmd.nn.model import deserialize
from peer_frames import FOLDER, frames
from reference.agreement_with_peer import compare, files, moments, pair_shares

pytestmark = pytest.mark.usefixtures("compiled")

LIMIT = 1e-9  # eV, eV/Angstrom or the label's unit: the peer's rounding of totals of up to 192 atoms
FLOAT32 = {"sea_f32": 1e-5}  # the peer's arithmetic was float32
NOT_YET: tuple[str, ...] = ()  # stored models that are refused by name
ENERGY = {"energy", "force", "virial", "atom_energy", "atom_virial"}
TENSOR = {"atomic", "global", "full.a", "full.g"}
QUANTITIES = {"dipole": TENSOR | {"full.force", "full.virial", "full.atom_virial"}, "polar": TENSOR,
              "polar_diag": TENSOR, "dos": {"out0", "out1"}, "property": {"out0", "out1"}}  # fmt: skip


def check(path: Path) -> None:
    tree = read_tree(path.with_suffix(".dp"))
    if path.stem in NOT_YET:
        with pytest.raises(ModelError, match="not supported"):
            compare(tree, path)
        return
    worst, _ = compare(tree, path)
    assert worst.keys() == QUANTITIES.get(path.stem, ENERGY)
    limit = FLOAT32.get(path.stem, LIMIT)
    assert all(error < limit for error in worst.values()), worst


@pytest.mark.parametrize("path", list(files([FOLDER])), ids=lambda path: path.stem)
def test_the_peer_is_met(path):
    check(path)


@pytest.mark.parametrize("name", ["water_full", "zbl"])
def test_the_peer_is_met_by_larger_models(name, shared):
    check(Path(shared("..", "peer", f"{name}.npz")))


def test_atomic_virials_of_messages_depend_on_images_in_the_peer_and_not_here():
    """The same crystal, one atom listed a lattice vector away."""
    model = deserialize(read_tree(FOLDER / "dpa2.dp")).eval()
    _, types, frame = next(one for one in frames("dpa2") if one[0].startswith("smallbox"))
    moved = {**frame, "coord": frame["coord"] + np.append(frame["cell"][:3], np.zeros(len(frame["coord"]) - 3))}
    assert np.abs(moments(model, moved, types) - moments(model, frame, types)).max() > 1e-4
    assert np.abs(pair_shares(model, moved, types) - pair_shares(model, frame, types)).max() < 1e-12
    np.testing.assert_allclose(
        pair_shares(model, frame, types).sum(axis=0).ravel(), frame["virial"], rtol=0, atol=1e-12
    )


def test_no_model_of_the_peer_is_left_out(shared):
    stored = {path.stem for path in files([Path(shared("..", "peer", "sea.npz")).parent])}
    assert stored == {path.stem for path in files([FOLDER])} | {"water_full", "zbl"}
