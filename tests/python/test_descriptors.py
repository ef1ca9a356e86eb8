"""Every descriptor against the peer's predictions, in torch and in TorchScript, and its neutral tree there and back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from deepmd.exchange import read_tree
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import deserialize
from peer_frames import FOLDER, QUANTITIES, frames, padded

pytestmark = pytest.mark.usefixtures("compiled")

PEER_TOLERANCE = 1e-9  # eV and eV/Angstrom: the peer's own rounding, totals of 192 atoms
NAMES = "ser ser_oneside set hybrid att0_strip att2 att_v2 set_tebd".split()


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


def worst_difference(model, name, whole=True):
    """Largest difference to the peer of any quantity of any frame."""
    worst = {}
    for frame, types, peer in frames(name):
        cell = peer["cell"].reshape(3, 3) if "cell" in peer else None
        pairs = find_pairs(peer["coord"].reshape(-1, 3), cell, rcut=RCUT[name])
        result = evaluate(model, pairs, types)
        for theirs, ours in QUANTITIES.items():
            worst[frame, ours] = float(np.abs(np.ravel(result[ours]) - np.ravel(peer[theirs])).max())
    return worst


RCUT = {name: 6.0 for name in NAMES} | {"set": 4.0, "set_tebd": 4.0}


@pytest.mark.parametrize("name", NAMES)
def test_peer_predictions_are_reproduced(name):
    model = deserialize(read_tree(FOLDER / f"{name}.dp")).eval()
    assert model.descriptor.rcut == RCUT[name]
    model.descriptor = padded(model.descriptor)
    worst = worst_difference(model, name)
    assert max(worst.values()) < PEER_TOLERANCE, {k: v for k, v in worst.items() if v >= PEER_TOLERANCE}
