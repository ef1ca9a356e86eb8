"""Quantum atoms and fragments (pairwise_dprc): the sum over fragments, its doors, and what DeePMD-kit says."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import checks
import numpy as np
import pytest
import torch
from deepmd import test as dp_test
from deepmd.config import normalise, upgrade
from deepmd.data import load_systems, write_system
from deepmd.data.graph import GraphCache
from deepmd.data.statistics import set_statistics
from deepmd.errors import DeepmdError, InputError
from deepmd.exchange import read_tree
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import build, deserialize
from deepmd.nn.plain import FrameEngine
from deepmd.train import checkpoint
from reference.tiny_models import jittered
from training_runs import changed, make_input, run

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "pairwise"
NAMES = ["C", "O", "OW", "HW"]
QM_PAIRS = [[0, 0], [0, 1], [1, 1]]
MM_PAIRS = [[2, 2], [2, 3], [3, 3]]


def section(exclude: bool = True, vacuum: bool = True) -> dict:
    """Two small parts; exclude: as such models are used, without pairs within one side in the second part."""
    part = {
        "descriptor": {"type": "se_atten_v2", "sel": 12, "rcut": 4.0, "rcut_smth": 0.5, "attn_layer": 0, "tebd_dim": 4,
                       "neuron": [4, 8], "axis_neuron": 3, "set_davg_zero": True, "seed": 1},
        "fitting_net": {"neuron": [8, 8], "seed": 2},
    }  # fmt: skip
    qm, qmmm = copy.deepcopy(part), copy.deepcopy(part)
    qmmm["descriptor"] |= {"rcut": 3.0, "seed": 3, "exclude_types": QM_PAIRS + MM_PAIRS if exclude else []}
    if vacuum:
        qmmm["fitting_net"]["atom_ener"] = [0.0] * 4
    return {"type": "pairwise_dprc", "type_map": NAMES, "qm_model": qm, "qmmm_model": qmmm}


def whole(model: dict, **training) -> dict:
    jdata = make_input(Path("data"), **training)
    return {**jdata, "model": model}


def make(exclude: bool = True, vacuum: bool = True) -> torch.nn.Module:
    """A model with rows of order one and a bias."""
    model = build(normalise(whole(section(exclude, vacuum)))["model"]).eval()
    with torch.no_grad():
        for descriptor in model.descriptors():
            descriptor.block.dstd.fill_(0.3)
        model.out_bias.copy_(torch.tensor([0.3, -0.7, 5.0, 5.0]))
    return model


def frame_of(seed: int = 0, counts: tuple[int, int, int] = (2, 2, 3)):
    """A frame with ids: five quantum atoms, fragments of up to three atoms whose numbers have gaps."""
    frame = jittered([[5.3, 0, 0], [0.7, 5.6, 0], [-0.4, 0.5, 6.9]], counts, 2, np.random.default_rng(seed))
    frame.ids = np.array([0, 4, 0, 4, 0, 9, 9, 0, 4, 2, 0, 9] * 2)[: len(frame.types)]
    frame.types = np.where(frame.ids > 0, frame.types + 2, frame.types)
    return frame


def answers(model, frame, **changes):
    """Everything that a torch module says of a frame."""
    parts = {name: getattr(frame, name) for name in ("positions", "types", "cell", "ids")} | changes
    pairs = find_pairs(parts["positions"], parts["cell"], model.facts().rcut)
    return evaluate(model, pairs, parts["types"], aparam=parts["ids"].astype(float), atom_virial=True)


def by_definition(model, frame) -> dict[str, np.ndarray]:
    """The sum over fragments, each an energy model's answer for a frame of its own."""
    total = {"energy": 0.0, "forces": np.zeros((len(frame.types), 3)), "virial": np.zeros((3, 3))}
    quantum = frame.ids == 0

    def add(part, chosen):
        pairs = find_pairs(frame.positions[chosen], frame.cell, part.facts().rcut)
        found = evaluate(part, pairs, frame.types[chosen])
        total["energy"] += float(found["energy"][0])
        total["forces"][chosen] += found["forces"]
        total["virial"] += found["virial"]

    add(model.qm, quantum)
    for k in np.unique(frame.ids[frame.ids > 0]):
        add(model.qmmm, quantum | (frame.ids == k))
    total["energy"] += float(model.out_bias[torch.from_numpy(frame.types[quantum])].sum())
    return total


@pytest.mark.parametrize(("exclude", "vacuum"), [(True, True), (False, False)])
def test_energies_are_the_sum_over_fragments(exclude, vacuum):
    model = make(exclude, vacuum)
    for seed in (0, 1):
        frame = frame_of(seed)
        found, expected = answers(model, frame), by_definition(model, frame)
        for key in ("energy", "forces", "virial"):
            checks.assert_close(np.reshape(found[key], np.shape(expected[key])), expected[key], "invariance", 10.0)


def test_forces_and_virial_are_derivatives():
    model, frame = make(False, False), frame_of(3, (2, 2, 2))

    def ask(positions, types, cell, pbc):
        return answers(model, frame, positions=positions, types=types, cell=cell)

    checks.check_forces(ask, frame, 2)
    checks.check_virial(ask, frame)
    checks.check_parts_add_up(ask, frame)


def test_what_is_out_of_reach_adds_nothing():
    """With its vacuum taken off, a fragment far away changes nothing, and absent atoms never do."""
    model, frame = make(), frame_of()
    frame.cell = None
    near = answers(model, frame)
    far = {"positions": np.concatenate([frame.positions, [[90.0, 0, 0]]]), "types": np.append(frame.types, 2)}
    found = answers(model, frame, **far, ids=np.append(frame.ids, 77))
    checks.assert_close(found["energy"], near["energy"], "invariance")
    absent = answers(model, frame, **{**far, "positions": np.concatenate([frame.positions, [[1.0, 1, 1]]])},
                     ids=np.append(frame.ids, -1))  # fmt: skip
    checks.assert_close(absent["energy"], near["energy"], "invariance")
    checks.assert_close(absent["forces"][:-1], near["forces"], "invariance")


def test_scripts_and_trees_give_the_same():
    model, frame = make(False), frame_of()
    expected = answers(model, frame)
    again = deserialize(model.serialize()).eval()
    assert again.qm.descriptor.type_embedding is again.qmmm.descriptor.type_embedding
    scripted = torch.jit.script(copy.deepcopy(model).requires_grad_(False))
    pairs = find_pairs(frame.positions, frame.cell, model.facts().rcut)
    for found in (answers(again, frame), evaluate(scripted, pairs, frame.types, aparam=frame.ids.astype(float))):
        checks.assert_equal_physics(found, {key: expected[key] for key in ("energy", "forces", "virial")})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two frames of equal size with other fragments, labelled by a model."""
    folder, model = tmp_path_factory.mktemp("pairwise"), make()
    frames = [frame_of(seed) for seed in (5, 6)]
    frames[1].types = frames[0].types
    frames[1].ids = np.where(frames[0].ids > 3, frames[0].ids + 10, frames[0].ids)
    found = [answers(model, frame) for frame in frames]
    arrays = {
        "positions": np.stack([frame.positions for frame in frames]),
        "cell": np.stack([frame.cell for frame in frames]),
        "aparam": np.stack([frame.ids for frame in frames])[:, :, None].astype(float),
        "energy": np.array([float(one["energy"][0]) for one in found]),
        "force": np.stack([one["forces"] for one in found]), "virial": np.stack([one["virial"] for one in found]),
    }  # fmt: skip
    write_system(folder / "system", frames[0].types, NAMES, arrays)
    return folder


def test_frames_of_a_batch_do_not_mix(data):
    model = make(False, False)
    systems = load_systems(str(data / "system"), NAMES)
    systems[0].require(aparam=1)
    cache = GraphCache(systems, model.facts().rcut)
    engine = FrameEngine(model)
    both = engine(cache.batch(0, np.array([0, 1])))
    alone = [engine(cache.batch(0, np.array([k]))) for k in (0, 1)]
    for key in ("energy", "virial"):
        found, *expected = (getattr(one, key).detach().numpy() for one in (both, *alone))
        checks.assert_close(found, np.concatenate(expected), "invariance")


def test_statistics_are_those_of_what_each_part_sees(data):
    model = build(normalise(whole(section()))["model"])
    systems = load_systems(str(data / "system"), NAMES)
    systems[0].require(aparam=1)
    batches = [GraphCache(systems, 4.0).batch(0, np.array([0, 1]))]
    set_statistics(model, batches)
    assert (model.qm.descriptor.block.dstd[2:] == 0.1).all()  # types that are never quantum atoms
    assert not (model.qmmm.descriptor.block.dstd == 0.1).all(dim=1).any()
    assert model.out_bias[0] != 0.0 and not model.out_bias[2:].any()


def test_the_way_from_data_to_predictions(data):
    jdata = whole(section(), numb_steps=60, disp_freq=60, save_freq=60)
    jdata = changed(jdata, training__training_data__systems=str(data / "system"), learning_rate__start_lr=0.01)
    del jdata["training"]["validation_data"]
    run(data, jdata)
    lines = np.genfromtxt(data / "lcurve.out", names=True)
    assert lines["rmse_f_trn"][-1] < 0.7 * lines["rmse_f_trn"][0]
    model, _ = checkpoint.load_model(data / "model.ckpt.pt")
    freeze_model(model, data / "graph.pth")
    frame = load_systems(str(data / "system"), NAMES)[0]
    frame.require(aparam=1)
    arrays = frame.frames()
    inputs = (arrays["positions"], arrays["cell"], arrays["types"][0])
    potential = DeepPot(data / "graph.pth")
    assert potential.get_dim_aparam() == 1
    energy, force, virial, atom_energy, atom_virial = potential.eval(*inputs, aparam=arrays["aparam"], atomic=True)
    expected = FrameEngine(model)(GraphCache([frame], 4.0).batch(0, np.array([0, 1])))
    checks.assert_close(np.ravel(energy), expected.energy.detach().numpy(), "doors")
    checks.assert_close(atom_energy.sum(axis=(1, 2)), np.ravel(energy), "doors")
    checks.assert_close(atom_virial.sum(axis=1), virial, "doors")
    errors = dp_test.main(argparse.Namespace(model=str(data / "graph.pth"), system=str(data / "system"), numb_test=0))
    assert errors["force"][1] == pytest.approx(np.sqrt(((force - arrays["force"]) ** 2).mean()), rel=1e-9)
    with pytest.raises(InputError, match="needs aparam"):
        potential.eval(*inputs)
    with pytest.raises(DeepmdError, match="a model of several parts"):
        potential.eval_descriptor(*inputs)
    from deepmd.core import Model

    core = Model(str(data / "graph.pth"))
    found = core.evaluate(inputs[0][0], inputs[2], inputs[1][0], aparam=arrays["aparam"][0], atomic=True)
    checks.assert_close(found["energy"], float(energy[0, 0]), "doors")
    checks.assert_close(found["forces"], force[0], "doors")
    with pytest.raises(DeepmdError, match="aparam is missing"):
        core.evaluate(inputs[0][0], inputs[2], inputs[1][0])


def test_one_type_embedding_beside_both_parts_is_upgraded():
    model = section()
    for key in ("qm_model", "qmmm_model"):
        del model[key]["descriptor"]["tebd_dim"]
    current, lines = upgrade(whole({**model, "type_embedding": {"neuron": [6], "precision": "float64"}}))
    built = build(normalise(current)["model"])
    assert built.qm.descriptor.type_embedding.width == 6 and len(lines) == 2
    assert built.qm.descriptor.type_embedding is built.qmmm.descriptor.type_embedding


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("qmmm_model__fitting_net__atom_ener", [0.0, None, 0.0, 1.0], "null or 0"),
        ("qm_model__fitting_net__numb_fparam", 1, "aparam names the fragments"),
        ("qm_model__fitting_net__type", "dos", "expected 'ener'"),
        ("qmmm_model__descriptor__tebd_dim", 5, "share the vectors"),
        ("qmmm_model__type", "linear_ener", "expected one of standard, frozen"),
    ],
)
def test_wrong_parts_are_refused(path, value, words):
    with pytest.raises(InputError, match=words):
        build(normalise(whole(changed(section(), **{path: value})))["model"])


@pytest.mark.parametrize("name", ["periodic", "open"])
def test_answers_are_those_of_deepmd_kit(name):
    """A model that its TensorFlow backend has trained for two steps; both parts share the vectors of the types.

    That program takes the frames of such models for open ones, also where there is a cell.
    """
    golden = np.load(GOLDEN / "frames.npz")
    model = deserialize(read_tree(GOLDEN / "model.dp")).eval()
    frame = {key: golden[f"{name}.{key}"] for key in ("coord", "atype", "aparam")}
    pairs = find_pairs(frame["coord"], None, model.facts().rcut)
    found = evaluate(model, pairs, frame["atype"], aparam=frame["aparam"].astype(float))
    for ours in ("energy", "forces", "virial", "atom_energy"):
        expected = golden[f"{name}.{'force' if ours == 'forces' else ours}"]
        checks.assert_close(found[ours], expected.reshape(np.shape(found[ours])), "doors")
