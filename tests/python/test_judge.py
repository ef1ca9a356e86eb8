"""The judge itself: against the peer's predictions, against finite differences, against the padded definition."""

from pathlib import Path

import checks
import numpy as np
import pytest
from deepmd.exchange import read_tree
from reference.dp_numpy import Judge, Layer, activation, neighbors
from reference.tiny_models import Options, make_frames, make_tree

GOLDENS = Path(__file__).parents[1] / "data" / "peer"
# eV, eV/A: the peer's own rounding. Its float32 model computes in float32, the judge in float64.
PEER_TOLERANCE = {"sea_f32": 1e-5}
MODELS = ("sea", "sea_exclude", "sea_f32", "sea_oneside_dt", "pair_exclude", "fparam", "aparam")
QUANTITIES = {"energy": "energy", "force": "forces", "virial": "virial",
              "atom_energy": "atom_energy", "atom_virial": "atom_virial"}  # fmt: skip

VARIANTS = {
    "plain": Options(),
    "one-sided": Options(one_side=True, embedding_dt=True, activation="gelu"),
    "three types": Options(type_map=["A", "B", "C"], sel=[9, 8, 7], activation="silut:1.0", fitting_bias=True),
    "excluded pairs": Options(descriptor_exclude=[[0, 1]]),
    "excluded, one-sided": Options(descriptor_exclude=[[0, 1]], activation="softplus", one_side=True, davg_zero=True),
    "absent pairs": Options(pair_exclude=[[0, 0]], activation="sigmoid"),
    "absent centres": Options(atom_exclude=[1], activation="silu"),
    "protection": Options(protection=0.3),
    "parameters": Options(n_fparam=2, n_aparam=3),
    "vacuum": Options(n_fparam=1, atom_ener=[0.0, None]),
    "sel too small": Options(sel=[2, 1]),
}


def with_parameters(frame, options, rng):
    frame.fparam = rng.normal(size=options.n_fparam) if options.n_fparam else None
    frame.aparam = rng.normal(size=(len(frame.types), options.n_aparam)) if options.n_aparam else None
    return frame


def peer_frames(path):
    data = np.load(path)
    for name in dict.fromkeys(key.split(".")[0] for key in data):
        for k in range(len(data[f"{name}.coord"])):
            keys = [key for key in data if key.startswith(name + ".") and not key.endswith(".atype")]
            pick = {key.split(".")[1]: data[key][k] for key in keys}
            yield f"{name} {k}", data[f"{name}.atype"], pick


def assert_matches_peer(judge, path, tolerance, n_frames=None):
    for count, (name, types, peer) in enumerate(peer_frames(path)):
        if count == n_frames:
            break
        cell = peer["cell"].reshape(3, 3) if "cell" in peer else None
        positions = peer["coord"].reshape(-1, 3)
        counts = judge.neighbor_counts(positions, types, cell)
        assert (counts <= judge.descriptor.sel).all(), f"{name}: the peer drops neighbours here, nothing to compare"
        result = judge.evaluate(positions, types, cell, None, peer.get("fparam"), peer.get("aparam"))
        for theirs, ours in QUANTITIES.items():
            error = np.abs(np.ravel(result[ours]) - np.ravel(peer[theirs])).max()
            assert error < tolerance, f"{name} {ours}: {error:.1e}"


@pytest.mark.parametrize("name", MODELS)
def test_peer_predictions_are_reproduced(name):
    judge = Judge(read_tree(GOLDENS / f"{name}.dp"))
    assert_matches_peer(judge, GOLDENS / f"{name}.npz", PEER_TOLERANCE.get(name, 1e-10))


def test_full_size_water_is_reproduced(shared):
    judge = Judge(read_tree(shared("..", "peer", "water_full.dp")))
    assert_matches_peer(judge, shared("..", "peer", "water_full.npz"), 1e-10, n_frames=1)


ACTIVATIONS = "tanh relu relu6 softplus sigmoid gelu gelu_tf silu silut silut:1.5 none Linear".split()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivatives(name):
    x, h = np.linspace(-4.03, 7.01, 57), 1e-6
    numeric = (activation(name, x + h)[0] - activation(name, x - h)[0]) / (2 * h)
    np.testing.assert_allclose(activation(name, x)[1], numeric, atol=1e-8)
    for kink in (3.0, 1.5):  # value and slope pass the threshold without a jump
        (low, low_slope), (high, high_slope) = (activation(name, np.array([kink + e])) for e in (-1e-9, 1e-9))
        np.testing.assert_allclose([low, low_slope], [high, high_slope], atol=1e-8)


@pytest.mark.parametrize("widths", [(3, 3), (3, 6), (3, 4)])
@pytest.mark.parametrize("resnet", [True, False])
def test_layer_jacobian(widths, resnet):
    rng = np.random.default_rng(0)
    variables = {"w": rng.normal(size=widths), "b": rng.normal(size=widths[1]), "idt": rng.normal(size=widths[1])}
    layer = Layer({"@variables": variables, "activation_function": "tanh", "resnet": resnet})
    x, h = rng.normal(size=3), 1e-6
    _, jacobian = layer(x)
    numeric = np.stack([(layer(x + h * e)[0] - layer(x - h * e)[0]) / (2 * h) for e in np.eye(3)], axis=1)
    np.testing.assert_allclose(jacobian, numeric, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", ["smaller than the cutoff", "wire", "molecule"])
def test_forces_and_virial_are_derivatives_of_the_energy(variant, shape):
    options = VARIANTS[variant]
    rng = np.random.default_rng(3)
    judge = Judge(make_tree(options))
    frame = with_parameters(make_frames(len(options.type_map))[shape], options, rng)

    def evaluate(positions, types, cell, pbc):
        return judge.evaluate(positions, types, cell, pbc, frame.fparam, frame.aparam)

    checks.check_forces(evaluate, frame, atoms=1)
    checks.check_virial(evaluate, frame)
    checks.check_parts_add_up(evaluate, frame)


@pytest.mark.parametrize("shape", ["smaller than the cutoff", "slab", "molecule", "one atom in a cell"])
def test_the_judge_has_the_symmetries_of_physics(shape):
    frame, rng = make_frames()[shape], np.random.default_rng(0)
    evaluate = Judge(make_tree()).evaluate
    checks.check_translation(evaluate, frame)
    checks.check_rotation_and_inversion(evaluate, frame, rng)
    checks.check_permutation(evaluate, frame, rng)
    checks.check_wrapping(evaluate, frame, rng)
    checks.check_lattice_reduction(evaluate, frame)
    if len(frame.types) < 5:
        checks.check_replication(evaluate, frame)


def padded_matrix(descriptor, t_i, around):
    """T by the padded definition: sel[t] slots of type t, filled with neighbours and then with empty rows."""
    total = 0.0
    for t_j, slots in enumerate(descriptor.sel):
        rows = [vector for t, vector in around if t == t_j]
        for k in range(slots):
            raw = np.zeros(4)
            if k < len(rows):
                r = np.linalg.norm(rows[k])
                u = np.clip((r - descriptor.rcut_smth) / (descriptor.rcut - descriptor.rcut_smth), 0.0, 1.0)
                raw[0] = (1.0 - 10.0 * u**3 + 15.0 * u**4 - 6.0 * u**5) / r
                raw[1:] = raw[0] * rows[k] / r
            row = (raw - descriptor.mean[t_i]) / descriptor.width[t_i]
            total = total + np.outer(descriptor.embed(t_i, t_j, row[0])[0], row)
    return total / sum(descriptor.sel)


def test_closed_form_of_empty_slots_equals_padding():
    judge = Judge(make_tree(Options(sel=[30, 40])))
    frame = make_frames()["skewed"]
    for i, around in enumerate(neighbors(frame.positions, frame.cell, None, judge.rcut)):
        around = [(int(frame.types[j]), vector) for j, vector in around]
        t_i = int(frame.types[i])
        ragged, _ = judge.descriptor.matrix(t_i, around)
        np.testing.assert_allclose(ragged, padded_matrix(judge.descriptor, t_i, around), atol=1e-13)


@pytest.mark.parametrize("sel", [[30, 40], [1, 1]])
def test_energy_is_smooth_where_a_neighbour_leaves(sel):
    judge = Judge(make_tree(Options(sel=sel)))

    def energy(r):
        return judge.evaluate([[0, 0, 0], [r, 0, 0], [0, 1.5, 0], [0, 0, 1.4]], [0, 1, 1, 0])["energy"]

    inside, outside = energy(judge.rcut - 1e-4), energy(judge.rcut + 1e-4)
    assert inside == pytest.approx(outside, abs=1e-10)
    assert energy(judge.rcut - 0.5) != pytest.approx(outside, abs=1e-6)


@pytest.mark.parametrize("pbc", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_neighbours_agree_with_ase(pbc):
    neighborlist = pytest.importorskip("ase.neighborlist")
    rng = np.random.default_rng(sum(pbc))
    for cell in (np.diag([3.1, 4.2, 9.0]), np.array([[5.0, 0, 0], [4.0, 3.0, 0], [-3.0, 2.0, 4.0]])):
        positions = rng.uniform(-1.0, 2.0, (7, 3)) @ cell
        i, j, vectors = neighborlist.primitive_neighbor_list("ijD", pbc, cell, positions, 4.0, self_interaction=False)
        ours = neighbors(positions, cell, pbc, 4.0)
        mine = sorted((k, m, *np.round(v, 9)) for k, around in enumerate(ours) for m, v in around)
        theirs = sorted((k, m, *np.round(v, 9)) for k, m, v in zip(i, j, vectors, strict=True))
        np.testing.assert_allclose(np.array(mine, dtype=float), np.array(theirs, dtype=float), atol=1e-8)


def test_biases_add_up_and_excluded_atoms_are_silent():
    frame = make_frames()["molecule"]
    with_bias = Judge(make_tree(Options(fitting_bias=True)))
    fitting_bias = with_bias.fitting.bias.copy()
    full = with_bias.evaluate(**frame.as_input())["atom_energy"]
    with_bias.fitting.bias[:] = 0.0
    np.testing.assert_allclose(full - with_bias.evaluate(**frame.as_input())["atom_energy"], fitting_bias[frame.types])
    silent = Judge(make_tree(Options(atom_exclude=[0]))).evaluate(**frame.as_input())["atom_energy"]
    assert (silent[frame.types == 0] == 0.0).all() and (silent[frame.types == 1] != 0.0).all()


def test_vacuum_term_makes_isolated_atoms_cost_their_bias():
    tree = make_tree(Options(atom_ener=[0.0, 0.0], davg_zero=True))
    judge = Judge(tree)
    for t in (0, 1):
        assert judge.evaluate([[0.0, 0, 0]], [t])["energy"] == pytest.approx(judge.out_bias[t], abs=1e-13)


def test_default_fparam_is_used_when_none_is_given():
    judge = Judge(make_tree(Options(n_fparam=2, default_fparam=[0.3, 0.7])))
    frame = make_frames()["molecule"]
    inputs = frame.as_input()
    given = judge.evaluate(**{**inputs, "fparam": [0.3, 0.7]})["energy"]
    assert judge.evaluate(**inputs)["energy"] == given
    assert judge.evaluate(**{**inputs, "fparam": [0.3, 0.8]})["energy"] != given
