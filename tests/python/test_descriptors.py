"""Every descriptor: the judge, physics, TorchScript, the neutral tree there and back."""

from __future__ import annotations

import warnings

import checks
import numpy as np
import pytest
import torch
from deepmd.errors import ModelError
from deepmd.exchange import check_supported
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.model import deserialize
from reference.formula_judge import FormulaJudge
from reference.tiny_descriptors import JUMPING, SECTIONS, make_model
from reference.tiny_models import make_frames

pytestmark = pytest.mark.usefixtures("compiled")

SHAPES = ("smaller than the cutoff", "slab", "molecule", "no neighbours", "one atom in a cell")


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


@pytest.fixture(scope="module", params=SECTIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return make_model(name)


def evaluator(model):
    def call(positions, types, cell, pbc):
        return evaluate(model, find_pairs(positions, cell, model.descriptor.rcut, pbc), types)

    return call


@pytest.mark.parametrize("shape", ["smaller than the cutoff", "molecule", "no neighbours"])
def test_the_padded_definition_is_met(model, shape):
    frame = make_frames()[shape]
    judge = FormulaJudge({"model": model.serialize()}, model.descriptor.rcut)
    expected = judge.evaluate(frame.positions, frame.types, frame.cell, frame.pbc, atoms=2)
    result = evaluator(model)(frame.positions, frame.types, frame.cell, frame.pbc)
    checks.assert_close(result["atom_energy"], expected["atom_energy"], "closed form", 10.0)
    checks.assert_close(result["forces"][:2], expected["forces"], "doors")
    checks.assert_close(result["virial"], expected["virial"], "doors")


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetries(model, shape):
    frame, call, rng = make_frames(seed=11)[shape], evaluator(model), np.random.default_rng(0)
    checks.check_parts_add_up(call, frame)
    checks.check_translation(call, frame)
    checks.check_rotation_and_inversion(call, frame, rng)
    checks.check_permutation(call, frame, rng)
    checks.check_wrapping(call, frame, rng)
    checks.check_lattice_reduction(call, frame)
    if len(frame.types) < 5:
        checks.check_replication(call, frame)


@pytest.mark.parametrize("shape", ["smaller than the cutoff", "molecule"])
def test_derivatives(model, shape):
    frame = make_frames(seed=11)[shape]
    checks.check_forces(evaluator(model), frame, atoms=1)
    checks.check_virial(evaluator(model), frame)


def test_cutoff_and_isolated_atoms(name, model):
    checks.check_isolated_atoms(evaluator(model), 2, model.descriptor.rcut)
    if name not in JUMPING:
        checks.check_cutoff(evaluator(model), (0, 1), model.descriptor.rcut)


def test_torchscript_gives_the_same_numbers(model):
    script = scripted(model)
    for shape in (*SHAPES, "one atom"):
        frame = make_frames(seed=11)[shape]
        pairs = find_pairs(frame.positions, frame.cell, model.descriptor.rcut, frame.pbc)
        expected, result = evaluate(model, pairs, frame.types), evaluate(script, pairs, frame.types)
        for key, value in expected.items():
            np.testing.assert_allclose(result[key], value, rtol=0, atol=1e-12, err_msg=f"{shape} {key}")


def test_the_tree_holds_everything(model):
    tree = model.serialize()
    check_supported({"model": tree})
    again = deserialize({"model": tree}).eval()
    frame = make_frames(seed=3)["slab"]
    pairs = find_pairs(frame.positions, frame.cell, model.descriptor.rcut, frame.pbc)
    for key, value in evaluate(model, pairs, frame.types).items():
        np.testing.assert_array_equal(evaluate(again, pairs, frame.types)[key], value)


def test_the_rotation_turns_with_the_frame(model):
    frame = make_frames(seed=3)["slab"]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    pairs = find_pairs(frame.positions, frame.cell, model.descriptor.rcut, frame.pbc)
    arrays = [torch.from_numpy(a) for a in (pairs.centers, pairs.neighbors, frame.types)]
    descriptor = model.descriptor
    with torch.no_grad():
        d, rotation = descriptor(torch.from_numpy(pairs.vectors), *arrays, len(frame.types))
        turned_d, turned = descriptor(torch.from_numpy(pairs.vectors @ turn.T), *arrays, len(frame.types))
    assert d.shape == (len(frame.types), descriptor.dim_out)
    assert rotation.shape == (len(frame.types), descriptor.dim_rotation, 3)
    np.testing.assert_allclose(turned_d.numpy(), d.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(turned.numpy(), rotation.numpy() @ turn.T, rtol=0, atol=1e-12)


def test_what_a_file_holds_and_we_do_not_run_is_refused():
    tree = {"model": make_model("se_atten").serialize()}
    for flag, words in (("use_econf_tebd", "electron configurations"), ("attn_mask", "hides a neighbour")):
        tree["model"]["descriptor"][flag] = True
        with pytest.raises(ModelError, match=words):
            check_supported(tree)
        tree["model"]["descriptor"][flag] = False
    tree["model"]["descriptor"] = {"type": "hybrid", "@version": 1, "list": [{"type": "se_e2_q", "@version": 1}]}
    with pytest.raises(ModelError, match="se_e2_q"):
        check_supported(tree)


def test_messages_need_whole_frames():
    """Both ways in which a caller can cut a frame are refused in words, eager and scripted, and through the core."""
    model = make_model("dpa2")
    assert model.descriptor.passes_messages and model.descriptor.receptive_field == 4.0 + 2 * 3.0
    frame = make_frames()["molecule"]
    pairs = find_pairs(frame.positions, None, 4.0)
    arrays = [torch.from_numpy(a) for a in (pairs.vectors, pairs.centers, pairs.neighbors, frame.types)]
    first = torch.nonzero(arrays[1] < 3).flatten()
    for one in (model, scripted(model)):
        with pytest.raises(Exception, match="whole frames"):
            one(*(a[first] for a in arrays[:3]), arrays[3], 3)
