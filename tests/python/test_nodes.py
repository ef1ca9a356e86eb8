"""The training engine on nodes against the plain one: values, and gradients by every parameter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from checks import tolerance
from deepmd.data import System, load_systems, write_system
from deepmd.data.graph import GraphCache, Memory, Room
from deepmd.nn.model import build, deserialize
from deepmd.nn.nodes import Nodes, OnNodes, node_parts
from deepmd.nn.plain import OutputEngine, PlainEngine
from deepmd.nn.ragged import sum_to, take
from deepmd.nn.spin_engine import SpinEngine
from reference.tiny_descriptors import SECTIONS, make_model
from reference.tiny_models import Options, make_tree
from reference.tiny_outputs import make_output_model, make_spin_model

pytestmark = pytest.mark.usefixtures("compiled")
SHORTEST = 0.6  # Angstrom


@pytest.fixture(autouse=True)
def nodes_for_few_pairs(monkeypatch):
    """Frames of tests are small, and nodes would leave them to the plain path."""
    monkeypatch.setattr(OnNodes, "pair_cost", (math.inf, math.inf))


VARIANTS = {
    "plain": Options(),
    "one-sided, time steps, gelu": Options(one_side=True, embedding_dt=True, activation="gelu"),
    "excluded pairs": Options(descriptor_exclude=[[0, 1]], activation="softplus", davg_zero=True),
    "one-sided, excluded pairs": Options(descriptor_exclude=[[0, 1]], one_side=True, davg_zero=True),
    "absent pairs": Options(pair_exclude=[[0, 0]], activation="sigmoid"),
    "absent centres": Options(atom_exclude=[1], activation="silu"),
    "protection": Options(protection=0.3),
    "vacuum": Options(atom_ener=[0.0, None]),
    "sel too small": Options(sel=[2, 1]),
}


def loss_of(prediction, seed=0):
    """A number in which every output has its own weight."""
    rng = np.random.default_rng(seed)
    total = prediction.energy.pow(2).sum() * 1e-3
    for value in (prediction.atom_energy, prediction.forces, prediction.virial):
        total = total + (value * torch.from_numpy(rng.normal(size=tuple(value.shape)))).sum()
    return total


@pytest.fixture
def cache(tiny_system):
    def make(model):
        systems = load_systems(str(tiny_system(n_frames=3, n_molecules=8)), model.type_map)
        return GraphCache(systems, model.facts().rcut, model.seen_pairs(), room=Room(1 << 30))

    return make


@pytest.mark.parametrize("frames", [[0], [2, 0, 1]], ids=["one frame", "three frames"])
@pytest.mark.parametrize("name", VARIANTS)
def test_nodes_agree_with_the_plain_path(cache, name, frames):
    model = deserialize(make_tree(VARIANTS[name]))
    batch = cache(model).batch(0, np.array(frames))
    compare(model, PlainEngine(model, nodes=fine_nodes(model))(batch), PlainEngine(model)(batch))


def fine_nodes(model):
    """Nodes that are as good as every neighbour."""
    nodes = Nodes(model, SHORTEST)
    while nodes.error() > 1e-12 and nodes.refine():
        pass
    return nodes


def compare(model, fast, plain, *more):
    """Values, and gradients of a number made of all of them by every parameter."""
    for key in ("energy", "atom_energy", "forces", "virial", *more):
        a, b = getattr(fast, key).detach().numpy(), getattr(plain, key).detach().numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance("nodes against every neighbour"), err_msg=key)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(loss_of(p), parameters, allow_unused=True) for p in (fast, plain)]
    for a, b in zip(*gradients, strict=True):
        a, b = (torch.zeros(1) if one is None else one for one in (a, b))  # of types that do not occur
        scale = max(float(b.abs().max()), 1.0)
        assert float((a - b).abs().max()) < tolerance("nodes against every neighbour") * scale


ON_NODES = ("se_e2_r", "se_e2_r, two-sided", "se_e2_r, excluded", "se_a_tpe", "se_a_tpe, one-sided", "se_atten",
            "se_atten, strip", "se_atten_v2, no attention", "se_atten_v2, one-sided", "se_e3", "se_e3, excluded",
            "se_e3_tebd", "se_e3_tebd, strip", "hybrid", "hybrid, mixed types", "dpa2", "dpa2, everything")  # fmt: skip
MORE = {"se_atten_v2, no attention": {**SECTIONS["se_atten_v2"], "attn_layer": 0, "rcut_smth": 1.0}}
PLAIN = ("se_atten, attention", "se_atten, smooth", "dpa3")


@pytest.mark.parametrize("name", ON_NODES)
def test_every_kind_agrees_with_the_plain_path(cache, name):
    model = make_model(name, MORE.get(name))
    batch = cache(model).batch(0, np.array([2, 0]))
    nodes = fine_nodes(model)
    compare(model, PlainEngine(model, nodes=nodes)(batch), PlainEngine(model)(batch))
    assert nodes.parts and nodes.error() < 1e-11


@pytest.mark.parametrize("name", ["se_e2_r", "se_e3", "hybrid"])
def test_sums_of_a_frame_are_kept(cache, name, monkeypatch):
    model = make_model(name)
    source, sums = cache(model), []
    monkeypatch.setattr(OnNodes, "new_sums", lambda *args, new=OnNodes.new_sums: sums.append(args[0]) or new(*args))
    engine = PlainEngine(model, nodes=Nodes(model, SHORTEST))
    first, again = (loss_of(engine(source.batch(0, np.array([1])))).detach() for _ in range(2))
    assert len(sums) == len(engine.nodes.parts) and first == again
    other = loss_of(engine(source.batch(0, np.array([0])))).detach()
    assert len(sums) == 2 * len(engine.nodes.parts) and other != first
    for part in engine.nodes.parts:  # other nodes make other sums
        part.refine()
    torch.testing.assert_close(loss_of(engine(source.batch(0, np.array([1])))).detach(), first, rtol=1e-5, atol=1e-5)
    assert len(sums) == 3 * len(engine.nodes.parts)


def test_sums_are_not_those_of_other_positions(cache):
    model = make_model("se_e2_r")
    batch = cache(model).batch(0, np.array([1]))
    engine = PlainEngine(model, nodes=Nodes(model, SHORTEST))
    inputs = engine.inputs(batch)
    near = [inputs.vectors * factor for factor in (1.0, 1.01)]

    def energies(vectors, memory):
        with engine.nodes.of(memory):
            return model.atom_energy(*inputs.arguments(vectors)).detach()

    for vectors in near * 2:
        assert torch.equal(energies(vectors, batch.memory), energies(vectors, Memory(Room(0))))


def test_what_is_kept_has_a_limit(cache):
    model = make_model("se_e2_r")
    source = cache(model)
    engine = PlainEngine(model, nodes=Nodes(model, SHORTEST))
    before = source.room.left
    engine(source.batch(0, np.array([0])))
    one = before - source.room.left  # bytes of a frame
    source.forget(0, 0)
    assert source.room.left == before
    source.room.left = limit = one + one // 2
    found = [[engine(source.batch(0, np.array([k]))).energy.detach() for k in range(3)] for _ in range(2)]
    assert found[0] == found[1] and 0 <= source.room.left <= limit - one
    for k in range(3):
        source.forget(0, k)
    assert source.room.left == limit


def test_few_pairs_do_not_pay_for_nodes(cache, monkeypatch):
    model = deserialize(make_tree(Options()))
    batch, found = cache(model).batch(0, np.array([0])), []
    for cost in (0.0, math.inf):
        monkeypatch.setattr(OnNodes, "pair_cost", (cost, cost))
        nodes = Nodes(model, SHORTEST)
        found.append(PlainEngine(model, nodes=nodes)(batch).energy.detach())
        assert bool(nodes.parts[0]._seen) == (cost > 0)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-7)


def test_what_cannot_run_on_nodes_does_not():
    assert all(not node_parts(make_model(name)) for name in PLAIN)
    assert not node_parts(make_model("", {**SECTIONS["se_e2_r"], "activation_function": "relu"}))


@pytest.mark.parametrize("kind", ["dipole", "dos"])
def test_other_outputs_agree_with_the_plain_path(cache, kind):
    model = make_output_model(kind)
    batch = cache(model)
    batch.labels = ()
    batch = batch.batch(0, np.array([1, 2]))
    fast, plain = OutputEngine(model, fine_nodes(model))(batch), OutputEngine(model)(batch)
    np.testing.assert_allclose(fast.atomic.detach(), plain.atomic.detach(), rtol=0, atol=1e-9)
    parameters = [p for p in model.descriptor.parameters() if p.requires_grad]
    of = [torch.autograd.grad(one.total.pow(2).sum(), parameters, materialize_grads=True) for one in (fast, plain)]
    for a, b in zip(*of, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("frames", [[1], [2, 0]])
@pytest.mark.parametrize("kind", ["dipole", "polar"])
def test_centres_without_an_output_are_left_out(cache, kind, frames):
    model = make_output_model(kind, sel_type=[1])
    model.out_bias[0] = 0.0
    source = cache(model)
    source.labels = ()
    batch = source.batch(0, np.array(frames))
    for nodes in (None, fine_nodes(model)):
        engine, every = OutputEngine(model, nodes), OutputEngine(model)
        assert engine.selected == [1] and engine.leaves_out()
        every.selected = None
        parameters = [p for p in model.parameters() if p.requires_grad]
        a, b = engine(batch), every(batch)
        for one, other in ((a.atomic, b.atomic), (a.total, b.total)):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        of = [torch.autograd.grad(x.total.pow(2).sum(), parameters, materialize_grads=True) for x in (a, b)]
        for one, other in zip(*of, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    model.out_bias[0] = 1.0  # then atoms of that type have an output too
    assert not engine.leaves_out()


def test_spins_agree_with_the_plain_path(cache):
    model = make_spin_model()
    source = cache(model)
    source.labels = ()
    batch = source.batch(0, np.array([0, 1]))
    rng = np.random.default_rng(1)
    spin = rng.normal(size=(len(batch.types), 3))
    batch.labels["spin"] = spin / np.linalg.norm(spin, axis=1)[:, None] * (batch.types == 0)[:, None]
    batch.found["spin"] = True
    model.cover(torch.ones(2, dtype=torch.float64))
    nodes = fine_nodes(model)
    SpinEngine(model, nodes)(batch)  # finds the distance to the virtual atoms
    while nodes.error() > 1e-12 and nodes.refine():
        pass
    fast, plain = SpinEngine(model, nodes)(batch), SpinEngine(model)(batch)
    assert all(part.active for part in nodes.parts)
    compare(model, fast, plain, "force_mag")


def test_types_of_a_part_may_stand_in_another_order(cache):
    """Centres are then not sorted by type, and only some types occur."""
    model = make_model("", MORE["se_atten_v2, no attention"], ["H", "X", "O"])
    batch = cache(model).batch(0, np.array([0]))
    batch.types = batch.types[::-1].copy()
    compare(model, PlainEngine(model, nodes=fine_nodes(model))(batch), PlainEngine(model)(batch))


@pytest.mark.parametrize("atoms", ["of one type", "alone"])
def test_frames_without_atoms_of_some_type(atoms, tiny, tmp_path):
    """Data of pure elements and single atoms beside others are ordinary training data."""
    made = tiny(n_frames=2, n_molecules=8)
    kept = np.flatnonzero(np.array(made["types"]) == 1)[: None if atoms == "of one type" else 1]
    data = {key: value[:, kept] if key in ("positions", "force") else value for key, value in made["data"].items()}
    folder = write_system(tmp_path / "a", np.array(made["types"])[kept], made["type_map"], data)
    model = deserialize(make_tree(Options()))
    batch = GraphCache([System.open(str(folder), model.type_map)], model.descriptor.rcut).batch(0, np.array([0, 1]))
    fast, plain = PlainEngine(model, nodes=Nodes(model, SHORTEST, 256))(batch), PlainEngine(model)(batch)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for prediction in (fast, plain):
        gradients = torch.autograd.grad(loss_of(prediction), parameters, allow_unused=True)
        assert all(bool(torch.isfinite(g).all()) for g in gradients if g is not None)
    for key in ("energy", "atom_energy", "forces", "virial"):
        np.testing.assert_allclose(getattr(fast, key).detach(), getattr(plain, key).detach(), atol=1e-8, err_msg=key)


def test_the_error_on_nodes_falls_exponentially_and_is_measured():
    model = deserialize(make_tree(Options()))
    errors = [Nodes(model, SHORTEST, n_nodes).error() for n_nodes in (16, 32, 64, 128)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[3] < 1e-9


def test_pairs_closer_than_the_interval_widen_it(cache):
    model = deserialize(make_tree(Options()))
    batch = cache(model).batch(0, np.array([0]))
    narrow = Nodes(model, 2.0, 256)
    result = PlainEngine(model, nodes=narrow)(batch)
    assert narrow.parts[0].shortest < 1.0
    np.testing.assert_allclose(
        result.forces.detach().numpy(), PlainEngine(model)(batch).forces.detach().numpy(), rtol=0, atol=1e-8
    )


def test_a_batch_is_the_sum_of_its_frames(cache):
    model = deserialize(make_tree(Options()))
    source, engine = cache(model), PlainEngine(model, nodes=Nodes(model, SHORTEST, 128))
    together = engine(source.batch(0, np.array([0, 1, 2])))
    single = [engine(source.batch(0, np.array([k]))) for k in range(3)]
    np.testing.assert_allclose(together.energy.detach(), [float(s.energy.detach()[0]) for s in single], rtol=1e-13)
    np.testing.assert_allclose(together.virial.detach(), torch.cat([s.virial.detach() for s in single]), atol=1e-10)


def test_a_float32_model_stays_close():
    tree = make_tree(Options(precision="float32"))
    model = deserialize(tree)
    assert Nodes(model, SHORTEST).error() < 1e-4
    assert model.descriptor.networks[0].dtype == torch.float32


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_does_not_change_the_sums(cache, threads):
    model = deserialize(make_tree(Options()))
    batch, engine = cache(model).batch(0, np.array([0, 1])), PlainEngine(model, nodes=Nodes(model, SHORTEST))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = engine(batch).forces.detach()
        torch.set_num_threads(threads)
        many = engine(batch).forces.detach()
    finally:
        torch.set_num_threads(before)
    assert float((one - many).abs().max()) < 1e-11


def test_rows_are_taken_and_added_with_derivatives_of_any_order():
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([2, 0, 2, 2, 3])
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    assert torch.equal(sum_to(x.clone().requires_grad_(), index, 5), sum_to(x, index, 5))
    assert torch.equal(take(x.clone().requires_grad_(), index), x[index])
    x.requires_grad_()
    for function in (lambda x: sum_to(x**2, index, 5), lambda x: take(x**2, index)):
        assert torch.autograd.gradcheck(function, x) and torch.autograd.gradgradcheck(function, x)


def test_initial_weights_follow_the_documented_distributions():
    section = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_e2_a", "sel": [8, 16], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [25, 50, 100],
                       "axis_neuron": 8, "seed": 1, "activation_function": "tanh"},
        "fitting_net": {"neuron": [240, 240], "resnet_dt": True, "seed": 1, "activation_function": "tanh"},
    }  # fmt: skip
    layer = build(section).requires_grad_(False).fitting.networks[0].layers[1]
    assert float(layer.w.std()) == pytest.approx(1 / np.sqrt(480), rel=0.02)
    assert float(layer.b.std()) == pytest.approx(1.0, rel=0.2)
    assert float(layer.idt.mean()) == pytest.approx(0.1, abs=1e-3)


def test_networks_under_one_seed_start_independently():
    section = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_e2_a", "sel": [8, 16], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [20, 40, 80],
                       "axis_neuron": 8, "seed": 1, "activation_function": "tanh"},
        "fitting_net": {"neuron": [80, 80], "resnet_dt": True, "seed": 1, "activation_function": "tanh"},
    }  # fmt: skip
    model = build(section).requires_grad_(False)
    networks = [*model.descriptor.networks, *model.fitting.networks]
    draws = [
        layer.w.numpy().ravel()[:800] for network in networks for layer in network.layers if layer.w.numel() >= 800
    ]
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(len(draws))).max() < 0.2
