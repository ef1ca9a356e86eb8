"""Second derivatives of the energy in training: against differences of forces, and where nothing depends on them."""

from __future__ import annotations

import numpy as np
import pytest
from deepmd.data import System, write_system
from deepmd.data.graph import GraphCache
from deepmd.nn.plain import PlainEngine
from reference.tiny_descriptors import make_model
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
