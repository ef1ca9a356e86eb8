"""The plain model, eager and scripted, at the edges of its domain."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from deepmd.nn.frames import Pairs, evaluate
from deepmd.nn.model import deserialize
from reference.tiny_models import Options, make_tree

NO_PAIRS = Pairs(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@pytest.fixture(params=["eager", "scripted"])
def prepare(request):
    def make(options):
        model = deserialize(make_tree(options)).eval().requires_grad_(False)
        if request.param == "eager":
            return model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.script(model)

    return make


@pytest.mark.parametrize("options", [Options(), Options(one_side=True), Options(atom_exclude=[0, 1])])
def test_atoms_without_neighbours(prepare, options):
    result = evaluate(prepare(options), NO_PAIRS, np.array([0, 1, 1]))
    assert np.isfinite(result["atom_energy"]).all() and not result["forces"].any() and not result["virial"].any()
    assert result["atom_energy"][1] == result["atom_energy"][2]


def test_no_atoms_at_all(prepare):
    result = evaluate(prepare(Options()), NO_PAIRS, np.zeros(0, dtype=np.int64))
    assert result["energy"][0] == 0.0 and result["forces"].shape == (0, 3)


def test_an_isolated_pair_beside_an_isolated_atom(prepare):
    vectors = np.array([[0.9, 0.1, 0.0], [-0.9, -0.1, 0.0]])
    pairs = Pairs(vectors, np.array([0, 1]), np.array([1, 0]))
    model = prepare(Options())
    result = evaluate(model, pairs, np.array([0, 1, 1]))
    alone = evaluate(model, NO_PAIRS, np.array([1]))
    assert result["atom_energy"][2] == pytest.approx(alone["atom_energy"][0], abs=1e-14)
    np.testing.assert_allclose(result["forces"].sum(axis=0), 0.0, atol=1e-14)
    assert np.abs(result["forces"][:2]).max() > 1e-3 and not result["forces"][2].any()


@pytest.mark.parametrize(
    "name", ["tanh", "gelu", "relu", "relu6", "softplus", "sigmoid", "silu", "silut", "silut:1.5", "none"]
)
def test_every_activation_scripts_to_the_same_numbers(name):
    from deepmd.nn.activation import Activation

    x = torch.linspace(-4, 9, 53, dtype=torch.float64)
    eager = Activation(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert torch.equal(eager(x), torch.jit.script(eager)(x))


def test_silut_continues_silu_with_the_same_slope():
    from deepmd.nn.activation import Activation

    x = torch.tensor([3.0 - 1e-7, 3.0 + 1e-7], dtype=torch.float64, requires_grad=True)
    y = Activation("silut")(x)
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert float((y[1] - y[0]).detach()) < 1e-6 and float((slope[1] - slope[0]).abs()) < 1e-6
