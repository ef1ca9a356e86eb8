"""Open frames of which some atoms are not there: se_a_mask with a mask in aparam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepmd import config
from deepmd.errors import DataError, InputError
from deepmd.freeze import freeze_model
from deepmd.infer import DeepEval, DeepPot
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import build, deserialize
from deepmd.train import checkpoint
from reference.dp_numpy import neighbors
from reference.padded import network
from training_runs import changed, make_input, run

pytestmark = pytest.mark.usefixtures("compiled")


def mask_input(system, **training):
    jdata = make_input(system, **training)
    jdata["model"]["descriptor"] = {"type": "se_a_mask", "sel": [5, 9], "neuron": [4, 8], "axis_neuron": 3, "seed": 1}
    jdata["model"]["fitting_net"] |= {"numb_aparam": 1, "use_aparam_as_mask": True}
    return jdata


@pytest.fixture(scope="module")
def model():
    made = build(config.normalise(mask_input("x"))["model"]).eval()
    made.out_bias.copy_(torch.tensor([-3.0, 1.5]))
    return made


def a_frame(seed=0):
    rng = np.random.default_rng(seed)
    positions = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3) * 1.7 + rng.normal(0, 0.1, (8, 3))
    mask = np.array([1.0, 1, 0, 1, 1, 0, 1, 1])
    return positions, np.arange(8) % 2, mask[:, None]


def results(model, positions, types, mask):
    return evaluate(model, find_pairs(positions, None, model.facts().rcut), types, aparam=mask)


def test_the_definition_is_met(model):
    positions, types, mask = a_frame()
    tree = model.serialize()
    descriptor, fitting = tree["descriptor"], tree["fitting"]
    around, energies = neighbors(positions, None, None, 1e4), np.zeros(8)
    for i in np.flatnonzero(mask):
        t = np.zeros((8, 4))
        for j, v in around[i]:
            r = np.linalg.norm(v)
            row = np.array([1 / r, *(v / r**2)])
            if mask[j]:
                t += np.outer(network(descriptor["embeddings"]["networks"][types[i] + 2 * types[j]], row[:1]), row)
        t /= sum(descriptor["sel"])
        d = (t @ t[:3].T).ravel()
        energies[i] = network(fitting["nets"]["networks"][types[i]], d)[0] + [-3.0, 1.5][types[i]]
    np.testing.assert_allclose(results(model, positions, types, mask)["atom_energy"], energies, rtol=0, atol=1e-12)


def test_absent_atoms_do_nothing_and_forces_are_derivatives(model):
    positions, types, mask = a_frame()
    ours = results(model, positions, types, mask)
    there = mask[:, 0] > 0
    alone = results(model, positions[there], types[there], mask[there])
    assert ours["energy"] == pytest.approx(alone["energy"], abs=1e-12)
    np.testing.assert_allclose(ours["forces"][there], alone["forces"], atol=1e-12)
    assert not ours["forces"][~there].any() and not ours["atom_energy"][~there].any()
    piled = np.where(there[:, None], positions, 0.0)
    assert results(model, piled, types, mask)["energy"] == ours["energy"]
    h, step = 1e-4, np.zeros_like(positions)
    step[3, 1] = 1.0
    e = [results(model, positions + k * h * step, types, mask)["energy"][0] for k in (1, -1, 2, -2)]
    assert ours["forces"][3, 1] == pytest.approx(-(8 * (e[0] - e[1]) - (e[2] - e[3])) / (12 * h), abs=1e-8)


def test_a_frozen_file_and_the_tree_give_the_same(model, tmp_path):
    freeze_model(model, tmp_path / "m.pth")
    positions, types, mask = a_frame()
    ours = results(model, positions, types, mask)
    door = DeepPot(tmp_path / "m.pth")
    assert isinstance(DeepEval(tmp_path / "m.pth"), DeepPot) and door.get_dim_aparam() == 1
    e, f, _, ae, av = door.eval(positions, None, types, atomic=True, aparam=mask)
    np.testing.assert_allclose(f[0], ours["forces"], atol=1e-12)
    assert e[0, 0] == pytest.approx(ours["energy"][0], abs=1e-12) and av.shape == (1, 8, 9)
    np.testing.assert_allclose(ae.ravel(), ours["atom_energy"], atol=1e-12)
    with pytest.raises(InputError, match="open frames only"):
        door.eval(positions, 20 * np.eye(3), types, aparam=mask)
    again = deserialize({"model": model.serialize()}).eval()
    np.testing.assert_array_equal(results(again, positions, types, mask)["atom_energy"], ours["atom_energy"])


def test_real_data_are_learned(tmp_path, shared):
    folder = shared("zinc_protein", "train_data_dp_mask")
    jdata = mask_input(folder, numb_steps=30, disp_freq=10)
    jdata["model"]["type_map"] = (folder / "type_map.raw").read_text().split()
    jdata["model"]["descriptor"] |= {"sel": [8, 4, 6, 16, 2, 1], "type_one_side": True}
    zero = {f"{end}_pref_{k}": 0.0 for end in ("start", "limit") for k in "efv"}
    jdata["loss"] = {"type": "ener", **zero, "start_pref_pf": 1.0, "limit_pref_pf": 1.0}
    jdata["learning_rate"] = {"type": "exp", "start_lr": 0.03, "stop_lr": 1e-2, "decay_steps": 10}
    jdata["training"] |= {"training_data": {"systems": str(folder), "batch_size": 2}, "validation_data": None}
    run(tmp_path, jdata)
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    assert np.isfinite(curve["rmse_trn"]).all() and curve["rmse_trn"][-1] < curve["rmse_trn"][0]
    freeze_model(checkpoint.load_model(tmp_path / "model.ckpt.pt")[0], tmp_path / "m.pth")


WRONG = [
    ("model__fitting_net__use_aparam_as_mask", False, "true, as the descriptor is se_a_mask"),
    ("model__fitting_net__numb_aparam", 0, "the mask"),
    ("model__descriptor__sel", [3], "2 numbers"),
    ("model__descriptor__rcut", 6.0, "unknown key"),
]


@pytest.mark.parametrize("path, value, words", WRONG, ids=[p for p, *_ in WRONG])
def test_what_is_wrong_is_told(path, value, words):
    with pytest.raises(InputError, match=words):
        config.normalise(changed(mask_input("x"), **{path: value}))


def test_periodic_data_are_refused(tiny_system, tmp_path):
    with pytest.raises(DataError, match="open frames only"):
        run(tmp_path, mask_input(tiny_system(n_frames=1), numb_steps=1))
