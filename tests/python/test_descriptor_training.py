"""Every descriptor trained for some steps from its input: `sel: auto`, statistics, a falling loss, a frozen file."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from deepmd.data import load_systems
from deepmd.data.graph import GraphCache
from deepmd.data.statistics import set_row_statistics
from deepmd.freeze import freeze_model
from deepmd.nn.model import build
from deepmd.nn.nodes import OnNodes
from deepmd.train import checkpoint
from deepmd.train.sel import resolve_sel
from reference.tiny_descriptors import SECTIONS, input_of
from training_runs import make_input, run

pytestmark = pytest.mark.usefixtures("compiled")

TRAINED = ("se_e2_r", "se_e3", "se_atten, smooth", "se_atten_v2", "se_e3_tebd", "se_a_tpe", "hybrid", "dpa2", "dpa3")


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_loss(tmp_path, tiny_system, name):
    jdata = make_input(tiny_system(n_frames=2), numb_steps=30, disp_freq=10, save_freq=30)
    jdata["model"]["descriptor"] = copy.deepcopy(SECTIONS[name])
    jdata["learning_rate"] = {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-3, "decay_steps": 10}
    run(tmp_path / "a", jdata)
    curve = np.genfromtxt(tmp_path / "a" / "lcurve.out", names=True)
    assert np.isfinite(curve["rmse_trn"]).all() and curve["rmse_trn"][-1] < 0.9 * curve["rmse_trn"][0]
    model, _ = checkpoint.load_model(tmp_path / "a" / "model.ckpt.pt")
    freeze_model(model, tmp_path / "graph.pth")  # proves itself through the core


@pytest.mark.parametrize("name", ["se_e2_r", "se_a_tpe", "se_e3", "se_e3_tebd, strip", "se_atten, strip", "dpa2"])
def test_training_on_nodes_equals_the_plain_path(tmp_path, tiny_system, monkeypatch, name):
    """The same learning curve, to what an interpolation error of 1e-7 makes of it."""
    jdata = make_input(tiny_system(n_frames=2), numb_steps=6, disp_freq=2, save_freq=6)
    jdata["model"]["descriptor"] = copy.deepcopy(SECTIONS[name])
    monkeypatch.setattr(OnNodes, "pair_cost", (np.inf, np.inf))  # few pairs would go the plain path
    curves = []
    for folder, plain in (("nodes", "0"), ("plain", "1")):
        monkeypatch.setenv("DEEPMD_PLAIN_TRAINING", plain)
        run(tmp_path / folder, jdata)
        curves.append(np.loadtxt(tmp_path / folder / "lcurve.out"))
        engine = checkpoint.load_model(tmp_path / folder / "model.ckpt.pt")[1]["engine"]
        assert [part["active"] for part in engine.get("parts", [])] == ([True] if plain == "0" else [])
    np.testing.assert_allclose(*curves, rtol=1e-4)


@pytest.mark.parametrize("name", ["se_e3", "se_atten", "hybrid"])
def test_auto_takes_the_largest_count_within_each_cutoff(tiny_system, name):
    section = input_of(SECTIONS[name])
    parts = section["descriptor"].get("list", [section["descriptor"]])
    for part in parts:
        part["sel"] = "auto"
    systems = load_systems(str(tiny_system(n_frames=2)), ["O", "H"])
    distance = resolve_sel(section, systems, skip=False)
    assert 0.5 < distance < 1.5
    batches = [GraphCache(systems, 6.0).batch(0, np.array([k])) for k in range(2)]
    for part in parts:
        largest = np.zeros(2, dtype=int)
        most = 0
        for batch in batches:
            near = (batch.vectors**2).sum(axis=1) < part["rcut"] ** 2
            counts = np.zeros((len(batch.types), 2), dtype=int)
            np.add.at(counts, (batch.centers[near], batch.types[batch.neighbor[near]]), 1)
            largest, most = np.maximum(largest, counts.max(axis=0)), max(most, counts.sum(axis=1).max())
        expected = [4 * ((int(n * 1.1) + 3) // 4) for n in (largest if part["type"].startswith("se_e") else [most])]
        assert part["sel"] == (expected if part["type"].startswith("se_e") else expected[0])


def test_auto_serves_both_cutoffs_of_messages(tiny_system):
    section = input_of(SECTIONS["dpa2"])
    for part in ("repinit", "repformer"):
        section["descriptor"][part]["nsel"] = "auto:1.0"
    resolve_sel(section, load_systems(str(tiny_system(n_frames=2)), ["O", "H"]), skip=False)
    first, second = (section["descriptor"][part]["nsel"] for part in ("repinit", "repformer"))
    assert first > second > 0 and first % 4 == second % 4 == 0


def test_each_part_of_a_hybrid_gets_its_own_statistics(tiny_system):
    model = build(input_of(SECTIONS["hybrid"]))
    systems = load_systems(str(tiny_system(n_frames=2)), ["O", "H"])
    cache = GraphCache(systems, model.descriptor.rcut)
    batches = [cache.batch(0, np.array([k])) for k in range(2)]
    set_row_statistics(model, batches)
    for part in model.descriptor.parts:
        for t in range(2):
            table = []
            for batch in batches:
                r = np.linalg.norm(batch.vectors, axis=1)
                rows = part.raw_rows(torch.from_numpy(batch.vectors)).numpy() * (r < part.rcut)[:, None]
                for i in np.flatnonzero(batch.types == t):
                    mine = rows[batch.first[i] : batch.first[i + 1]]
                    mine = mine[mine[:, 0] != 0.0]
                    table.append(np.vstack([mine, np.zeros((part.n_slots - len(mine), part.row_width))]))
            table = np.concatenate(table)
            assert float(part.davg[t, 0]) == pytest.approx(table[:, 0].mean(), abs=1e-13)
            assert float(part.dstd[t, 0]) == pytest.approx(max(table[:, 0].std(), 1e-2), rel=1e-12)
            if part.row_width == 4:
                assert float(part.dstd[t, 3]) == pytest.approx(max(table[:, 1:].std(), 1e-2), rel=1e-10)
