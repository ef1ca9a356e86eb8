"""The compiled pieces of layers: their derivatives, and models with them against the same models by torch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepmd.data import load_systems
from deepmd.data.graph import GraphCache
from deepmd.nn import compiled
from deepmd.nn.activation import Activation
from deepmd.nn.attention import LayerNorm, slot_softmax, unit
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import PlainEngine
from deepmd.nn.ragged import form
from reference.tiny_descriptors import SECTIONS, make_model
from test_nodes import compare

pytestmark = pytest.mark.usefixtures("compiled", "every_size")


@pytest.fixture
def every_size(monkeypatch):
    """Pieces serve small arrays too."""
    monkeypatch.setattr(compiled, "SMALL", 0)


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()


def agree(function, *x, tolerance=1e-12):
    """Values, gradients and derivatives of gradients of a function with its pieces and without."""
    found = []
    for pieces in (True, False):
        with compiled.pieces() if pieces else torch.enable_grad():
            y = function(*x)
        cotangent = random(*y.shape, seed=1, dtype=y.dtype)
        first = torch.autograd.grad((y * cotangent).sum(), x, None, None, True, True, materialize_grads=True)
        mixed = sum((g * random(*g.shape, seed=2 + k, dtype=g.dtype)).sum() for k, g in enumerate(first))
        second = torch.autograd.grad(mixed, [*x, cotangent], allow_unused=True)
        found.append([y, *first, *(torch.zeros(1) if g is None else g for g in second)])
    for one, other in zip(*found, strict=True):
        scale = max(float(other.detach().abs().max()), 1.0)
        assert float((one - other).detach().abs().max()) < tolerance * scale


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", [*compiled.CURVES, "silut:0.5"])
def test_curves(name, dtype):
    x = (3.0 * random(37, 5, dtype=dtype)).detach()
    x[0, :4] = torch.tensor([0.0, 1e-9, 60.0, -60.0], dtype=dtype)
    agree(Activation(name), x.requires_grad_(), tolerance=1e-12 if dtype == torch.float64 else 3e-6)


def test_not_a_number_stays_what_it_is():
    x = torch.tensor([float("nan"), 1.0, -800.0, 800.0], dtype=torch.float64, requires_grad=True)
    for name in compiled.CURVES:
        with compiled.pieces():
            y = Activation(name)(x)
        assert bool(torch.isnan(y[0])) and bool(torch.isfinite(y[1:]).all())
        torch.testing.assert_close(y[1:], Activation(name)(x)[1:], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("width", [5, 64])
def test_rows_are_normalised(width):
    norm = LayerNorm(width, 1e-5, True, torch.float64)
    norm.w.data, norm.b.data = random(width, seed=4).detach(), random(width, seed=5).detach()
    agree(norm, random(7, 3, width))
    agree(unit, random(7, 3, width))


@pytest.mark.parametrize("rows", [1, 3])
def test_sums_over_ends(rows):
    first, second = torch.tensor([0, 0, 2, 2, 3]), torch.tensor([1, 3, 0, 0, 1])
    agree(lambda h, g: form(h, g, first, 4, second), random(5, rows), random(4, 19))
    agree(lambda h, g: form(h, g, first, 4), random(5, rows), random(5, 8))
    h, g = random(5, rows), random(4, 3)
    with compiled.pieces():
        assert torch.autograd.gradgradcheck(lambda h, g: form(h, g, first, 4, second) ** 2, (h, g))


@pytest.mark.parametrize("name", ["tanh", "silu"])
def test_messages(name):
    first, second = torch.tensor([0, 0, 2, 2, 3] * 30), torch.tensor([1, 3, 0, 0, 1] * 30)
    act = Activation(name)

    def told(own, p, q):
        if compiled.serve(own):
            return compiled.messages(own, p, q, compiled.message_ends(first, 4, second, 5), name, 3.0)
        return act(own + p[first] + q[second])

    agree(told, random(150, 11), random(4, 11), random(5, 11))


@pytest.mark.parametrize("smooth", [False, True], ids=["plain", "smooth"])
@pytest.mark.parametrize("gated, directed", [(False, False), (False, True), (True, True)])
def test_weights_of_attention(smooth, gated, directed):
    counts, n_slots, n_total = torch.tensor([9, 0, 3]), 9, 20
    mask = (torch.arange(n_slots) < counts.unsqueeze(1)).to(torch.float64).unsqueeze(2)

    def weights(logits, w, h):
        w, h = w.abs() * mask, h * mask
        if compiled.serve(logits):
            return compiled.weighed(logits, mask, w, h, n_total=n_total, smooth=smooth, gated=gated, directed=directed,
                                    scale=0.5)  # fmt: skip
        cosine, ww = (h @ h.transpose(1, 2)).unsqueeze(1), (w @ w.transpose(1, 2)).unsqueeze(1)
        logits = logits * cosine if gated else logits
        logits = (logits + 20.0) * ww - 20.0 if smooth else logits
        n_empty = (n_total - counts).reshape(-1, 1, 1, 1)
        found = slot_softmax(logits, (mask @ mask.transpose(1, 2)).unsqueeze(1), n_empty, smooth)
        found = found * ww if smooth else found
        return found * cosine * 0.5 if directed else found

    agree(weights, random(3, 2, n_slots, n_slots), random(3, n_slots, 1, seed=8), random(3, n_slots, 3, seed=9))


KINDS = ("se_atten, attention", "se_atten, smooth", "dpa2", "dpa2, everything", "dpa3", "dpa3, everything")


@pytest.mark.parametrize("name", [name for name in KINDS if name in SECTIONS])
def test_models_agree_with_torch_alone(tiny_system, name):
    model = make_model(name)
    systems = load_systems(str(tiny_system(n_frames=3, n_molecules=8)), model.type_map)
    batch = GraphCache(systems, model.facts().rcut, model.seen_pairs()).batch(0, np.array([2, 0]))
    nodes = Nodes(model, 0.6)
    nodes.parts = []  # pieces alone
    compare(model, PlainEngine(model, nodes=nodes)(batch), PlainEngine(model)(batch))


def test_a_third_derivative_is_refused():
    x = random(4, 4)
    with compiled.pieces():
        y = Activation("silu")(x).sum()
    first = torch.autograd.grad(y, x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="a third was asked for"):
        torch.autograd.grad(first.sum(), x, create_graph=True)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_a_call(threads):
    """More rows than one thread would take."""
    first, second = torch.arange(3000) // 40, torch.arange(3000) % 64
    own, p, q, h = random(3000, 12), random(75, 12), random(64, 12), random(3000, 3)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, threads):
            torch.set_num_threads(n)
            with compiled.pieces():
                ends = compiled.message_ends(first, 75, second, 64)
                y = compiled.messages(own, p, q, ends, "silu", 3.0)
                total = (LayerNorm(12, 1e-5, True, torch.float64)(y).sin().sum() + form(h, q, first, 75, second).sum() +
                         Activation("tanh")(own).sum())  # fmt: skip
            slopes = torch.autograd.grad(total, (own, p, q, h), create_graph=True)
            found.append([*slopes, *torch.autograd.grad(sum(g.pow(2).sum() for g in slopes), (own, p, q))])
    finally:
        torch.set_num_threads(before)
        with compiled.pieces():
            pass
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)
