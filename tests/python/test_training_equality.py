"""The same weights and the same frame give the same training as in DeePMD-kit: a golden run of 40 steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deepmd.exchange import read_tree
from deepmd.train.checkpoint import load_model
from training_runs import run

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "peer_training"


def weights(tree) -> np.ndarray:
    """All trained numbers of a tree's networks, in order."""
    model = tree["model"] if "model" in tree else tree
    networks = [*model["descriptor"]["embeddings"]["networks"], *model["fitting"]["nets"]["networks"]]
    layers = [layer["@variables"] for network in networks for layer in network["layers"]]
    values = [layer[key] for layer in layers for key in ("w", "b", "idt") if layer.get(key) is not None]
    return np.concatenate([np.ravel(value) for value in values])


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Folder of our run of the same input."""
    folder = tmp_path_factory.mktemp("training")
    jdata = json.loads((GOLDEN / "input.json").read_text())
    jdata["training"]["training_data"]["systems"] = [str(GOLDEN / "frame")]
    run(folder, jdata, init_frz_model=str(GOLDEN / "start.dp"))
    return folder


def test_the_weights_end_at_the_same_place(ours):
    """Adam divides by the root of the squared gradient, so that rounding moves the weights whose gradient is noise."""
    start, end = (weights(read_tree(GOLDEN / name)) for name in ("start.dp", "end.dp"))
    difference = np.abs(weights(load_model(ours / "model.ckpt.pt")[0].serialize()) - end)
    assert np.abs(end - start).max() > 0.05
    assert np.median(difference) < 2e-7
    assert np.mean(difference < 2e-5) > 0.98
    assert difference.max() < 5e-4


def test_the_learning_curve_shows_the_same_digits(ours):
    theirs, mine = (np.loadtxt(path / "lcurve.out") for path in (GOLDEN, ours))
    rows = {int(row[0]): row for row in mine}
    compared = [(row, rows[int(row[0]) + 1]) for row in theirs if int(row[0]) + 1 in rows]
    assert len(compared) >= 38
    for row, mine_there in compared:
        np.testing.assert_allclose(mine_there[1:5], row[1:5], rtol=0.011, err_msg=f"step {row[0]:.0f}")
