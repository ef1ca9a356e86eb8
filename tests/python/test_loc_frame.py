"""The descriptor of local frames: its definition by loops, turns, derivatives, TorchScript, the tree, training."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import checks
import numpy as np
import pytest
import torch
from deepmd.errors import InputError
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.layers import load_into
from deepmd.nn.model import build, deserialize
from deepmd.train import checkpoint
from reference.peer_loc_frame import FRAMES, SECTION
from reference.tiny_descriptors import input_of
from reference.tiny_models import make_frames
from training_runs import make_input, run

pytestmark = pytest.mark.usefixtures("compiled")

PLAIN = {"type": "loc_frame", "sel_a": [3, 4], "sel_r": [2, 3], "rcut": 4.0}
RULES = {
    "two nearest": [],
    "by type": [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0],
    "other types and radial": [0, -1, 0, 0, -2, 1, 1, 1, 0, 0, -3, 0],
}
SHAPES = ("molecule", "no neighbours", "slab")  # in tiny cells images are equally far, and frames undefined


@pytest.fixture(scope="module", params=RULES)
def model(request):
    rng = np.random.default_rng(3)
    model = build(input_of({**PLAIN, "axis_rule": RULES[request.param]})).eval()
    model.descriptor.davg.copy_(torch.from_numpy(rng.normal(0, 0.2, model.descriptor.davg.shape)))
    model.descriptor.dstd.copy_(torch.from_numpy(rng.uniform(0.2, 0.4, model.descriptor.dstd.shape)))
    return model


def evaluator(model):
    def call(positions, types, cell, pbc):
        return evaluate(model, find_pairs(positions, cell, model.descriptor.rcut, pbc), types)

    return call


def by_loops(descriptor, i, pairs, types):
    """One atom's descriptor."""
    found = zip(pairs.vectors, pairs.centers, pairs.neighbors, strict=True)
    around = [(float(np.linalg.norm(v)), int(types[j]), v) for v, c, j in found if c == i]
    around.sort(key=lambda one: one[0])
    blocks = [[one for one in around if one[1] == t] for t in range(2)]
    full = [block[:n] for block, n in zip(blocks, descriptor.sel_a, strict=True)]
    radial = [b[n : n + m] for b, n, m in zip(blocks, descriptor.sel_a, descriptor.sel_r, strict=True)]
    rule = descriptor.rules[types[i]]

    def candidates(kind, of_type):
        group = full if kind == 0 else radial
        if of_type >= 0:
            return group[of_type]
        several = [one for t in range(2) if t != -(of_type + 1) for one in group[t][:3]]
        return sorted(several, key=lambda one: one[0])

    first, second = candidates(*rule[:2])[rule[2] :][:1], candidates(*rule[3:5])[rule[5] :]
    frame = np.zeros((3, 3))
    if first:
        x = first[0][2] / first[0][0]
        good = [one for one in second if abs(x @ one[2] / one[0]) < 1 - 1e-4]
        if good:
            y = good[0][2] - x * (x @ good[0][2])
            y /= np.linalg.norm(y)
            frame = np.array([np.cross(x, y), x, y])
    rows, ends = [], []
    for t in range(2):
        for k in range(descriptor.sel_a[t]):
            r, _, v = full[t][k] if k < len(full[t]) else (np.inf, 0, np.zeros(3))
            rows += [1 / r, *(frame @ v / r**2)]
        ends += [1 / radial[t][k][0] if k < len(radial[t]) else 0.0 for k in range(descriptor.sel_r[t])]
    mean, spread = descriptor.davg[types[i]].numpy(), descriptor.dstd[types[i]].numpy()
    return (np.array(rows + ends) - mean) / spread


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_is_met(model, shape):
    frame = make_frames(seed=5)[shape]
    pairs = find_pairs(frame.positions, frame.cell, 4.0, frame.pbc)
    arrays = [torch.from_numpy(a) for a in (pairs.vectors, pairs.centers, pairs.neighbors, frame.types)]
    d, rotation = model.descriptor(*arrays, len(frame.types))
    assert rotation.shape == (len(frame.types), 0, 3)
    for i in range(len(frame.types)):
        checks.assert_close(d[i].numpy(), by_loops(model.descriptor, i, pairs, frame.types), "closed form")


@pytest.mark.parametrize("shape", ["cell", "molecule"])
def test_symmetries_and_derivatives(model, shape):
    frame, call, rng = make_frames(seed=11)["molecule"], evaluator(model), np.random.default_rng(0)
    if shape == "cell":
        sites = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)[rng.permutation(27)[:16]] * 2.8
        cell = np.array([[8.4, 0, 0], [0.5, 8.5, 0], [-0.3, 0.4, 8.6]])  # an atom sees one image of another
        positions = sites + rng.uniform(-0.5, 0.5, sites.shape)
        frame = SimpleNamespace(positions=positions, types=np.arange(16) % 2, cell=cell, pbc=None)
    checks.check_parts_add_up(call, frame)
    checks.check_translation(call, frame)
    checks.check_permutation(call, frame, rng)
    checks.check_wrapping(call, frame, rng)
    checks.check_forces(call, frame, atoms=1)
    checks.check_virial(call, frame)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)  # a frame tells a molecule from its mirror image
    cell = None if frame.cell is None else frame.cell @ turn
    before = call(frame.positions, frame.types, frame.cell, frame.pbc)
    after = call(frame.positions @ turn, frame.types, cell, frame.pbc)
    checks.assert_close(after["energy"], before["energy"], "invariance")
    checks.assert_close(after["forces"], before["forces"] @ turn, "doors")


def test_torchscript_and_the_tree_give_the_same_numbers(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.script(model)
    again = deserialize({"model": model.serialize()}).eval()
    for shape in SHAPES:
        frame = make_frames(seed=11)[shape]
        pairs = find_pairs(frame.positions, frame.cell, 4.0, frame.pbc)
        expected = evaluate(model, pairs, frame.types)
        for other in (script, again):
            for key, value in evaluate(other, pairs, frame.types).items():
                np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-12)


def test_training_lowers_the_loss_and_fills_statistics(tmp_path, tiny_system):
    from deepmd.freeze import freeze_model

    jdata = make_input(tiny_system(n_frames=2), numb_steps=30, disp_freq=10, save_freq=30)
    jdata["model"]["descriptor"] = dict(PLAIN)
    jdata["learning_rate"] = {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-3, "decay_steps": 10}
    run(tmp_path / "a", jdata)
    curve = np.genfromtxt(tmp_path / "a" / "lcurve.out", names=True)
    assert curve["rmse_trn"][-1] < 0.9 * curve["rmse_trn"][0]
    model, _ = checkpoint.load_model(tmp_path / "a" / "model.ckpt.pt")
    assert float(model.descriptor.davg[:, 0].min()) > 0.1 and float(model.descriptor.dstd.min()) >= 1e-2
    freeze_model(model, tmp_path / "graph.pth")


@pytest.mark.parametrize(
    "key, value, words",
    [("sel_a", [3], "2 numbers"), ("sel_r", [1, -1], "0 or more"), ("axis_rule", [0, 1], "12 numbers"),
     ("axis_rule", [2, 0, 0, 0, 0, 1] * 2, "class 0 or 1"), ("rcut", 0.0, "positive")],
)  # fmt: skip
def test_what_is_wrong_is_told(key, value, words):
    with pytest.raises(InputError, match=words):
        input_of({**PLAIN, key: value})


@pytest.fixture(scope="module")
def golden():
    return np.load(Path(__file__).resolve().parents[1] / "data" / "loc_frame" / "frames.npz")


@pytest.fixture(scope="module")
def peers_model(golden):
    """The model of the goldens."""
    model = build(input_of(SECTION["descriptor"], fitting=SECTION["fitting_net"])).eval()
    model.descriptor.davg.copy_(torch.from_numpy(golden["weights.descrpt_attr/t_avg"]))
    model.descriptor.dstd.copy_(torch.from_numpy(golden["weights.descrpt_attr/t_std"]))
    load_into(model.fitting.bias_atom_e, golden["weights.fitting_attr/t_bias_atom_e"])
    for t, network in enumerate(model.fitting.networks):
        for name, layer in zip(("layer_0", "layer_1", "final_layer"), network.layers, strict=True):
            for own, theirs in (("w", "matrix"), ("b", "bias"), *((("idt", "idt"),) if layer.has_idt else ())):
                load_into(getattr(layer, own), golden[f"weights.{name}_type_{t}/{theirs}"])
    return model


@pytest.mark.parametrize("frame", FRAMES)
def test_deepmd_kit_says_the_same(peers_model, golden, frame):
    positions, types = golden[f"{frame}.coord"], golden[f"{frame}.atype"]
    cell = golden[f"{frame}.cell"] if f"{frame}.cell" in golden else None
    call = evaluator(peers_model)
    periodic = None if cell is None else np.full(3, True)
    found = call(positions, types, cell, periodic)
    np.testing.assert_allclose(found["atom_energy"], golden[f"{frame}.atom_energy"][:, 0], rtol=0, atol=1e-9)
    away = np.abs(found["forces"] - golden[f"{frame}.force"]).max()
    if cell is None:
        assert away < 1e-9
        np.testing.assert_allclose(found["virial"], golden[f"{frame}.virial"].reshape(3, 3), rtol=0, atol=1e-9)
        return
    assert away > 0.01  # what it calls forces of a periodic frame is no derivative of its energy; ours is
    for i, a in ((0, 0), (4, 2)):
        moved = [positions.copy() for _ in range(2)]
        for one, step in zip(moved, (1e-4, -1e-4), strict=True):
            one[i, a] += step
        ends = [float(np.sum(call(one, types, cell, periodic)["energy"])) for one in moved]
        assert found["forces"][i, a] == pytest.approx((ends[1] - ends[0]) / 2e-4, abs=1e-5)
