"""The fused path for descriptors beyond se_e2_a: against the padded definition, against TorchScript, compressed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import assert_close, check_forces, check_virial, tolerance
from deepmd.exchange import read_tree
from deepmd.freeze import freeze_model
from deepmd.nn.model import deserialize
from peer_frames import FOLDER
from reference.formula_judge import FormulaJudge
from reference.tiny_descriptors import PAIRS, make_model
from reference.tiny_models import Frame, jittered, make_frames

pytestmark = pytest.mark.usefixtures("compiled")

TAKEN = ("se_e2_r", "se_e2_r, two-sided", "se_e2_r, excluded", "se_atten", "se_atten, strip", "se_atten_v2, one-sided",
         "se_e3", "se_e3, excluded", "hybrid", *PAIRS)  # fmt: skip
LEFT = {"se_e3_tebd": "has the descriptor 'se_e3_tebd'", "se_atten_v2": "has attention layers",
        "hybrid, mixed types": "'dpa2'"}  # fmt: skip
SHAPES = ("bulk", "smaller than the cutoff", "slab", "molecule", "one atom", "no neighbours")
QUANTITIES = ("energy", "forces", "virial", "atom_energy", "atom_virial")


def freeze(model: torch.nn.Module, folder) -> str:
    path = folder / "graph.pth"
    freeze_model(model, path)
    return str(path)


def open_paths(compiled, path: str) -> tuple:
    """The fused path, the same in mixed precision, the scripted one."""
    return (compiled.Model(path, path="fused"), compiled.Model(path, path="fused", precision="mixed"),
            compiled.Model(path, path="script"))  # fmt: skip


def assert_same(result: dict, expected: dict, name: str) -> None:
    for key in QUANTITIES:
        scale = max(1.0, float(np.abs(expected[key]).max()))
        assert_close(np.ravel(result[key]), np.ravel(expected[key]), name, scale)


@pytest.fixture(scope="module", params=TAKEN)
def kind(request, compiled, tmp_path_factory):
    """A model with its three paths."""
    model = make_model(request.param)
    return model, *open_paths(compiled, freeze(model, tmp_path_factory.mktemp("kind")))


@pytest.mark.parametrize("shape", ["smaller than the cutoff", "molecule", "no neighbours"])
def test_the_padded_definition_is_met(kind, shape) -> None:
    model, fused, _, _ = kind
    frame = make_frames()[shape]
    judge = FormulaJudge({"model": model.serialize()}, model.descriptor.rcut)
    expected = judge.evaluate(frame.positions, frame.types, frame.cell, frame.pbc, atoms=2)
    result = fused.evaluate(frame.positions, frame.types, frame.cell, frame.pbc, atomic=True)
    assert_close(result["atom_energy"], expected["atom_energy"], "doors")
    assert_close(result["forces"][:2], expected["forces"], "doors", max(1.0, float(np.abs(expected["forces"]).max())))
    assert_close(result["virial"], expected["virial"], "doors", max(1.0, float(np.abs(expected["virial"]).max())))


@pytest.mark.parametrize("shape", SHAPES)
def test_both_paths_give_the_same_numbers(kind, shape) -> None:
    _, fused, mixed, script = kind
    frame = make_frames(seed=11)[shape]
    expected = script.evaluate(**frame.as_input(), atomic=True)
    assert_same(fused.evaluate(**frame.as_input(), atomic=True), expected, "doors")
    assert_same(mixed.evaluate(**frame.as_input(), atomic=True), expected, "mixed precision")


def test_derivatives(kind) -> None:
    fused, frame = kind[1], make_frames(seed=11)["molecule"]

    def call(positions, types, cell, pbc) -> dict:
        return fused.evaluate(positions, types, cell, pbc, atomic=True)

    check_forces(call, frame, atoms=1)
    check_virial(call, frame)


def test_closer_pairs_than_the_tables_reach(kind) -> None:
    _, fused, _, script = kind
    frame = Frame(np.array([[0.0, 0, 0], [0.31, 0.1, 0.2], [1.5, 0.4, 0.0]]), np.array([0, 0, 1]))
    before = fused.n_outside
    result, expected = (model.evaluate(**frame.as_input(), atomic=True) for model in (fused, script))
    assert_same(result, expected, "doors")
    assert fused.n_outside >= before


@pytest.mark.parametrize("name", ["se_atten", "se_e2_r", "se_e3", "hybrid of pairs, mixed types"])
def test_few_slots_parameters_and_vacuum_terms(name, compiled, tmp_path) -> None:
    """More neighbours than slots; parameters behind the constants of the types; a first layer with a skip."""
    few = {"sel": [3, 2]} if name in ("se_e2_r", "se_e3") else {} if "hybrid" in name else {"sel": 3}
    models = {"parameters": make_model(name, fitting={"numb_fparam": 2, "numb_aparam": 1}, **few)}
    width = models["parameters"].descriptor.dim_out
    models["vacuum"] = make_model(name, fitting={"neuron": [2 * width, 5], "atom_ener": [0.0, None]}, **few)
    rng = np.random.default_rng(0)
    for label, model in models.items():
        folder = tmp_path / label
        folder.mkdir()
        fused, _, script = open_paths(compiled, freeze(model, folder))
        frame = make_frames(seed=5)["bulk"]
        if label == "parameters":
            frame.fparam, frame.aparam = rng.normal(size=2), rng.normal(size=(len(frame.types), 1))
        result, expected = (each.evaluate(**frame.as_input(), atomic=True) for each in (fused, script))
        assert_same(result, expected, "doors")


@pytest.mark.parametrize("name", ["att0_strip", "ser", "ser_oneside", "set", "hybrid"])
def test_models_of_the_peer_run_fused(name, compiled, tmp_path) -> None:
    fused, _, script = open_paths(compiled, freeze(deserialize(read_tree(FOLDER / f"{name}.dp")).eval(), tmp_path))
    frame = make_frames(seed=2)["slab"]
    result, expected = (each.evaluate(**frame.as_input(), atomic=True) for each in (fused, script))
    assert_same(result, expected, "doors")


@pytest.mark.parametrize("name", LEFT)
def test_other_kinds_run_scripted_and_the_line_says_why(name, compiled, tmp_path, monkeypatch) -> None:
    from deepmd.errors import EngineError

    monkeypatch.delenv("DEEPMD_PATH", raising=False)
    path = freeze(make_model(name), tmp_path)
    words = compiled.Model(path, path="auto", gpu_rank=-1).path_description
    assert words.startswith("script: TorchScript") and "not fused: the model has" in words and LEFT[name] in words
    with pytest.raises(EngineError, match="cannot run by the fused path: the model has"):
        compiled.Model(path, path="fused")


# ------------------------------------------------------------------------------------------------------- compression

CELL = np.diag([6.4, 6.6, 6.8])
WIDE = {"neuron": [6, 12, 24]}
COMPRESSED = {"se_e2_r": WIDE, "se_atten": WIDE, "se_atten_v2, two-sided": WIDE, "hybrid of pairs": {}, "hybrid": {},
              "se_e3": WIDE}  # fmt: skip
TOLERANCE = {"spectral": 1e-5, "exact": 1e-8}  # eV/A


def dense_frames(n: int, seed: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [jittered(CELL, (3, 3, 3), 2, rng) for _ in range(n)]


@pytest.mark.parametrize("how", ["spectral", "exact"])
@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_models_keep_their_tolerance_on_fresh_frames(name, how, compiled, tmp_path) -> None:
    from deepmd.compress import Options, compress_file
    from deepmd.data import write_system

    path, frames = freeze(make_model(name, **COMPRESSED[name]), tmp_path), dense_frames(6, 1)
    types = frames[0].types
    data = {"positions": np.array([f.positions for f in frames]), "cell": np.array([f.cell for f in frames])}
    system = str(write_system(tmp_path / "data", types, ["O", "H"], data))
    options = Options(exact=how == "exact", tolerance=TOLERANCE[how], data=[system])
    record = compress_file(path, tmp_path / "small.pth", options)
    before, after = compiled.Model(path, path="fused"), compiled.Model(str(tmp_path / "small.pth"), path="fused")
    how = "exact" if name == "se_e3" else how  # there is no basis for couples
    assert how in after.path_description and record["error"]["force_max"] <= record["tolerance"] / 2
    for frame in dense_frames(4, 77):
        frame.types = types
        expected, result = before.evaluate(**frame.as_input()), after.evaluate(**frame.as_input())
        assert np.abs(result["forces"] - expected["forces"]).max() <= record["tolerance"]
    assert after.n_outside == 0
    away = np.array([0.6, 0.3, 0.2])
    frame.positions[1] = frame.positions[0] + away * record["range"]["shortest"] * 0.6 / np.linalg.norm(away)
    expected, result = (model.evaluate(**frame.as_input(), atomic=True) for model in (before, after))
    assert after.n_outside >= 2
    scale = max(1.0, float(np.abs(expected["forces"]).max()))
    close = np.abs(result["atom_energy"][:2] - expected["atom_energy"][:2]).max()
    assert close <= (record["tolerance"] if how == "exact" else tolerance("doors")) * scale
    assert np.abs(result["forces"] - expected["forces"]).max() <= 10 * record["tolerance"] * scale


def test_the_error_of_a_smooth_factor_by_inverse_distance(compiled, tmp_path) -> None:
    """At the cutoff the switch is no smooth function of the radial entry; of the inverse distance it is."""
    model = make_model("se_atten_v2, two-sided", exclude_types=[])
    fused, _, script = open_paths(compiled, freeze(model, tmp_path))
    rcut, rcut_smth, worst = model.descriptor.rcut, model.descriptor.rcut_smth, 0.0
    for r in [*(rcut - np.geomspace(1e-6, rcut - 0.9, 60)), rcut_smth - 1e-7, rcut_smth + 1e-7]:
        frame = Frame(np.array([[0.0, 0, 0], [r, 0, 0], [0.4, 1.3, 0.2]]), np.array([0, 1, 1]))
        result, expected = (each.evaluate(**frame.as_input()) for each in (fused, script))
        worst = max(worst, float(np.abs(result["forces"] - expected["forces"]).max()))
    assert worst < tolerance("closed form") * 10
