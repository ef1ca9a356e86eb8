"""Second derivatives of the energy, in training and asked for: against differences of forces; where there are none."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import test_composite as composite
import test_pairwise as pairwise
import torch
from deepmd import test as dp_test
from deepmd.data import System, write_system
from deepmd.data.graph import GraphCache
from deepmd.errors import InputError
from deepmd.freeze import freeze_model
from deepmd.infer import DeepPot, DeepSpin
from deepmd.infer.second import SecondDerivatives
from deepmd.nn.plain import PlainEngine
from deepmd.train import checkpoint
from reference.tiny_descriptors import make_model
from reference.tiny_outputs import make_spin_model
from training_runs import changed, make_input, run

pytestmark = pytest.mark.usefixtures("compiled")

def frames_of(tiny, folder, kept, shift=None):
    """Frames of the first `kept` atoms as a system."""
    made = tiny(n_frames=2, n_molecules=3)
    data = {key: made["data"][key][:, :kept].copy() for key in ("positions", "force")}
    data |= {key: made["data"][key] for key in ("cell", "energy") if key in made["data"]}
    if shift is not None:
        data["positions"][:, shift[0], shift[1]] += shift[2]
    return write_system(folder, np.array(made["types"])[:kept], made["type_map"], data)


def batch_of(folder, model):
    cache = GraphCache([System.open(str(folder), model.type_map)], model.facts().rcut, model.seen_pairs())
    return cache.batch(0, np.array([0, 1]))


@pytest.mark.parametrize("name", ["se_e2_a", "se_atten, smooth", "dpa3"])
def test_second_derivatives_are_differences_of_forces(tiny, tmp_path, name):
    model, h = make_model(name), 1e-4
    batch = batch_of(frames_of(tiny, tmp_path / "a", 6), model)
    found = PlainEngine(model, hessian=True)(batch, create_graph=False)
    order = np.argsort(batch.frame, kind="stable")  # atoms of a frame stand in the order of their types
    for place, atom, axis in ((0, 0, 0), (4, 4, 2), (1, 3, 1)):
        sides = [batch_of(frames_of(tiny, tmp_path / f"{s}{atom}", 6, (atom, axis, s * h)), model) for s in (1, -1)]
        up, down = (PlainEngine(model)(one).forces.detach()[order].reshape(2, 18) for one in sides)
        row = found.hessian[:, 3 * place + axis].detach()
        assert float((row + (up - down) / (2 * h)).abs().max()) < 1e-6 * max(1.0, float(row.abs().max()))


def test_a_lonely_atom_has_none(tiny, tmp_path):
    model = make_model("se_e2_a")
    found = PlainEngine(model, hessian=True)(batch_of(frames_of(tiny, tmp_path / "a", 1), model))
    assert found.hessian.shape == (2, 3, 3) and not bool(found.hessian.any())


@pytest.mark.parametrize("kept", [6, 1])
def test_training_on_second_derivatives(tiny, tmp_path, kept):
    folder = frames_of(tiny, tmp_path / "data", kept)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2, 3 * kept, 3 * kept))
    np.save(folder / "set.000" / "hessian.npy", (matrix + matrix.transpose(0, 2, 1)).reshape(2, -1))
    jdata = changed(make_input(folder, numb_steps=4, disp_freq=1), loss={
        "type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_h": 10, "limit_pref_h": 1},
        learning_rate__start_lr=0.1)  # fmt: skip
    run(tmp_path / "a", jdata)
    curve = np.genfromtxt(tmp_path / "a" / "lcurve.out", names=True)
    assert np.isfinite(curve["rmse_h_trn"]).all()
    assert (curve["rmse_h_trn"][0] == curve["rmse_h_trn"][-1]) == (kept == 1)


def differences_of_forces(model, positions, cell, types, step=1e-4, **parameters):
    """-dF/dr [3 n, 3 n] by central differences."""
    rows = []
    for k in range(positions.size):
        moved = np.zeros(positions.size)
        moved[k] = step
        moved = moved.reshape(positions.shape)
        up, down = (model.eval(positions + s * moved, cell, types, hessian=False, **parameters)[1] for s in (1, -1))
        rows.append(-(up - down).ravel() / (2 * step))
    return np.array(rows)


def a_frame():
    """Eight atoms in a skewed cell that is shorter than the cutoff, the last one in no pair with some of the others."""
    rng = np.random.default_rng(3)
    cell = np.array([[3.9, 0, 0], [0.6, 4.1, 0], [-0.4, 0.7, 4.4]])
    sites = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / 2.0
    return (sites + rng.normal(0, 0.04, sites.shape)) @ cell, cell, np.arange(8) % 2


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    folder, kept = tmp_path_factory.mktemp("frozen"), {}
    r = np.arange(1, 301) * 0.01
    np.savetxt(folder / "table", np.column_stack([r, *[a * np.exp(-r / 0.5) for a in (30.0, 20.0, 9.0)]]))

    def open_one(name):
        if name not in kept:
            model = {"pairwise": lambda: pairwise.make(), "table": lambda: composite.switched(folder / "table")}
            made = model.get(name, lambda: make_model(name))().eval()
            freeze_model(made, folder / f"{len(kept)}.pth")
            kept[name] = DeepPot(folder / f"{len(kept)}.pth")
        return kept[name]

    return open_one


@pytest.mark.parametrize("name", ["se_e2_a", "se_atten, smooth", "dpa3", "table", "pairwise"])
def test_potentials_give_second_derivatives_when_asked(frozen, name):
    model, (positions, cell, types) = frozen(name), a_frame()
    parameters = {"aparam": np.array([0, 1, 0, 1, 2, 2, 0, 0.0])} if name == "pairwise" else {}
    plain = model.eval(positions, cell, types, **parameters)
    asked = model.eval(positions, cell, types, hessian=True, **parameters)
    assert len(plain) == 3 and len(asked) == 4 and not model.has_hessian
    matrix = asked[3][0]
    expected = differences_of_forces(model, positions, cell, types, **parameters)
    assert asked[3].shape == (1, 24, 24) and np.abs(expected).max() > 0.01
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-6 * max(1.0, np.abs(expected).max()))
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max()))
    np.testing.assert_allclose(matrix.reshape(24, 8, 3).sum(axis=1), 0, atol=1e-9 * max(1.0, np.abs(expected).max()))


def test_padding_atoms_have_zeros(frozen):
    model, (positions, cell, types) = frozen("se_e2_a"), a_frame()
    order = np.array([0, 1, 2, 8, 3, 4, 5, 6, 7])
    padded, kinds = np.append(positions, [[9.0, 9, 9]], axis=0)[order], np.append(types, -1)[order]
    found = model.eval(padded[None], cell, kinds[None], atomic=True, mixed_type=True, hessian=True)
    assert len(found) == 6
    there = np.repeat(kinds >= 0, 3)
    whole = model.eval(positions, cell, types, hessian=True)[3][0]
    np.testing.assert_allclose(found[5][0][there][:, there], whole, rtol=0, atol=1e-12)
    assert not found[5][0][~there].any() and not found[5][0][:, ~there].any()


def test_models_without_second_derivatives_refuse(tmp_path):
    positions, cell, types = a_frame()
    freeze_model(make_spin_model(), tmp_path / "spin.pth")
    spins = DeepSpin(tmp_path / "spin.pth")
    with pytest.raises(InputError, match="hessian was given, but the model does not give it"):
        spins.eval(positions, cell, types, spin=0.1 * positions, hessian=True)
    with pytest.raises(InputError, match="modifier 'dipole_charge' give no second derivatives"):
        SecondDerivatives(make_model("se_e2_a"), "energy", "dipole_charge")


def test_a_model_trained_on_them_gives_them_and_is_tested_on_them(tiny, tmp_path, caplog):
    folder = frames_of(tiny, tmp_path / "data", 6)
    np.save(folder / "set.000" / "hessian.npy", np.zeros((2, 18 * 18)))
    jdata = changed(make_input(folder, numb_steps=2), loss={"type": "ener", "start_pref_h": 10, "limit_pref_h": 1})
    run(tmp_path / "a", jdata)
    freeze_model(checkpoint.load_model(tmp_path / "a" / "model.ckpt.pt")[0], tmp_path / "graph.pth")
    for file in (tmp_path / "graph.pth", tmp_path / "a" / "model.ckpt.pt"):
        assert DeepPot(file).has_hessian
    model, data = DeepPot(tmp_path / "graph.pth"), System.open(str(folder), ["O", "H"]).frames([0, 1])
    found = model.eval(data["positions"], data["cell"], data["types"][0])
    assert len(found) == 4 and found[3].shape == (2, 18, 18)
    args = argparse.Namespace(model=str(tmp_path / "graph.pth"), system=str(folder), detail_file=str(tmp_path / "d"))
    with caplog.at_level("INFO"):
        errors = dp_test.main(args)
    rmse = np.sqrt((found[3] ** 2).mean())
    assert errors["hessian"] == pytest.approx((np.abs(found[3]).mean(), rmse))
    assert f"Hessian RMSE       : {rmse:e} eV/Å^2" in [record.getMessage() for record in caplog.records]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "d.h.out")[:, 1], found[3].ravel(), rtol=1e-12)
    os.remove(folder / "set.000" / "hessian.npy")
    assert "hessian" not in dp_test.main(args)  # as every other label that is not there


@pytest.mark.parametrize("name", ["set", "dpa2"])
def test_the_second_derivatives_of_the_peer(name, tmp_path):
    folder = Path(__file__).resolve().parents[1] / "data" / "checkpoints"
    payload, data = torch.load(folder / f"{name}.pt", weights_only=True), np.load(folder / "hessian.npz")
    payload["model"]["_extra_state"]["model_params"]["hessian_mode"] = True
    torch.save(payload, tmp_path / "model.ckpt.pt")
    model = DeepPot(tmp_path / "model.ckpt.pt")
    assert model.has_hessian
    for kind, cell in (("bulk", data["cell"]), ("molecule", None)):
        found, expected = model.eval(data["positions"], cell, data["types"])[3][0], data[f"{name}.{kind}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
        assert np.abs(expected).max() > 0.01
