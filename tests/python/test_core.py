"""The compiled core on a Lennard-Jones model with closed-form answers, and every refusal of a model file."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from checks import assert_close, tolerance
from deepmd.errors import EngineError, ModelError
from toy_lj import Options, ToyLj, closed_form, random_frame, write_toy

ALL = ("energy", "forces", "virial", "atom_energy", "atom_virial")


@pytest.fixture(scope="module")
def toy(compiled, tmp_path_factory):
    """An open model and its file."""
    path = write_toy(tmp_path_factory.mktemp("toy") / "graph.pth")
    return compiled.Model(str(path)), path


def evaluate(model, frame, **more):
    given = {k: frame[k] for k in ("cell", "fparam", "aparam") if k in frame}
    return model.evaluate(frame["positions"], frame["types"], atomic=True, **given, **more)


def assert_same(result, expected, name="closed form"):
    for quantity in ALL:
        assert_close(np.atleast_1d(result[quantity]), expected[quantity], name)


# ------------------------------------------------------------------------------------------------ numbers


def test_properties(toy):
    model, _ = toy
    assert (model.rcut, model.n_types, model.type_map) == (5.0, 2, ["Ar", "Ne"])
    assert (model.dim_fparam, model.dim_aparam, model.has_default_fparam) == (0, 0, False)
    assert (model.kind, model.path_in_use, model.min_pair_distance) == ("energy", "script", 0.0)
    assert json.loads(model.metadata)["sel"] == [40, 40]
    assert model.selftest() < tolerance("closed form")


@pytest.mark.parametrize(
    ("n_atoms", "length"),
    [(1, 3.0), (2, 3.0), (1, 9.0), (2, 9.0), (13, 9.0), (60, 9.0), (1, None), (2, None), (60, None)],
)
def test_frames_equal_closed_form(toy, n_atoms, length):
    frame = random_frame(n_atoms, length, seed=n_atoms)
    assert_same(evaluate(toy[0], frame), closed_form(frame))


@pytest.mark.parametrize("pbc", [(1, 1, 0), (0, 1, 0), (0, 0, 0), (1, 0, 1)])
def test_mixed_boundaries_equal_closed_form(toy, pbc):
    frame = random_frame(27, 6.6, seed=4)
    assert_same(evaluate(toy[0], frame, pbc=pbc), closed_form(frame, pbc=pbc))


def test_wrapping_changes_nothing(toy):
    frame = random_frame(27, 6.6, seed=4)
    wander = np.random.default_rng(0).integers(-3, 4, (27, 3))
    moved = {**frame, "positions": frame["positions"] + wander @ frame["cell"]}
    assert_same(evaluate(toy[0], moved), closed_form(frame), "wrapping")


def test_blocks_of_centres_add_up(toy):
    """More pairs than fit into one call of the module."""
    frame = random_frame(500, 17.6, seed=8)
    assert_same(evaluate(toy[0], frame), closed_form(frame), "closed form, many atoms")


def test_no_atoms_and_no_local_atoms(toy):
    model, _ = toy
    result = model.evaluate(np.zeros((0, 3)), np.zeros(0, dtype=int), atomic=True)
    assert result["energy"] == 0 and result["forces"].shape == (0, 3)
    empty = (np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    result = model.evaluate(np.zeros((4, 3)), np.zeros(4, dtype=int), n_local=0, list=empty, atomic=True)
    assert result["energy"] == 0 and not result["forces"].any() and result["forces"].shape == (4, 3)


def ghost_frame(frame, rcut):
    """The same frame as an engine sees it: all images within rcut as ghosts, a list without shifts, a skin pair."""
    from deepmd.core import Neighbors

    positions, cell = frame["positions"], frame["cell"]
    first, index, shift, _ = Neighbors(rcut + 0.7, 0.0).update(positions, cell)
    images = {}
    entries = []
    for j, s in zip(index.tolist(), map(tuple, shift.tolist()), strict=True):
        key = j if not any(s) else images.setdefault((j, s), len(positions) + len(images))
        entries.append(key)
    owners = np.array([j for j, _ in images], dtype=int)
    ghosts = np.array([positions[j] + np.array(s) @ cell for j, s in images])
    return {
        "positions": np.concatenate([positions, ghosts]),
        "types": np.concatenate([frame["types"], frame["types"][owners]]),
        "owners": np.concatenate([np.arange(len(positions)), owners]),
        "list": (first, np.array(entries, dtype=np.int32)),
    }


def test_ghost_atoms_give_the_same_answer(toy):
    frame = random_frame(20, 6.2, seed=9)
    seen = ghost_frame(frame, 5.0)
    result = toy[0].evaluate(seen["positions"], seen["types"], n_local=20, list=seen["list"], atomic=True)
    expected = closed_form(frame)
    folded = {name: np.zeros_like(expected[name]) for name in ("forces", "atom_virial")}
    for name, value in folded.items():
        np.add.at(value, seen["owners"], result[name])
    assert_same({**result, **folded}, expected)


def test_kept_list_gives_the_same_answer(toy, compiled):
    frame = random_frame(27, 6.6, seed=4)
    neighbors = compiled.Neighbors(5.0, 1.0)
    rng = np.random.default_rng(1)
    for _ in range(5):
        frame["positions"] = frame["positions"] + rng.normal(0, 0.05, (27, 3))
        assert_same(evaluate(toy[0], frame, neighbors=neighbors), closed_form(frame))


def test_forces_and_virial_are_derivatives_of_the_energy(toy):
    model, _ = toy
    frame = random_frame(15, 6.0, seed=2)
    result = evaluate(model, frame)
    step = 1e-4

    def energy(positions, cell):
        return model.evaluate(positions, frame["types"], cell)["energy"]

    def derivative(change):
        """change(h) -> (positions, cell); fourth-order central difference."""
        e = [energy(*change(k * step)) for k in (-2, -1, 1, 2)]
        return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)

    numeric = np.zeros((15, 3))
    for i, a in np.ndindex(15, 3):
        unit = np.zeros((15, 3))
        unit[i, a] = 1.0
        numeric[i, a] = -derivative(lambda h, unit=unit: (frame["positions"] + h * unit, frame["cell"]))
    assert_close(result["forces"], numeric, "finite differences")

    strained = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        unit = np.zeros((3, 3))
        unit[a, b] = 1.0  # r_b += strain r_a, so that W[a, b] = sum F[b] r[a]; compared transposed below
        strained[b, a] = -derivative(
            lambda h, unit=unit: (frame["positions"] @ (np.eye(3) + h * unit), frame["cell"] @ (np.eye(3) + h * unit))
        )
    assert_close(result["virial"], strained, "finite differences")


def test_atomic_parts_sum_to_the_whole(toy):
    result = evaluate(toy[0], random_frame(40, 8.0, seed=5))
    assert_close(result["atom_energy"].sum(), np.array(result["energy"]), "closed form")
    assert_close(result["atom_virial"].sum(axis=0), result["virial"], "closed form")
    assert_close(result["forces"].sum(axis=0), np.zeros(3), "closed form")


def test_threads_share_a_model(toy):
    frames = [random_frame(n, 6.0, seed=n) for n in (5, 9, 13, 17)] * 4
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda frame: evaluate(toy[0], frame), frames))
    for frame, result in zip(frames, results, strict=True):
        assert_same(result, closed_form(frame))


def test_number_of_threads_from_the_environment(compiled, toy, monkeypatch):
    monkeypatch.setenv("DP_INTRA_OP_PARALLELISM_THREADS", "many")
    with pytest.raises(EngineError, match="DP_INTRA_OP_PARALLELISM_THREADS is 'many', expected a number"):
        compiled.Model(str(toy[1]))
    monkeypatch.setenv("DP_INTRA_OP_PARALLELISM_THREADS", "1")
    compiled.Model(str(toy[1]))


def test_inputs_of_other_types_and_layouts(toy):
    frame = random_frame(13, 6.0, seed=6)
    plain = evaluate(toy[0], frame)
    other = {
        "positions": np.asfortranarray(frame["positions"]),
        "types": frame["types"].tolist(),
        "cell": frame["cell"].tolist(),
    }
    assert_same(evaluate(toy[0], other), {k: np.atleast_1d(v) for k, v in plain.items()})


# ------------------------------------------------------------------------------------------------ parameters


@pytest.fixture(scope="module")
def toy_with_parameters(compiled, tmp_path_factory):
    options = Options(dim_fparam=2, dim_aparam=1)
    return compiled.Model(str(write_toy(tmp_path_factory.mktemp("toy") / "graph.pth", options))), options


def test_parameters_reach_the_model_in_blocks_too(toy_with_parameters):
    model, options = toy_with_parameters
    for n, length in ((12, 6.0), (500, 17.6)):
        frame = random_frame(n, length, seed=3) | {
            "fparam": np.array([1.5, -0.25]),
            "aparam": np.random.default_rng(2).uniform(0, 3, (n, 1)),
        }
        assert_same(evaluate(model, frame), closed_form(frame, options), "closed form, many atoms")


def test_default_frame_parameters(compiled, tmp_path):
    path = write_toy(tmp_path / "graph.pth", Options(dim_fparam=1, default_fparam=[2.0]))
    model = compiled.Model(str(path))
    assert model.has_default_fparam
    frame = random_frame(5, 6.0, seed=0)
    with_default = evaluate(model, frame)["energy"]
    assert with_default == evaluate(model, frame | {"fparam": np.array([2.0])})["energy"]
    assert_close(
        np.array(with_default - evaluate(model, frame | {"fparam": np.zeros(1)})["energy"]),
        np.array(5 * 0.2),
        "closed form",
    )


def test_wrong_parameters_are_refused(toy, toy_with_parameters):
    model, _ = toy_with_parameters
    frame = random_frame(5, 6.0, seed=0)
    good = {"fparam": np.zeros(2), "aparam": np.zeros((5, 1))}
    for bad, words in [
        ({"aparam": good["aparam"]}, "fparam is missing: the model takes 2 frame parameters"),
        ({"fparam": good["fparam"]}, "aparam is missing: the model takes 1 atomic parameters"),
        ({**good, "fparam": np.zeros(3)}, r"fparam has shape \[3\], expected \[2\]"),
        ({**good, "aparam": np.zeros((4, 1))}, r"aparam has shape \[4, 1\], expected \[5, 1\]"),
        ({**good, "fparam": np.array([0.0, np.nan])}, "entry 2 of fparam"),
    ]:
        with pytest.raises(EngineError, match=words):
            evaluate(model, frame | bad)
    with pytest.raises(EngineError, match="fparam"):
        evaluate(toy[0], frame | {"fparam": np.zeros(2)})


# ------------------------------------------------------------------------------------------------ refused frames


def refused(model, words, code, *args, **kwargs):
    with pytest.raises(EngineError, match=words) as caught:
        model.evaluate(*args, **kwargs)
    assert caught.value.code == code


def test_close_atoms_are_refused_by_name(toy):
    model, _ = toy
    positions = np.array([[0.0, 0, 0], [3, 0, 0], [3, 0.04, 0]])
    types = np.zeros(3, dtype=int)
    refused(model, "atom 2 and atom 3 are 0.04 Angstrom apart", "DP_ERROR_GEOMETRY", positions, types)
    positions[2] = [9.98, 0, 0]
    refused(
        model,
        "atom 1 and a periodic image of atom 3 are 0.02 Angstrom",
        "DP_ERROR_GEOMETRY",
        positions,
        types,
        np.eye(3) * 10,
    )
    pair = (np.array([0, 1]), np.array([1], dtype=np.int32))
    refused(
        model,
        r"atom 1 and atom 2 \(a ghost\) are 0 Angstrom",
        "DP_ERROR_GEOMETRY",
        np.zeros((2, 3)),
        types[:2],
        n_local=1,
        list=pair,
    )


def test_bad_frames_are_refused_in_words(toy):
    model, _ = toy
    positions = np.array([[0.0, 0, 0], [3, 0, 0]])
    types = np.zeros(2, dtype=int)
    refused(model, "atom 2 has type 2, expected 0 to 1", "DP_ERROR_ARGUMENT", positions, [0, 2])
    refused(model, "atom 1 has type -1, expected 0 to 1", "DP_ERROR_ARGUMENT", positions, [-1, 0])
    refused(model, "coordinate y of atom 1 is nan", "DP_ERROR_GEOMETRY", positions * [1, np.nan, 1], types)
    refused(model, "left-handed", "DP_ERROR_GEOMETRY", positions, types, np.diag([5.0, 5, -5]))
    refused(model, "singular", "DP_ERROR_GEOMETRY", positions, types, np.ones((3, 3)))
    refused(model, r"types has shape \[1\], expected \[2\]", "DP_ERROR_ARGUMENT", positions, [0])
    refused(model, r"positions has shape \[2, 2\], expected \[n, 3\]", "DP_ERROR_ARGUMENT", positions[:, :2], types)
    refused(model, "ghost atoms were passed without a neighbour list", "DP_ERROR_ARGUMENT", positions, types, n_local=1)
    refused(model, "types is not an array of whole numbers", "DP_ERROR_ARGUMENT", positions, [0.5, 1])
    refused(model, "positions is not an array of numbers", "DP_ERROR_ARGUMENT", [["x", 0, 0], [1, 0, 0]], types)
    refused(model, "positions is not an array of numbers", "DP_ERROR_ARGUMENT", positions + 1j, types)
    refused(model, "positions is not an array of numbers", "DP_ERROR_ARGUMENT", [[0, 0, 0], [1]], types)
    refused(model, "n_local is larger", "DP_ERROR_ARGUMENT", positions, types, n_local=3)


def test_bad_lists_are_refused_in_words(toy):
    model, _ = toy
    positions = np.array([[0.0, 0, 0], [3, 0, 0]])
    types = np.zeros(2, dtype=int)

    def with_list(*parts):
        return {"positions": positions, "types": types, "list": tuple(np.array(p) for p in parts)}

    for words, given in [
        ("has 1 centres, expected one row for each of the 2", with_list([0, 1], [1])),
        ("row 1 of the neighbour list ends before", with_list([0, -1, 2], [1, 0])),
        ("do not begin with 0", with_list([1, 1, 2], [1, 0])),
        ("entry 2 of the neighbour list is 5, expected 0 to 1", with_list([0, 1, 2], [1, 5])),
        ("there is no cell", with_list([0, 1, 2], [1, 0], [[0, 0, 1], [0, 0, 0]])),
        ("other lengths", with_list([0, 1, 2], [1])),
        ("other lengths", with_list([0, 1, 2], [1, 0], [[0, 0, 0]])),
        ("neither a tuple", {"positions": positions, "types": types, "list": 3}),
    ]:
        refused(model, words, "DP_ERROR_ARGUMENT", **given)


class BadModule(ToyLj):
    """Returns what no model should: not a number beyond a distance of 4.5."""

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        types: torch.Tensor,
        n_centers: int,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        energy = torch.zeros(n_centers, dtype=torch.float64)
        far = (vectors * vectors).sum(dim=1) > 4.5 * 4.5
        energy = energy.index_add(0, centers, torch.sqrt(-far.to(torch.float64)))
        return {"atom_energy": energy, "pair_gradient": torch.zeros_like(vectors)}


class Thrower(BadModule):
    """Raises in the middle."""

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        types: torch.Tensor,
        n_centers: int,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        if n_centers > 1:
            raise ValueError("two is a crowd")
        return {"atom_energy": torch.zeros(n_centers), "pair_gradient": vectors}


class Misshapen(BadModule):
    """Forgets one gradient."""

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        types: torch.Tensor,
        n_centers: int,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        return {"atom_energy": torch.zeros(n_centers), "pair_gradient": vectors[1:]}


def open_untested(compiled, folder, module):
    return compiled.Model(str(write_toy(folder / "bad.pth", Options(module=module))), run_selftest=False)


def test_non_finite_results_are_an_error(compiled, tmp_path):
    model = open_untested(compiled, tmp_path, BadModule(5.0))
    positions, types = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 5.8]]), np.zeros(3, dtype=int)
    assert model.evaluate(positions[:2], types[:2])["energy"] == 0
    refused(model, "returned -?nan for the energy of atom 2", "DP_ERROR_NONFINITE", positions, types, atomic=True)
    refused(model, "returned -?nan for the energy", "DP_ERROR_NONFINITE", positions, types)
    with pytest.raises(EngineError):
        model.selftest()


def test_errors_inside_the_module_come_out_as_one_sentence(compiled, tmp_path):
    positions, types = np.array([[0.0, 0, 0], [0, 0, 1]]), np.zeros(2, dtype=int)
    model = open_untested(compiled, tmp_path, Thrower(5.0))
    refused(model, r"^evaluating the model failed in torch: .*two is a crowd$", "DP_ERROR_INTERNAL", positions, types)
    model = open_untested(compiled, tmp_path, Misshapen(5.0))
    with pytest.raises(ModelError, match="pair_gradient with shape"):
        model.evaluate(positions, types)
