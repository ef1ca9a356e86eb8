"""Models with spins: the peer's energies, derivatives, symmetries, training on real data, files and doors."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from deepmd import config, eval_desc, exchange, freeze
from deepmd.data import write_system
from deepmd.errors import DataError, InputError
from deepmd.infer import DeepEval, DeepPot, DeepSpin, calc_model_devi
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import build, deserialize
from deepmd.train import checkpoint
from training_runs import changed, equal, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")
GOLDENS = Path(__file__).parents[1] / "data" / "spin"

PARTS = {
    "se_e2_a": {"type": "se_e2_a", "sel": [8, 16], "neuron": [4, 8], "axis_neuron": 3},
    "se_e3": {"type": "se_e3", "sel": [8, 16], "neuron": [4]},
    "se_atten": {"type": "se_atten", "sel": 30, "neuron": [4, 8], "axis_neuron": 3, "attn": 4, "attn_layer": 1,
                 "smooth_type_embedding": True, "tebd_dim": 3},
    "hybrid": {"type": "hybrid", "list": [
        {"type": "se_e2_a", "sel": [8, 16], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4], "axis_neuron": 2},
        {"type": "se_e2_r", "sel": [8, 16], "rcut": 3.0, "rcut_smth": 0.5, "neuron": [4]}]},
    "dpa2": {"type": "dpa2", "repinit": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 30, "neuron": [4, 8], "axis_neuron": 2},
             "repformer": {"rcut": 3.0, "rcut_smth": 0.5, "nsel": 20, "nlayers": 2, "g1_dim": 6, "g2_dim": 4,
                           "attn1_hidden": 4, "attn1_nhead": 2, "attn2_hidden": 4, "attn2_nhead": 2}},
}  # fmt: skip


def spin_input(system, name="se_e2_a", **training):
    """Oxygen carries a spin, hydrogen does not."""
    jdata = make_input(system, **training)
    part = copy.deepcopy(PARTS[name])
    plain = {} if name in ("hybrid", "dpa2") else {"rcut": 4.0, "rcut_smth": 0.5}
    jdata["model"] |= {"descriptor": {**plain, **part, **({} if name == "hybrid" else {"seed": 1})}}
    jdata["model"]["spin"] = {"use_spin": [True, False], "virtual_scale": [0.3]}
    jdata["loss"] = {"type": "ener_spin"}
    return jdata


def make_model(name):
    torch.manual_seed(0)
    model = build(config.normalise(spin_input("x", name))["model"])
    model.backbone.out_bias[:2] = torch.tensor([-3.0, 1.5])
    return model


def a_frame(seed=2):
    rng = np.random.default_rng(seed)
    cell = np.array([[4.3, 0, 0], [0.9, 4.5, 0], [-0.5, 0.8, 4.6]])
    sites = np.array([[0, 0, 0], [2.1, 0.2, 0], [0.1, 2.2, 0.3], [2.0, 2.2, 2.1], [0.3, 0.2, 2.3], [2.2, 0.3, 2.2]])
    types = np.array([0, 1, 0, 1, 0, 1])
    return sites + rng.normal(0, 0.05, sites.shape), cell, types, rng.normal(0, 0.6, sites.shape)


def results(model, positions, cell, types, spin):
    pairs = find_pairs(positions, cell, model.facts().rcut)
    return evaluate(model, pairs, types, spin=spin)


@pytest.mark.parametrize("name", ["se_e2_a", "dpa2"])
def test_descriptors_are_what_energies_are_made_of(name, tmp_path):
    model = make_model(name).eval()
    freeze.freeze_model(model, tmp_path / "graph.pth")
    positions, cell, types, spin = a_frame()
    d = DeepSpin(tmp_path / "graph.pth").eval_descriptor(positions[None], cell[None], types, spin)
    system = write_system(tmp_path / "system", types, ["O", "H"], {"positions": positions[None], "cell": cell[None],
                                                                   "spin": spin[None]})  # fmt: skip
    names = {"model": str(tmp_path / "graph.pth"), "system": str(system), "output": str(tmp_path / "d")}
    eval_desc.main(argparse.Namespace(**names, head=None, dtype="native", datafile=None))
    np.testing.assert_allclose(np.load(tmp_path / "d" / "system.npy"), d, atol=1e-12)
    kinds = torch.from_numpy(types)
    with torch.no_grad():
        energies = model.backbone.fitting(torch.from_numpy(d[0]), kinds, None, None) + model.out_bias[kinds]
    expected = results(model, positions, cell, types, spin)["atom_energy"]
    np.testing.assert_allclose(energies.numpy(), expected, atol=1e-12)


def test_the_deviation_of_models_with_spins(tmp_path):
    """As for other models, with three more columns for the magnetic forces of the atoms that carry a spin."""
    models, (positions, cell, types, spin) = [], a_frame()
    for k in range(2):
        model = make_model("se_e2_a").eval()
        with torch.no_grad():
            model.backbone.fitting.networks[0].layers[0].w *= 1.0 + 0.3 * k
        freeze.freeze_model(model, tmp_path / f"{k}.pth")
        models.append(DeepSpin(tmp_path / f"{k}.pth"))
    inputs = (positions[None], cell[None], types)
    table = calc_model_devi(*inputs, models, spin=spin, fname=str(tmp_path / "devi.out"))
    answers = [model.eval(*inputs, spin=spin) for model in models]
    names = (tmp_path / "devi.out").read_text().splitlines()[0].split()[2:]
    columns = dict(zip(names, table[0, 1:], strict=True))
    for key, index, chosen in (("fr", 1, slice(None)), ("fm", 3, types == 0)):
        half = np.linalg.norm(answers[0][index][0] - answers[1][index][0], axis=1)[chosen] / 2
        assert columns[f"max_devi_{key}"] == pytest.approx(half.max()) and half.max() > 1e-6
        assert columns[f"avg_devi_{key}"] == pytest.approx(half.mean())
    labels = dict(zip(("energy", "force", "virial", "force_mag"), answers[0][:4], strict=True))
    exact = calc_model_devi(*inputs, models[:1], spin=spin, real_data=labels)
    assert np.abs(exact[0, 1:]).max() < 1e-9
    with pytest.raises(InputError, match="got none; give spin"):
        calc_model_devi(*inputs, models)


@pytest.mark.parametrize("name", ["spin", "spin_att"])
def test_the_energies_of_the_peer(name, tmp_path):
    tree = exchange.read_tree(GOLDENS / f"{name}.dp")
    exchange.check_supported(tree)
    model = deserialize(tree).eval()
    model.reach[:] = 0.9
    data = np.load(GOLDENS / f"{name}.npz")
    for frame in ("bulk", "skewed", "molecule"):
        cell = data[f"{frame}.cell"].reshape(3, 3) if f"{frame}.cell" in data else None
        arrays = [data[f"{frame}.{key}"].reshape(-1, 3) for key in ("coord", "spin")]
        ours = results(model, arrays[0], cell, data[f"{frame}.atype"], arrays[1])
        np.testing.assert_allclose(ours["atom_energy"], data[f"{frame}.atom_energy"][0], rtol=0, atol=1e-10)
    again = model.serialize()
    theirs, ours = (exchange.flatten(one)[1] for one in (tree["model"], again))
    assert theirs.keys() == ours.keys() and again["spin"] == {"use_spin": [True, False], "virtual_scale": [0.314, 0.0]}
    assert all(np.array_equal(theirs[key], ours[key]) for key in theirs)


@pytest.mark.parametrize("name", PARTS)
def test_forces_of_both_kinds_and_virial_are_derivatives(name):
    model = make_model(name).eval()
    positions, cell, types, spin = a_frame()
    ours, h = results(model, positions, cell, types, spin), 1e-4

    def energy(**change):
        frame = {"positions": positions, "cell": cell, "types": types, "spin": spin}
        return results(model, **{**frame, **change})["energy"]

    def slope(of):
        return (8 * (of(h) - of(-h)) - (of(2 * h) - of(-2 * h)))[0] / (12 * h)

    for i, a in ((0, 0), (1, 2)):
        step = np.zeros_like(positions)
        step[i, a] = 1.0
        force = -slope(lambda x, step=step: energy(positions=positions + x * step))
        assert ours["forces"][i, a] == pytest.approx(force, abs=2e-7)
        magnetic = -slope(lambda x, step=step: energy(spin=spin + x * step))
        assert ours["force_mag"][i, a] == pytest.approx(magnetic, abs=2e-7)
    assert not ours["force_mag"][types == 1].any() and np.abs(ours["force_mag"][types == 0]).max() > 1e-6
    for a, b in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] = 1.0
        moved = slope(lambda x, s=strain: energy(positions=positions + x * positions @ s.T, cell=cell + x * cell @ s.T))
        assert ours["virial"][a, b] == pytest.approx(-moved, abs=1e-6)


@pytest.mark.parametrize("name", PARTS)
def test_turning_positions_and_spins_together_turns_the_forces(name):
    model = make_model(name).eval()
    positions, cell, types, spin = a_frame()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    before = results(model, positions, cell, types, spin)
    after = results(model, positions @ turn, cell @ turn, types, spin @ turn)
    assert after["energy"] == pytest.approx(before["energy"], abs=1e-10)
    for key in ("forces", "force_mag"):
        np.testing.assert_allclose(after[key], before[key] @ turn, atol=1e-9)
    alone = results(model, positions, cell, types, spin @ turn)
    assert abs(alone["energy"] - before["energy"])[0] > 1e-7
    other = np.where(types[:, None] == 1, 5.0, spin)  # spins of types that carry none are not read
    assert results(model, positions, cell, types, other)["energy"] == before["energy"]


@pytest.mark.parametrize("name", ["se_e2_a", "dpa2"])
def test_a_frozen_file_gives_the_same_and_refuses_longer_spins(name, tmp_path):
    model = make_model(name)
    freeze.freeze_model(model, tmp_path / "m.pth")  # proves itself in TorchScript
    positions, cell, types, spin = a_frame()
    spin[0] *= 1e-6  # next to nothing
    door = DeepEval(tmp_path / "m.pth")
    assert isinstance(door, DeepSpin) and door.has_spin and door.get_ntypes_spin() == 1
    ours = results(model.eval(), positions, cell, types, spin)
    e, f, v, ae, av, fm, mask = door.eval(positions, cell, types, atomic=True, spin=spin)
    for one, key in ((e, "energy"), (f, "forces"), (v, "virial"), (ae, "atom_energy"), (fm, "force_mag")):
        np.testing.assert_allclose(np.ravel(one), np.ravel(ours[key]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(av.sum(axis=1), v, atol=1e-9)
    assert mask[0, :, 0].tolist() == (types == 0).tolist()
    with pytest.raises(InputError, match="got none"):
        door.eval(positions, cell, types)
    with pytest.raises(InputError, match="mu_B long"):
        door.eval(positions, cell, types, spin=10 * np.ones_like(spin))


def test_real_data_are_learned(tmp_path, shared):
    from deepmd import test as dp_test

    folder = shared("spin", "data_reformat")
    jdata = spin_input(folder, numb_steps=20, disp_freq=10, save_freq=20)
    jdata["model"]["type_map"] = ["Ni", "O"]
    jdata["model"]["data_stat_nbatch"] = 1
    jdata["model"]["descriptor"]["rcut"] = 3.0
    jdata["learning_rate"] = {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-3, "decay_steps": 10}
    jdata["training"]["training_data"] = {"systems": str(folder / "data_2"), "batch_size": 1}
    del jdata["training"]["validation_data"]
    run(tmp_path, jdata, skip_neighbor_stat=True, check_data=False)
    curve = np.genfromtxt(tmp_path / "lcurve.out", names=True)
    assert {"rmse_e_trn", "rmse_fr_trn", "rmse_fm_trn"} <= set(curve.dtype.names)
    assert curve["rmse_trn"][-1] < 0.9 * curve["rmse_trn"][0]
    model, _ = checkpoint.load_model(tmp_path / "model.ckpt.pt")
    freeze.freeze_model(model, tmp_path / "graph.pth")
    model.reach[:] = 0.5
    model.cover(torch.tensor([3.0, 0.0]))
    again = deserialize({"model": model.serialize(), "model_def_script": model.section})
    assert float(again.reach) == float(model.reach) == pytest.approx(0.99)
    errors = dp_test.main(argparse.Namespace(
        model=str(tmp_path / "graph.pth"), system=str(folder / "data_2"), numb_test=2,
        detail_file=str(tmp_path / "detail")))  # fmt: skip
    assert {"energy", "force", "force_mag"} <= set(errors)
    assert np.loadtxt(tmp_path / "detail.fm.out").shape == (2 * 16, 6)
    assert np.loadtxt(tmp_path / "detail.fr.out").shape == (2 * 32, 6)


def test_data_without_spins_and_models_without_are_refused(tiny_system, tmp_path):
    system = tiny_system(n_frames=1)
    with pytest.raises(DataError, match=r"no spin\.npy"):
        run(tmp_path / "a", spin_input(system, numb_steps=1))
    model = make_model("se_e2_a")
    freeze.freeze_model(model, tmp_path / "m.pth")
    with pytest.raises(Exception, match="'spin', expected 'energy'"):
        DeepPot(tmp_path / "m.pth")


def test_data_without_spins_count_as_data_with_spins_of_zero_where_the_input_says_so(tiny_system, tmp_path, caplog):
    """To the last bit; forces count, magnetic forces do not; models and `dp test` do as training does."""
    from deepmd import test as dp_test

    def trained(name, zeros):
        folders = []
        for k in range(2):  # the first system has spins, the second one none, or none other than zero
            moved = tiny_system(f"{name}{k}", n_frames=2, seed=k)
            n_atoms = len((moved / "type.raw").read_text().split())
            values = np.random.default_rng(k).normal(0, 0.5 if k == 0 else 0.0, (2, 3 * n_atoms))
            if k == 0 or zeros:
                np.save(moved / "set.000" / "spin.npy", values)
            if k == 0:
                np.save(moved / "set.000" / "force_mag.npy", values)
            folders.append(str(moved))
        jdata = changed(spin_input(tmp_path), training__numb_steps=4, training__save_freq=4,
                        model__spin__allow_missing_label=not zeros)  # fmt: skip
        del jdata["training"]["validation_data"]
        jdata["training"]["training_data"] = {"systems": folders, "batch_size": 1}
        run(tmp_path / name, jdata)
        return folders[1]

    with caplog.at_level("INFO"):
        lacking = trained("lacking", False)
    text = caplog.text
    assert f"no force_mag in 1 of 2 systems ({lacking})" in text and "no force in" not in text
    assert "there is no spin.npy, so its spins are zero" in text
    trained("full", True)
    assert equal(weights(tmp_path / "lacking" / "model.ckpt.pt"), weights(tmp_path / "full" / "model.ckpt.pt"))
    model, _ = checkpoint.load_model(tmp_path / "lacking" / "model.ckpt.pt")
    freeze.freeze_model(model, tmp_path / "graph.pth")
    args = argparse.Namespace(model=str(tmp_path / "graph.pth"), system=lacking, numb_test=2)
    assert "force" in dp_test.main(args)
    forced, _ = checkpoint.load_model(tmp_path / "full" / "model.ckpt.pt")
    freeze.freeze_model(forced, tmp_path / "forced.pth")
    args.model = str(tmp_path / "forced.pth")
    with pytest.raises(DataError, match=r"lacking1.*no spin\.npy, which the model needs"):
        dp_test.main(args)


def test_labels_of_the_lines_of_dp_test():
    from deepmd.measure import MEASURES
    from deepmd.measure.pairs import lines_of

    lines = lines_of(MEASURES["spin"].quantities, {"force": (1.0, 2.0), "force_mag": (3.0, 4.0)}, 19)
    assert lines[0].startswith("Force atom MAE      : 1.") and lines[3].startswith("Force spin RMSE     : 4.")
    assert lines[3].endswith("eV/uB")


WRONG = [
    ("model__spin__use_spin", [True], "2 of true or false"),
    ("model__spin__use_spin", ["Fe"], "model/type_map"),
    ("model__spin__use_spin", [False, False], "at least one type"),
    ("model__spin__virtual_scale", [0.1, 0.2, 0.3], "one number"),
    ("model__spin__virtual_scale", -0.1, "positive"),
    ("model__spin__scheme", "native", "'deepspin'"),
    ("model__fitting_net__type", "dos", "'ener'"),
    ("loss__type", "ener", "'ener_spin', as the model has spins"),
]


@pytest.mark.parametrize("path, value, words", WRONG, ids=[f"{p}={v}"[:50] for p, v, _ in WRONG])
def test_what_is_wrong_is_told(path, value, words):
    with pytest.raises(InputError, match=words):
        config.normalise(changed(spin_input("x"), **{path: value}))


@pytest.mark.parametrize("given", [[True, False], [0], ["O"]])
def test_types_with_spins_by_flag_index_or_name(given):
    full = config.normalise(changed(spin_input("x"), model__spin__use_spin=given))
    assert full["model"]["spin"]["use_spin"] == [True, False] and full["model"]["spin"]["virtual_scale"] == [0.3, 0.0]
    assert config.normalise(full) == full


def test_the_spelling_of_version_2_is_upgraded():
    old = spin_input("x")
    old["model"]["spin"] = {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.25]}
    current, changes = config.upgrade(old)
    assert current["model"]["spin"]["virtual_scale"] == [0.32] and any("virtual_len" in line for line in changes)
