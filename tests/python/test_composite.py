"""Pair tables, networks with a table, weighted sums and frozen parts."""

from __future__ import annotations

import copy
import json

import checks
import numpy as np
import pytest
import torch
from deepmd.config import normalise
from deepmd.errors import InputError
from deepmd.exchange import read_tree
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import build, deserialize
from deepmd.nn.model.table import read_table
from reference.tiny_models import Options, make_frames, make_tree
from training_runs import make_input, run

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402


@pytest.fixture
def table(tmp_path):
    """A table of three pairs that ends at 3 Angstrom with values that are not zero."""
    r = np.arange(1, 301) * 0.01
    columns = [a * np.exp(-r / b) for a, b in ((30.0, 0.4), (20.0, 0.5), (9.0, 0.6))]
    np.savetxt(tmp_path / "table.txt", np.column_stack([r, *columns]))
    return tmp_path / "table.txt"


def network():
    section = make_input("x")["model"]
    section["descriptor"] |= {"activation_function": "tanh", "env_protection": 0.0}
    section["fitting_net"] |= {"type": "ener", "activation_function": "tanh"}
    return section


def switched(table):
    return build({**network(), "use_srtab": str(table), "sw_rmin": 0.9, "sw_rmax": 2.2, "smin_alpha": 0.3})


def summed(table):
    part = {"type": "pairtab", "tab_file": str(table), "rcut": 3.2}
    return build({"type": "linear_ener", "type_map": ["O", "H"], "models": [network(), part], "weights": [0.3, 2.0]})


def alone(table):
    return build({"type": "pairtab", "tab_file": str(table), "rcut": 3.5, "type_map": ["O", "H"]})


MODELS = {"switched": switched, "summed": summed, "alone": alone}


def test_the_pieces_meet_the_points_with_continuous_slope_and_curvature(table):
    found = read_table(table, 3.5, 2)
    assert found.n_types == 2 and found.values[-1, 0] == pytest.approx(3.5)
    c = found.coefficients[0, 1]
    np.testing.assert_array_equal(c, found.coefficients[1, 0])
    np.testing.assert_allclose(c[:, 3], found.values[:-1, 2], atol=1e-12)
    np.testing.assert_allclose(c.sum(axis=1), found.values[1:, 2], atol=1e-9)
    np.testing.assert_allclose(3 * c[:-1, 0] + 2 * c[:-1, 1] + c[:-1, 2], c[1:, 2], atol=1e-9)
    np.testing.assert_allclose(6 * c[:-1, 0] + 2 * c[:-1, 1], 2 * c[1:, 1], atol=1e-9)
    assert c[0, 2] == 0.0 and abs(found.values[-2:, 1:]).max() == 0.0
    scipy = pytest.importorskip("scipy.interpolate")
    spline = scipy.CubicSpline(np.arange(len(found.values)), found.values[:, 2], bc_type="clamped")
    np.testing.assert_allclose(c[:, 2], spline(np.arange(len(c)), 1), atol=1e-10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3\n2 3 4\n", "4 columns"),
        ("1 1 1 1\n2 1 1 1\n4 1 1 1\n", "even"),
        ("a b c d\n", "numbers"),
        (None, "read"),
    ],
)
def test_bad_tables_are_refused_in_words(tmp_path, text, words):
    if text is not None:
        (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / "bad.txt", 3.0, 2)


def test_the_peer_s_network_with_table_is_reproduced(shared):
    from peer_frames import QUANTITIES

    tree = read_tree(shared("..", "peer", "zbl.dp"))
    stored = tree["model"]["models"][1]["tab"]["@variables"]["tab_data"]
    ours = read_table(shared("water", "zbl", "H2O_tab_potential.txt"), 6.0, 2)
    np.testing.assert_allclose(ours.coefficients.ravel(), stored, rtol=1e-12, atol=1e-9)
    model = deserialize(tree).eval()
    data = np.load(shared("..", "peer", "zbl.npz"))
    for name in dict.fromkeys(key.split(".")[0] for key in data):
        cell = data[f"{name}.cell"][0].reshape(3, 3) if f"{name}.cell" in data else None
        pairs = find_pairs(data[f"{name}.coord"][0].reshape(-1, 3), cell, 6.0)
        result = evaluate(model, pairs, data[f"{name}.atype"])
        for theirs, key in QUANTITIES.items():
            expected = np.ravel(data[f"{name}.{theirs}"][0])
            np.testing.assert_allclose(np.ravel(result[key]), expected, rtol=0, atol=1e-9, err_msg=f"{name} {theirs}")


@pytest.mark.parametrize("kind", MODELS)
def test_the_frozen_model_has_the_physics_of_the_eager_one_in_the_core(kind, table, tmp_path):
    model = MODELS[kind](table).eval()
    with torch.no_grad():
        model.out_bias.copy_(torch.tensor([1.5, -0.5], dtype=torch.float64))
    freeze_model(model, tmp_path / "m.pth")
    door = DeepPot(tmp_path / "m.pth")
    frame = make_frames()["smaller than the cutoff"]

    def of_core(positions, types, cell, pbc):
        return door.evaluate_frame(positions, types, cell, pbc=pbc, atomic=True)

    result = of_core(frame.positions, frame.types, frame.cell, None)
    expected = evaluate(model, find_pairs(frame.positions, frame.cell, model.rcut), frame.types)
    for key in expected:
        np.testing.assert_allclose(np.ravel(result[key]), np.ravel(expected[key]), rtol=0, atol=1e-10)
    checks.check_forces(of_core, frame, atoms=1)
    checks.check_parts_add_up(of_core, frame)
    checks.check_isolated_atoms(of_core, 2, model.rcut)


@pytest.mark.parametrize("kind", MODELS)
def test_the_tree_holds_the_whole_model(kind, table):
    model = MODELS[kind](table).eval()
    again = deserialize(copy.deepcopy(model.serialize())).eval()
    assert json.dumps(model.serialize(), default=np.ndarray.tolist) == json.dumps(
        again.serialize(), default=np.ndarray.tolist
    )
    frame = make_frames()["molecule"]
    pairs = find_pairs(frame.positions, None, model.rcut)
    np.testing.assert_array_equal(
        evaluate(model, pairs, frame.types)["forces"], evaluate(again, pairs, frame.types)["forces"]
    )


def test_a_sum_weighs_its_parts_and_takes_types_by_name(table, tmp_path):
    from deepmd.exchange import write_tree

    first, second = make_tree(Options()), make_tree(Options(type_map=["H", "C", "O"], sel=[9, 8, 7], rcut=3.0))
    write_tree(tmp_path / "a.dp", first)
    write_tree(tmp_path / "b.dp", second)
    parts = [{"type": "frozen", "model_file": str(tmp_path / name)} for name in ("a.dp", "b.dp")]
    parts[1]["type_map"] = ["H", "C", "O"]
    section = {"type": "linear_ener", "type_map": ["O", "H"], "weights": "mean", "models": parts}
    model = build(section).eval()
    assert not any(p.requires_grad for p in model.parameters()) and model.descriptors() == []
    frame = make_frames()["molecule"]
    near, far = (find_pairs(frame.positions, None, rcut) for rcut in (3.0, 4.0))
    whole = evaluate(model, far, frame.types)["energy"]
    a = evaluate(deserialize(first), far, frame.types)["energy"]
    b = evaluate(deserialize(second), near, np.array([2, 0])[frame.types])["energy"]
    np.testing.assert_allclose(whole, 0.5 * (a + b), atol=1e-11)
    with pytest.raises(InputError, match="not H"):
        build({**section, "models": [{"type": "pairtab", "tab_file": str(table), "rcut": 3.0, "type_map": ["O", "C"]}]})


@pytest.mark.parametrize("kind", ["switched", "linear", "table"])
def test_training_lowers_the_loss_and_the_checkpoint_opens(kind, table, tiny_system, tmp_path):
    from deepmd.train.checkpoint import load_model

    jdata = make_input(tiny_system())
    short = {"type": "pairtab", "tab_file": str(table), "rcut": 3.0}
    if kind == "switched":
        jdata["model"] |= {"use_srtab": str(table), "sw_rmin": 0.3, "sw_rmax": 0.6}
    elif kind == "linear":
        part = {key: jdata["model"].pop(key) for key in ("descriptor", "fitting_net")}
        jdata["model"] |= {"type": "linear_ener", "models": [part, short], "weights": "sum"}
    else:
        jdata["model"] = {"type_map": ["O", "H"], **short}
        jdata["training"]["numb_steps"] = 0
    run(tmp_path / "run", jdata)
    model, _ = load_model(tmp_path / "run" / "model.ckpt.pt")
    frame = make_frames()["molecule"]
    assert np.isfinite(evaluate(model.eval(), find_pairs(frame.positions, None, 4.0), frame.types)["forces"]).all()
    assert abs(model.out_bias).max() > 0.1
    if kind != "table":
        curve = np.genfromtxt(tmp_path / "run" / "lcurve.out", names=True)["rmse_trn"]
        assert curve[-1] < curve[0]


def test_inputs_of_parts_are_checked_where_they_stand(tiny_system, table):
    jdata = make_input(tiny_system())
    jdata["model"]["use_srtab"] = str(table)
    with pytest.raises(InputError, match="model/sw_rmin"):
        normalise(jdata)
    part = {key: jdata["model"].pop(key) for key in ("descriptor", "fitting_net", "use_srtab")}
    part.pop("use_srtab")
    jdata["model"] |= {"type": "linear_ener", "models": [part], "weights": [1.0, 2.0]}
    with pytest.raises(InputError, match="model/weights"):
        normalise(jdata)
    jdata["model"] |= {"models": [{**part, "descriptor": {**part["descriptor"], "rcut": -1.0}}], "weights": "sum"}
    with pytest.raises(InputError, match=r"model/models\[0\]/descriptor/rcut"):
        normalise(jdata)
