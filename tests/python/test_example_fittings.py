"""The inputs of examples/fittings, on the data that the script beside them makes, each run for some steps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deepmd import config
from deepmd.freeze import freeze_model
from deepmd.infer import DeepEval
from deepmd.train import checkpoint
from training_runs import changed, run

pytestmark = pytest.mark.usefixtures("compiled")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "fittings"
INPUTS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder as users have it after `python make_data.py`."""
    root = tmp_path_factory.mktemp("examples")
    shutil.copytree(FOLDER.parent / "lmp" / "data", root / "lmp" / "data")
    shutil.copytree(FOLDER, root / "fittings", ignore=shutil.ignore_patterns("data"))
    subprocess.run([sys.executable, str(root / "fittings" / "make_data.py")], check=True)
    return root / "fittings" / "data"


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_an_example_runs_for_some_steps(tmp_path, data, path):
    text = path.read_text()
    text = text.replace('"sel": "auto"', '"sel": 120' if '"se_atten"' in text else '"sel": [40, 80]')
    short = changed(json.loads(text), training__numb_steps=6, training__disp_freq=1, model__data_stat_nbatch=1)
    (tmp_path / "data").symlink_to(data)
    run(tmp_path, short, skip_neighbor_stat=True, check_data=False)
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    assert all(np.isfinite(curve[name]).all() for name in curve.dtype.names if name.endswith("_trn"))
    model, _ = checkpoint.load_model(tmp_path / "model.ckpt.pt")
    freeze_model(model, tmp_path / "graph.pth")
    assert DeepEval(tmp_path / "graph.pth").get_type_map() == ["O", "H"]


def test_every_fitting_that_runs_has_an_example():
    kinds = {json.loads(path.read_text())["model"]["fitting_net"]["type"] for path in INPUTS}
    assert kinds == set(config.BUILT["model/fitting_net/type"]) - {"ener"}, "energies: examples/descriptors"
