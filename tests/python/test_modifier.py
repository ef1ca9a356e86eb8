"""The modifier dipole_charge: its sum, derivatives, what DeePMD-kit says, and its way from labels to predictions."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import checks
import numpy as np
import pytest
import torch
from deepmd import change_bias, exchange, model_file
from deepmd import test as dp_test
from deepmd.data import load_systems
from deepmd.data.graph import GraphCache
from deepmd.errors import DeepmdError, InputError
from deepmd.nn.ewald import ewald_energy, grid_sizes
from deepmd.nn.modifier import open_modifier
from deepmd.train import checkpoint
from reference.formula_ewald import ewald
from reference.tiny_models import jittered
from training_runs import changed, make_input, run

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepPot, calc_model_devi  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "modifier"
CASES = {
    "water": ([-8.0], [6.0, 1.0], 1.0, 0.4),
    "sharp": ([-8.0], [6.0, 1.0], 0.4, 1.1),
    "charged": ([-7.5], [6.0, 0.7], 0.7, 0.6),
}


def section(case: str = "water", file: Path = GOLDEN / "dipole.dp") -> dict:
    """model/modifier of a case, as it stands after the defaults."""
    centroids, atoms, h, beta = CASES[case]
    numbers = {"model_charge_map": centroids, "sys_charge_map": atoms, "ewald_h": h, "ewald_beta": beta}
    return {"type": "dipole_charge", "model_name": str(file), **numbers}


@pytest.fixture(scope="module")
def modifiers():
    return {case: open_modifier(section(case), ["O", "H"]) for case in CASES}


def test_the_sum_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    cell = np.array([[4.1, 0, 0], [1.7, 5.2, 0], [-0.6, 0.9, 3.3]])
    positions, charges = rng.normal(size=(5, 3)) * 3, rng.normal(size=5)
    for spacing, beta in ((0.9, 0.7), (1.4, 2.0)):
        found = ewald_energy(*map(torch.from_numpy, (positions, charges, cell)), grid_sizes(cell, spacing), beta)
        assert float(found) == pytest.approx(ewald(positions, charges, cell, spacing, beta), rel=1e-12)


def test_two_charges_attract_as_in_the_open():
    """With the charges' energy with themselves taken off, a smeared pair far apart has that of two points."""
    beta, distance, length = 1.5, 2.0, 24.0
    positions, charges = np.array([[0.0, 0, 0], [distance, 0, 0]]), np.array([1.0, -1.0])
    cell = np.diag([length] * 3)
    energy = ewald_energy(*map(torch.from_numpy, (positions, charges, cell)), grid_sizes(cell, 0.3), beta)
    alone = 14.39964535475697 * beta / np.sqrt(np.pi) * (charges**2).sum()
    assert float(energy) - alone == pytest.approx(-14.39964535475697 / distance, rel=3e-3)


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_deepmd_kit(case):
    """Its TensorFlow operator holds ewald_h and ewald_beta in float32, so it is asked the same here."""
    golden, rounded = np.load(GOLDEN / "frames.npz"), section(case)
    rounded |= {key: float(np.float32(rounded[key])) for key in ("ewald_h", "ewald_beta")}
    modifier = open_modifier(rounded, ["O", "H"])
    for name in ("skewed", "small"):
        coord, cell, types = (golden[f"{name}.{key}"] for key in ("coord", "cell", "atype"))
        found = modifier.evaluate(coord, types, cell)
        for key, ours in (("energy", "energy"), ("force", "forces"), ("virial", "virial")):
            theirs = golden[f"{name}.{case}.{key}"]
            checks.assert_close(found[ours], theirs, "doors", scale=max(1.0, np.abs(theirs).max()))


def test_forces_and_virial_are_derivatives_and_follow_the_frame(modifiers):
    rng = np.random.default_rng(3)
    frame = jittered([[6.3, 0, 0], [1.1, 5.7, 0], [-0.7, 0.8, 6.1]], (2, 2, 2), 2, rng)

    def evaluate(positions, types, cell, pbc):
        return modifiers["charged"].evaluate(positions, types, cell, pbc)

    checks.check_forces(evaluate, frame, 3)
    checks.check_virial(evaluate, frame)
    checks.check_rotation_and_inversion(evaluate, frame, rng)
    checks.check_translation(evaluate, frame)
    checks.check_permutation(evaluate, frame, rng)
    checks.check_wrapping(evaluate, frame, rng)


def test_the_order_of_the_types_is_mapped_by_name(modifiers):
    frame = jittered(np.diag([6.3, 5.7, 6.1]), (2, 2, 2), 2, np.random.default_rng(4))
    turned = open_modifier({**section(), "sys_charge_map": [1.0, 6.0]}, ["H", "O"])
    expected = modifiers["water"].evaluate(frame.positions, frame.types, frame.cell)
    found = turned.evaluate(frame.positions, 1 - frame.types, frame.cell)
    checks.assert_equal_physics(found, expected, scale=100.0)


@pytest.mark.parametrize(
    ("changes", "type_map", "words"),
    [
        ({"model_charge_map": [-8.0, 1.0]}, ["O", "H"], "got 2 charges, expected 1"),
        ({}, ["O", "C"], "and not C"),
        ({"model_name": "dw.pb"}, ["O", "H"], "TensorFlow"),
    ],
)
def test_a_dipole_model_that_does_not_fit_is_refused(changes, type_map, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dw.pb").write_bytes(b"graph")
    with pytest.raises(DeepmdError, match=words):
        open_modifier({**section(), **changes}, type_map)


def test_open_boundaries_are_refused(modifiers):
    for cell, pbc in ((None, None), (np.eye(3) * 9, (True, True, False))):
        with pytest.raises(DeepmdError, match="open boundaries"):
            modifiers["water"].evaluate(np.zeros((1, 3)), np.zeros(1, int), cell, pbc)


# ------------------------------------------------------------------------------------------------------ a whole run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A few steps of training with the modifier, and the frozen file; the data are random frames."""
    from deepmd.data import write_system
    from small_systems import make_frames

    folder, made = tmp_path_factory.mktemp("modified"), make_frames(n_frames=3)
    write_system(folder / "system", made["types"], made["type_map"], made["data"])
    jdata = changed(make_input(folder / "system"), model__modifier=section(), training__numb_steps=3)
    run(folder, jdata)
    model, _ = checkpoint.load_model(folder / "model.ckpt.pt")
    freeze_model(model, folder / "graph.pth")
    return folder


@pytest.fixture(scope="module")
def frame(trained):
    return load_systems(str(trained / "system"), ["O", "H"])[0].frames([1])


def short_range(folder: Path, frame: dict) -> dict:
    from deepmd.core import Model

    model = Model(str(folder / "graph.pth"), part="short_range")
    return model.evaluate(frame["positions"][0], frame["types"][0], frame["cell"][0])


def test_labels_are_what_the_modifier_leaves(trained, frame, modifiers):
    system = load_systems(str(trained / "system"), ["O", "H"])
    plain, ours = (GraphCache(system, 4.0, modifier=one).single(0, 1) for one in (None, modifiers["water"]))
    part = modifiers["water"].evaluate(frame["positions"][0], frame["types"][0], frame["cell"][0])
    assert abs(part["energy"]) > 1.0
    np.testing.assert_allclose(plain.labels["energy"] - ours.labels["energy"], part["energy"], rtol=1e-12)
    np.testing.assert_allclose(plain.labels["virial"][0] - ours.labels["virial"][0], part["virial"], atol=1e-9)
    order = np.argsort(frame["types"][0], kind="stable")
    np.testing.assert_allclose(plain.labels["force"] - ours.labels["force"], part["forces"][order], atol=1e-9)


def test_predictions_have_it_added_back(trained, frame, modifiers):
    inputs = (frame["positions"], frame["cell"], frame["types"][0])
    core = short_range(trained, frame)
    part = modifiers["water"].evaluate(frame["positions"][0], frame["types"][0], frame["cell"][0])
    for file in ("graph.pth", "model.ckpt.pt"):
        model = DeepPot(trained / file)
        assert model.modifier_type == "dipole_charge"
        energy, force, virial = model.eval(*inputs)
        checks.assert_close(energy[0, 0], core["energy"] + part["energy"], "invariance", scale=10.0)
        checks.assert_close(force[0], core["forces"] + part["forces"], "invariance", scale=10.0)
        checks.assert_close(virial[0].reshape(3, 3), core["virial"] + part["virial"], "invariance", scale=100.0)
    with pytest.raises(InputError, match="no energies of single atoms"):
        model.eval(*inputs, atomic=True)
    with pytest.raises(DeepmdError, match="open boundaries"):
        model.eval(inputs[0], None, inputs[2])


def test_dp_test_sees_the_labels_as_they_are(trained, frame):
    arguments = {"model": str(trained / "graph.pth"), "system": str(trained / "system"), "numb_test": 0}
    errors = dp_test.main(argparse.Namespace(**arguments))
    model, system = DeepPot(trained / "graph.pth"), load_systems(str(trained / "system"), ["O", "H"])[0]
    all_frames = system.frames()
    energy, *_ = model.eval(all_frames["positions"], all_frames["cell"], all_frames["types"][0])
    assert errors["energy"][0] == pytest.approx(np.abs(np.ravel(energy) - all_frames["energy"]).mean(), rel=1e-9)


def test_the_deviation_of_models_has_it_too(trained, frame):
    models = [DeepPot(trained / "graph.pth")] * 2
    inputs = (frame["positions"], frame["cell"], frame["types"][0])
    answers = dict(zip(("energy", "force", "virial"), models[0].eval(*inputs), strict=True))
    table = calc_model_devi(*inputs, models, real_data=answers)
    assert np.abs(table[0, 1:]).max() < 1e-9


def test_the_calculator_of_ase_adds_it(trained, frame):
    ase = pytest.importorskip("ase")
    from deepmd.calculator import DP

    atoms = ase.Atoms(np.array(["O", "H"])[frame["types"][0]], frame["positions"][0], cell=frame["cell"][0], pbc=True)
    atoms.calc = DP(trained / "graph.pth")
    energy = DeepPot(trained / "graph.pth").eval(frame["positions"], frame["cell"], frame["types"][0])[0]
    assert atoms.get_potential_energy() == pytest.approx(float(energy[0, 0]), abs=1e-9)


def test_doors_that_cannot_add_it_refuse_the_file(trained):
    from deepmd.core import Model

    with pytest.raises(DeepmdError, match="has the modifier 'dipole_charge'"):
        Model(str(trained / "graph.pth"))
    assert Model(str(trained / "graph.pth"), part="modifier").kind == "dipole"


def test_the_frozen_file_proves_the_modifier(trained, tmp_path):
    """A file whose stored answer is another one is refused, also when its checksum is right."""
    frozen = model_file.read(trained / "graph.pth")
    assert frozen.modifier is not None and frozen.metadata["modifier"]["selftest"]["energy"] != 0.0
    frozen.metadata["modifier"]["selftest"]["energy"] += 1e-3
    modified = checkpoint.load_model(trained / "model.ckpt.pt")[0]
    modifier, modified.modifier = modified.modifier, None
    module = torch.jit.script(modified.eval().requires_grad_(False))
    model_file.write(tmp_path / "wrong.pth", module, frozen)
    with pytest.raises(DeepmdError, match="self-test of its modifier"):
        DeepPot(tmp_path / "wrong.pth")
    assert modifier is not None


def test_a_restart_and_a_change_of_the_bias_use_the_same_labels(trained, tmp_path, caplog):
    system = str(trained / "system")
    jdata = changed(json.loads((trained / "input.json").read_text()), training__numb_steps=4)
    with caplog.at_level(logging.INFO):
        run(trained, jdata, restart=str(trained / "model.ckpt-3.pt"))
    assert "taken off the labels" in caplog.text
    for source in ("model.ckpt-3.pt", "graph.pth"):
        target = tmp_path / f"moved{Path(source).suffix}"
        change_bias.main(
            argparse.Namespace(INPUT=str(trained / source), output=str(target), bias_value=None, system=system,
                               datafile=None, numb_batch=0, mode="change", head=None)
        )  # fmt: skip
        moved = DeepPot(target)
        data = load_systems(system, ["O", "H"])[0].frames()
        energy, *_ = moved.eval(data["positions"], data["cell"], data["types"][0])
        assert abs((np.ravel(energy) - data["energy"]).mean()) < 1e-6 and moved.modifier_type == "dipole_charge"


def test_files_for_deepmd_kit_say_that_they_lack_it(trained, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        names = {"INPUT": str(trained / "graph.pth"), "OUTPUT": str(tmp_path / "model.dp")}
        exchange.main(argparse.Namespace(**names, head=None))
    assert "model of short range alone" in caplog.text
    assert DeepPot(tmp_path / "model.dp").modifier_type is None
    with pytest.raises(DeepmdError, match="use dp freeze"):
        exchange.main(argparse.Namespace(INPUT=str(trained / "graph.pth"), OUTPUT=str(tmp_path / "two.pth"), head=None))
