"""Dipoles, polarisabilities, densities of states and properties: against the peer, by symmetry and by derivatives."""

from __future__ import annotations

import argparse
import logging
import warnings
from types import SimpleNamespace

import checks
import numpy as np
import pytest
import torch
from deepmd.exchange import read_tree
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import deserialize
from deepmd.nn.plain import Output
from deepmd.train.losses import DosLoss, PropertyLoss, TensorLoss
from peer_frames import FOLDER, frames

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd import test as dp_test  # noqa: E402
from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepEval, DeepPot  # noqa: E402

TENSORS = ("dipole", "polar", "polar_diag")
OUTPUTS = (*TENSORS, "dos", "property")


def frames_of(name):
    """Frames of a golden, types included."""
    for _, types, quantities in frames(name):
        yield {"atype": types, **quantities}


@pytest.fixture(scope="module", params=OUTPUTS)
def opened(request, tmp_path_factory):
    """Name of a model of the peer, and its frozen form as users open it."""
    path = tmp_path_factory.mktemp("outputs") / f"{request.param}.pth"
    freeze_model(deserialize(read_tree(FOLDER / f"{request.param}.dp")), path)
    return request.param, DeepEval(path)


def most_neighbours(frame, rcut):
    cell = frame["cell"].reshape(3, 3) if "cell" in frame else None
    return np.bincount(find_pairs(frame["coord"].reshape(-1, 3), cell, rcut).centers, minlength=1).max()


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


def test_the_peer_s_values_are_reproduced(opened):
    name, model = opened
    for frame in frames_of(name):
        inputs = (frame["coord"], frame.get("cell"), frame["atype"])
        n = len(frame["atype"])
        if most_neighbours(frame, model.get_rcut()) > sum(model.get_sel()):
            continue  # the peer drops neighbours here
        if name in TENSORS:
            np.testing.assert_allclose(model.eval(*inputs)[0], frame["atomic"].reshape(n, -1), rtol=0, atol=1e-9)
            np.testing.assert_allclose(model.eval(*inputs, atomic=False)[0], frame["global"], rtol=0, atol=1e-9)
        else:
            total, atoms = model.eval(*inputs, atomic=True)
            np.testing.assert_allclose(total[0], frame["out0"], rtol=0, atol=1e-9)
            np.testing.assert_allclose(atoms[0], frame["out1"].reshape(n, -1), rtol=0, atol=1e-9)


def test_the_peer_s_derivatives_of_dipoles_are_reproduced(opened):
    name, model = opened
    if name != "dipole":
        pytest.skip("the peer has derivatives of dipoles alone")
    for frame in frames_of("dipole"):
        n = len(frame["atype"])
        tensor, force, virial, _, atom_virial = model.eval_full(
            frame["coord"], frame.get("cell"), frame["atype"], atomic=True
        )
        np.testing.assert_allclose(tensor[0], frame["full.g"], rtol=0, atol=1e-9)
        # The peer stores [atom, component] in an array that says [component, atom].
        theirs = np.reshape(frame["full.force"], (n, 3, 3)).transpose(1, 0, 2)
        np.testing.assert_allclose(force[0], theirs, rtol=0, atol=1e-9)
        np.testing.assert_allclose(virial[0], frame["full.virial"].reshape(3, 9), rtol=0, atol=1e-9)
        np.testing.assert_allclose(atom_virial[0].sum(axis=1), virial[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_script_gives_the_numbers_of_the_eager_model(name):
    model = deserialize(read_tree(FOLDER / f"{name}.dp")).eval().requires_grad_(False)
    script, rcut = scripted(model), model.facts().rcut
    frame = next(iter(frames_of(name)))
    types = frame["atype"][:9]
    pairs = find_pairs(frame["coord"].reshape(-1, 3)[:9], None, rcut)
    ours, theirs = evaluate(model, pairs, types), evaluate(script, pairs, types)
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(theirs[key], ours[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_turn_with_the_frame_and_their_derivatives_are_derivatives(name):
    model = deserialize(read_tree(FOLDER / f"{name}.dp")).eval().requires_grad_(False)
    rng = np.random.default_rng(5)
    positions, types = rng.uniform(0, 4, (5, 3)), np.array([0, 1, 1, 0, 1])
    key = f"atom_{model.facts().kind}"

    def run(x):
        return evaluate(model, find_pairs(x, None, 6.0), types)

    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    before, after = run(positions), run(positions @ turn.T)[key]
    expected = before[key].reshape(5, *[3] * (before[key].shape[1] // 3 if name == "dipole" else 2))
    expected = expected @ turn.T if name == "dipole" else turn @ expected @ turn.T
    np.testing.assert_allclose(after.reshape(expected.shape), expected, rtol=0, atol=1e-12)
    for component in range(before[key].shape[1]):

        def value(step, c=component):
            moved = positions.copy()
            moved[2, 1] += step
            return float(run(moved)[key][:, c].sum())

        checks.assert_close(before["forces"][component, 2, 1], -checks.derivative(value), "finite differences", 50.0)


def test_questions_and_refusals(opened, tmp_path):
    name, model = opened
    assert type(model).__name__ == {"dipole": "DeepDipole", "dos": "DeepDOS", "property": "DeepProperty"}.get(
        name, "DeepPolar"
    )
    if name in TENSORS:
        assert model.get_sel_type() == [0, 1] and model.output_dim() == (3 if name == "dipole" else 9)
    if name == "property":
        assert model.get_intensive() and model.get_var_name() == "band_prop" and model.get_task_dim() == 3
    if name == "dos":
        assert model.get_numb_dos() == 250
    with pytest.raises(Exception, match="expected 'energy'"):
        DeepPot(model.model_path)
    from deepmd.core import Ensemble, Model

    core = Model(str(model.model_path))
    assert core.kind == model.metadata["kind"] and core.output["width"] == model.width
    with pytest.raises(Exception, match="expected a model of energies; ask for its output instead"):
        core.evaluate(np.zeros((1, 3)), [0])
    with pytest.raises(Exception, match="expected a model of energies"):
        Ensemble([core])


def test_the_core_gives_the_module_s_numbers(opened):
    """The file's script in Python; derivatives of one weighted sum are those of the components, weighted."""
    from deepmd.infer.scripted import ScriptedModel

    name, model = opened
    module = ScriptedModel(model.model_path)
    for frame in frames_of(name):
        positions, cell = frame["coord"].reshape(-1, 3), frame.get("cell")
        cell = None if cell is None else cell.reshape(3, 3)
        ours = model.core.evaluate_output(positions, frame["atype"], cell, derivatives=name in TENSORS)
        theirs = module.evaluate(positions, frame["atype"], cell, derivatives=name in TENSORS)
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            checks.assert_close(ours[key], value, "doors", scale=max(1.0, np.abs(value).max()))
        if name in TENSORS:
            ones = np.ones((len(positions), model.width))
            one = model.core.evaluate_output(positions, frame["atype"], cell, derivatives=True, weights=ones)
            for key in ("forces", "virial", "atom_virial"):
                scale = max(1.0, np.abs(ours[key]).max())
                checks.assert_close(one[key][0], ours[key].sum(axis=0), "doors", scale=scale)


# -------------------------------------------------------------------------------------------------------- losses


def output(total, atomic):
    return Output(torch.tensor(total, dtype=torch.float64), torch.tensor(atomic, dtype=torch.float64))


def batch(labels, **found):
    return SimpleNamespace(
        labels=labels, found={k: found.get(k, True) for k in labels}, n_frames=1, types=np.array([0, 1], np.int32),
        frame=np.array([0, 0], np.int32), atoms_per_frame=np.array([2.0]),
    )  # fmt: skip


def test_the_tensor_loss_counts_selected_atoms_and_weights_them():
    labels = {"dipole": np.array([[1.0, 0, 0]]), "atomic_dipole": np.zeros((2, 3)), "atomic_weight": np.array([3.0, 1])}
    facts = {"name": "dipole", "width": 3, "sel_type": [0]}
    prediction = output([[4.0, 0, 0]], [[1.0, 0, 0], [9.0, 9, 9]])
    loss, report = TensorLoss({"pref": 2.0, "pref_atomic": 5.0}, 1.0, facts)(prediction, batch(labels), 1.0)
    assert float(loss) == pytest.approx(2 * 9 / 3 + 5 * 1 / 3)
    assert report["rmse_global_dipole"] == pytest.approx(np.sqrt(3.0) / 2)
    assert report["rmse_local_dipole"] == pytest.approx(np.sqrt(1 / 3))
    section = {"pref": 0.0, "pref_atomic": 1.0, "enable_atomic_weight": True}
    assert float(TensorLoss(section, 1.0, facts)(prediction, batch(labels), 1.0)[0]) == pytest.approx(9 / 3)
    absent = TensorLoss({"pref": 2.0, "pref_atomic": 5.0}, 1.0, facts)(prediction, batch(labels, dipole=False), 1.0)
    assert float(absent[0]) == pytest.approx(5 / 3) and np.isnan(absent[1]["rmse_global_dipole"])


def test_the_dos_loss_and_its_running_sums():
    labels = {"dos": np.zeros((1, 3)), "atom_dos": np.zeros((2, 3))}
    prediction = output([[1.0, 2.0, -1.0]], [[1.0, 0, 0], [0, 2.0, -1.0]])
    section = {"start_pref_dos": 1.0, "limit_pref_dos": 1.0, "start_pref_cdf": 10.0, "start_pref_acdf": 100.0}
    loss, report = DosLoss(section, 1.0, {"width": 3})(prediction, batch(labels), 1.0)
    cdf, acdf = (1 + 9 + 4) / 3, (3 + 0 + 4 + 1) / 6
    assert float(loss) == pytest.approx(6 / 3 + 10 * cdf + 100 * acdf)
    assert report["rmse_global_cdf"] == pytest.approx(np.sqrt(cdf) / 2)
    assert report["rmse_local_cdf"] == pytest.approx(np.sqrt(acdf))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mae", 3.5), ("mse", 6.25), ("rmse", 2.5 / np.sqrt(2)), ("smooth_mae", 3.0), ("mape", 1.0 / 2 * 5 / 1.001)],
)
def test_the_property_loss(kind, expected):
    """Errors of 5 and 0 with spreads 2 and 1: x = 2.5; the second case of smooth_mae is linear beyond 1."""
    facts = SimpleNamespace(output={"name": "gap", "width": 2, "reduce": "mean"})
    model = SimpleNamespace(facts=lambda: facts, out_std=torch.tensor([[2.0, 1.0]], dtype=torch.float64))
    prediction = output([[6.0, 1.0 if kind != "mae" else 2.0]], [[0.0, 0.0]] * 2)
    loss, report = PropertyLoss({"loss_func": kind, "metric": ["mae", "rmse"]}, model)(
        prediction, batch({"gap": np.array([[1.0, 1.0]])}), 1.0
    )
    assert float(loss) == pytest.approx(expected if kind != "smooth_mae" else 2.0)
    assert report["mae"] == pytest.approx(3.0 if kind == "mae" else 2.5)


# -------------------------------------------------------------------------------------------- training, dp test


def section(kind, **more):
    descriptor = {"type": "se_e2_a", "sel": [20, 40], "rcut": 3.0, "rcut_smth": 0.5, "neuron": [4, 8],
                  "axis_neuron": 3, "seed": 1}  # fmt: skip
    return {"descriptor": descriptor, "fitting_net": {"type": kind, "neuron": [8, 8], "seed": 2, **more}}


TRAININGS = {
    "dipole": (["O", "H"], {"sel_type": [0]}, {"type": "tensor", "pref": 0.0, "pref_atomic": 1.0},
               "water_tensor/dipole/training_data_reformat/atomic_system", "rmse_local_dipole_trn"),
    "polar": (["O", "H"], {"sel_type": 0, "shift_diag": False}, {"type": "tensor", "pref": 0.0, "pref_atomic": 1.0},
              "water_tensor/polar/training_data_reformat/atomic_system", "rmse_local_polar_trn"),
    "dos": (["Si"], {"numb_dos": 250}, {"type": "dos", "start_pref_dos": 1.0, "limit_pref_dos": 1.0},
            "dos/data/heat-221", "rmse_global_dos_trn"),
    "property": (["H", "C", "N", "O"], {"property_name": "band_prop", "task_dim": 3, "intensive": True},
                 {"type": "property", "loss_func": "mse"}, "property/data/data_0", "mae_trn"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAININGS)
def test_training_on_real_data_lowers_the_loss_and_dp_test_writes_its_lines(kind, shared, tmp_path, caplog):
    from training_runs import run

    type_map, more, loss, data, column = TRAININGS[kind]
    system = str(shared(data))
    model = {"type_map": type_map, **section(kind, **more)}
    if kind == "property":
        model["descriptor"] = {"type": "se_atten", "sel": 40, "rcut": 3.0, "attn_layer": 0, "seed": 1}
    else:
        model["descriptor"]["sel"] = [20, 40][: len(type_map)]
    few = kind == "property"
    rate = {"type": "exp", "start_lr": 0.002 if few else 0.01, "stop_lr": 0.0005}
    data = {"systems": [system], "batch_size": 8 if few else 1}
    jdata = {
        "model": {**model, "data_stat_nbatch": 2},
        "learning_rate": rate,
        "loss": loss,
        "training": {"training_data": data, "numb_steps": 60, "seed": 1, "disp_freq": 5, "save_freq": 60},
    }  # fmt: skip
    run(tmp_path, jdata, check_data=False, skip_neighbor_stat=True)
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)[column]
    assert curve[-4:].mean() < curve[:2].mean()
    from deepmd.train.checkpoint import load_model

    freeze_model(load_model(tmp_path / "model.ckpt.pt")[0], tmp_path / "m.pth")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="deepmd.test"):
        details = str(tmp_path / "d")
        errors = dp_test.main(
            argparse.Namespace(model=str(tmp_path / "m.pth"), system=system, numb_test=2, detail_file=details)
        )
    words = {"dipole": "Dipole  RMSE       : ", "polar": "Polarizability  RMSE       : ",
             "dos": "DOS MAE/Natoms     : ", "property": "PROPERTY RMSE           : "}  # fmt: skip
    assert any(line.startswith(words[kind]) for line in caplog.messages)
    assert all(np.isfinite(values).all() for values in errors.values())
    names = {"dipole": "d.out", "polar": "d.out", "dos": "d.dos.out.1", "property": "d.property.out.1"}
    columns = {"dipole": 6, "polar": 18, "dos": 2, "property": 2}
    assert np.loadtxt(tmp_path / names[kind]).shape[1] == columns[kind]
