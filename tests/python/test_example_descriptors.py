"""The inputs of examples/descriptors, each run for a few steps as it stands and frozen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from deepmd import config
from deepmd.freeze import freeze_model
from deepmd.train import checkpoint
from training_runs import changed, run

pytestmark = pytest.mark.usefixtures("compiled")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "descriptors"
INPUTS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_an_example_runs_for_some_steps(tmp_path, path):
    jdata = json.loads(path.read_text())
    short = changed(
        jdata, training__numb_steps=3, training__disp_freq=1, training__save_freq=3, model__data_stat_nbatch=1
    )
    (tmp_path / "lmp").mkdir()
    shutil.copytree(FOLDER.parent / "lmp" / "data", tmp_path / "lmp" / "data")
    for part in (short["model"]["descriptor"], *short["model"]["descriptor"].get("list", [])):
        places = [(part, "sel"), (part.get("repinit", {}), "nsel"), (part.get("repformer", {}), "nsel")]
        for owner, key in (*places, *((part.get("repflow", {}), key) for key in ("e_sel", "a_sel"))):
            if owner.get(key) == "auto":  # as found in all frames, which takes longer than the steps
                owner[key] = [40, 80] if part["type"] in ("se_e2_a", "se_e2_r", "se_e3", "se_a_tpe") else 100
    run(tmp_path / "run", short, skip_neighbor_stat=True, check_data=False)
    curve = np.genfromtxt(tmp_path / "run" / "lcurve.out", names=True)
    assert np.isfinite(curve["rmse_trn"]).all()
    model, _ = checkpoint.load_model(tmp_path / "run" / "model.ckpt.pt")
    freeze_model(model, tmp_path / "graph.pth")


def test_every_descriptor_that_runs_has_an_example():
    kinds = {json.loads(path.read_text())["model"]["descriptor"]["type"] for path in INPUTS}
    kinds |= {"se_a_mask"}  # which stands in examples/models, as water is periodic
    assert kinds == set(config.BUILT["model/descriptor/type"])
