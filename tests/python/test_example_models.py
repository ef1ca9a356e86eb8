"""The inputs of examples/models, each run for a few steps as it stands and frozen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from deepmd.freeze import freeze_model
from deepmd.train import checkpoint
from reference.tiny_outputs import make_output_model
from training_runs import changed, run

pytestmark = pytest.mark.usefixtures("compiled")

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "models"


def short(name: str) -> dict:
    """The example with few steps; numbers of neighbours as found in all frames would take longer than those."""
    text = (FOLDER / f"{name}.json").read_text().replace('"sel": "auto"', '"sel": [40, 80]')
    return changed(json.loads(text), training__numb_steps=3, training__disp_freq=3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lmp").mkdir()
    shutil.copytree(FOLDER.parent / "lmp" / "data", tmp_path / "lmp" / "data")
    return tmp_path / "run"


def test_spins(folder, shared):
    jdata = short("spin")
    jdata["model"]["data_stat_nbatch"] = 1
    shutil.copytree(shared("spin", "data_reformat"), folder / "spin_data")
    for part in ("training_data", "validation_data"):
        jdata["training"][part]["systems"] = "spin_data/data_2"
    run(folder, jdata, skip_neighbor_stat=True, check_data=False)


def test_long_range(folder):
    folder.mkdir(parents=True)
    freeze_model(make_output_model("dipole"), folder / "dipole.pth")
    jdata = short("dipole_charge")
    jdata["model"]["data_stat_nbatch"] = 1
    run(folder, jdata, skip_neighbor_stat=True, check_data=False)
    freeze_model(checkpoint.load_model(folder / "model.ckpt.pt")[0], folder / "graph.pth")


def test_quantum_atoms_and_fragments(folder, shared):
    jdata = short("pairwise_dprc")
    shutil.copytree(shared("dprc", "data"), folder / "dprc_data")
    run(folder, jdata)


def test_a_mask(folder, shared):
    jdata = short("se_a_mask")
    shutil.copytree(shared("zinc_protein", "train_data_dp_mask"), folder / "mask_data")
    run(folder, jdata)


def test_several_tasks(folder, tmp_path):
    jdata = short("multi_task")
    for branch in jdata["model"]["model_dict"].values():
        branch["data_stat_nbatch"] = 1
    run(folder, jdata, skip_neighbor_stat=True, check_data=False)
    freeze_model(checkpoint.load_model(folder / "model.ckpt.pt", "energies")[0], tmp_path / "graph.pth")


@pytest.mark.parametrize("name", ["srtab", "linear", "pairtab"])
def test_tables_and_sums(name, folder):
    jdata = short(name)
    for part in (jdata["model"], *jdata["model"].get("models", [])):
        part["data_stat_nbatch"] = 1
    if name == "pairtab":
        jdata["training"]["numb_steps"] = 0
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / "table.txt", folder / "table.txt")
    run(folder, jdata, skip_neighbor_stat=True, check_data=False)
    model, _ = checkpoint.load_model(folder / "model.ckpt.pt")
    freeze_model(model, folder / "graph.pth")
