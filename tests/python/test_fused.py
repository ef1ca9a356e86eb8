"""The fused path: random models against the judge, finite differences through its tables, and the choice of a path."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from checks import assert_close, tolerance
from reference.dp_numpy import Judge
from reference.tiny_models import Frame, Options, jittered, make_frames, make_tree

SMOOTH = ("tanh", "softplus", "sigmoid", "gelu", "silu")


def random_options(seed: int) -> Options:
    """A model of random shape; every option of the family turns up among a dozen of them."""
    rng = np.random.default_rng(seed)
    n_types = int(rng.integers(1, 4))
    first = int(rng.integers(1, 7))
    neuron = [first, first * int(rng.integers(1, 3)), int(rng.integers(3, 30))]
    excluded = [[0, n_types - 1]] if rng.random() < 0.3 else []
    activation = str(rng.choice(SMOOTH))
    return Options(
        type_map=["A", "B", "C"][:n_types], sel=[int(k) for k in rng.integers(1, 40, n_types)],
        rcut=float(rng.uniform(3.0, 5.0)), rcut_smth=float(rng.uniform(0.3, 2.0)), neuron=neuron,
        axis_neuron=int(rng.integers(1, neuron[-1] + 1)), fitting_neuron=[int(k) for k in rng.integers(1, 20, 3)],
        activation=activation, embedding_dt=bool(rng.random() < 0.5), fitting_dt=bool(rng.random() < 0.5),
        one_side=bool(rng.random() < 0.5), pair_exclude=excluded if rng.random() < 0.5 else [],
        descriptor_exclude=excluded, atom_exclude=[0] if rng.random() < 0.15 and n_types > 1 else [],
        protection=0.1 if rng.random() < 0.2 else 0.0, n_fparam=int(rng.integers(0, 3)),
        n_aparam=int(rng.integers(0, 3)), fitting_bias=bool(rng.random() < 0.5), davg_zero=bool(excluded), seed=seed,
    )  # fmt: skip


def freeze(options: Options, folder) -> str:
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    path = folder / "graph.pth"
    freeze_model(deserialize(make_tree(options)), path)
    return str(path)


def with_parameters(frame: Frame, options: Options, rng) -> Frame:
    frame.fparam = rng.normal(0.5, 0.3, options.n_fparam) if options.n_fparam else None
    frame.aparam = rng.normal(0.5, 0.3, (len(frame.types), options.n_aparam)) if options.n_aparam else None
    return frame


def frames_of(options: Options, seed: int) -> dict[str, Frame]:
    rng = np.random.default_rng(seed)
    chosen = ("bulk", "smaller than the cutoff", "slab", "molecule", "one atom", "no neighbours")
    frames = make_frames(len(options.type_map), seed)
    return {name: with_parameters(frames[name], options, rng) for name in chosen}


@pytest.mark.parametrize("seed", range(12))
def test_random_models_give_the_judge_s_numbers(seed, compiled, tmp_path) -> None:
    options = random_options(seed)
    path, judge = freeze(options, tmp_path), Judge(make_tree(options))
    fused = compiled.Model(path, path="fused", precision="float64")
    mixed = compiled.Model(path, path="fused", precision="mixed")
    assert fused.path_in_use == mixed.path_in_use == "fused"
    for frame in frames_of(options, seed + 100).values():
        expected = judge.evaluate(**frame.as_input())
        for model, name in ((fused, "doors"), (mixed, "mixed precision")):
            result = model.evaluate(**frame.as_input(), atomic=True)
            for key in ("energy", "forces", "virial", "atom_energy", "atom_virial"):
                scale = max(1.0, float(np.abs(expected[key]).max()))
                assert_close(np.ravel(result[key]), np.ravel(expected[key]), name, scale)


def test_forces_and_virial_are_finite_differences_through_the_tables(compiled, tmp_path) -> None:
    options = Options(neuron=[5, 10, 12])
    model = compiled.Model(freeze(options, tmp_path), path="fused")
    rng = np.random.default_rng(3)
    frame = jittered(np.diag([6.0, 6.2, 6.4]), (2, 2, 2), 2, rng)

    def energy(positions, cell) -> float:
        return model.evaluate(positions, frame.types, cell)["energy"]

    def slope(change) -> float:
        h = 1e-4
        at = {k: energy(*change(k * h)) for k in (-2, -1, 1, 2)}
        return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)

    result = model.evaluate(frame.positions, frame.types, frame.cell)
    for i in range(3):
        for a in range(3):
            step = np.zeros_like(frame.positions)
            step[i, a] = 1.0
            numeric = -slope(lambda t, step=step: (frame.positions + t * step, frame.cell))
            assert abs(numeric - result["forces"][i, a]) < 10 * tolerance("finite differences")
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] = 1.0

            def strained(t, strain=strain):
                deform = np.eye(3) + t * strain.T  # r_a += t r_b
                return frame.positions @ deform, frame.cell @ deform

            assert abs(-slope(strained) - result["virial"][a, b]) < 100 * tolerance("finite differences")


def test_more_neighbours_than_slots_are_no_limit(compiled, tmp_path) -> None:
    options = Options(sel=[2, 3])
    model = compiled.Model(freeze(options, tmp_path), path="fused")
    frame = make_frames(2, 5)["bulk"]
    expected = Judge(make_tree(options)).evaluate(**frame.as_input())
    result = model.evaluate(**frame.as_input())
    assert_close(result["forces"], expected["forces"], "doors", max(1.0, float(np.abs(expected["forces"]).max())))


def test_closer_pairs_than_the_tables_reach_are_answered_by_the_networks(compiled, tmp_path) -> None:
    options = Options()
    model = compiled.Model(freeze(options, tmp_path), path="fused")
    judge = Judge(make_tree(options))
    frame = Frame(np.array([[0.0, 0, 0], [0.31, 0.1, 0.2], [1.5, 0.4, 0.0]]), np.array([0, 1, 1]))
    result = model.evaluate(**frame.as_input(), atomic=True)
    expected = judge.evaluate(**frame.as_input())
    assert model.n_outside == 2
    for key in ("energy", "forces", "virial", "atom_energy", "atom_virial"):
        scale = max(1.0, float(np.abs(expected[key]).max()))
        assert_close(np.ravel(result[key]), np.ravel(expected[key]), "doors", scale)


# ---------------------------------------------------------------------------------------------------- the choice


@pytest.fixture(scope="module")
def plain(compiled, tmp_path_factory) -> str:
    return freeze(Options(), tmp_path_factory.mktemp("plain"))


def test_the_fused_path_is_the_default_and_tells_about_itself(compiled, plain, monkeypatch) -> None:
    monkeypatch.delenv("DEEPMD_PATH", raising=False)
    monkeypatch.delenv("DEEPMD_PRECISION", raising=False)
    model = compiled.Model(plain, gpu_rank=-1)
    words = model.path_description
    assert model.path_in_use == "fused"
    assert words.startswith("fused: table to rounding") and "float64" in words and "bytes per atom" in words
    assert compiled.Model(plain, path="script").path_description.startswith("script: TorchScript")


def test_the_environment_chooses_and_an_argument_outweighs_it(compiled, plain, monkeypatch) -> None:
    monkeypatch.setenv("DEEPMD_PATH", "script")
    assert compiled.Model(plain).path_in_use == "script"
    assert compiled.Model(plain, path="fused").path_in_use == "fused"
    monkeypatch.setenv("DEEPMD_PATH", "auto")
    monkeypatch.setenv("DEEPMD_PRECISION", "mixed")
    assert ", mixed," in compiled.Model(plain).path_description
    assert ", float64," in compiled.Model(plain, precision="float64").path_description


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"path": "fast"}, "'fast', expected one of auto, fused, cuda, script"),
        ({"precision": "half"}, "'half', expected one of float64, mixed"),
        ({"path": "script", "precision": "mixed"}, "leave out one of them"),
    ],
)
def test_choices_that_make_no_sense_are_refused(compiled, plain, choice, words) -> None:
    from deepmd.errors import EngineError

    with pytest.raises(EngineError, match=words):
        compiled.Model(plain, **choice)


def test_a_misspelt_variable_is_named(compiled, plain, monkeypatch) -> None:
    from deepmd.errors import EngineError

    monkeypatch.setenv("DEEPMD_PATH", "fuse")
    with pytest.raises(EngineError, match="DEEPMD_PATH is 'fuse'"):
        compiled.Model(plain)


@pytest.mark.parametrize("activation", ["relu", "silut"])
def test_models_of_another_kind_run_by_torchscript_and_say_why(compiled, activation, tmp_path) -> None:
    from deepmd.errors import EngineError

    path = freeze(Options(activation=activation), tmp_path)
    assert compiled.Model(path, path="auto").path_in_use == "script"
    with pytest.raises(EngineError, match="cannot run by the fused path: the model has embedding networks with kinks"):
        compiled.Model(path, path="fused")
    with pytest.raises(EngineError, match="precision mixed"):
        compiled.Model(path, path="auto", precision="mixed")


def test_vacuum_terms_that_depend_on_parameters_are_left_to_torchscript(compiled, tmp_path) -> None:
    options = Options(n_fparam=1, atom_ener=[0.0, None], default_fparam=[0.4])
    assert compiled.Model(freeze(options, tmp_path), path="auto").path_in_use == "script"


def test_deep_pot_and_the_calculator_take_the_choice(plain, caplog) -> None:
    import pickle

    from deepmd.calculator import DP
    from deepmd.infer import DeepPot

    potential = DeepPot(plain, path="fused", precision="mixed")
    assert ", mixed," in potential.get_path()
    assert ", mixed," in pickle.loads(pickle.dumps(potential)).get_path()
    assert DP(plain, path="script").dp.get_path().startswith("script")


def test_pairs_outside_the_tables_are_reported_once(plain, caplog) -> None:
    from deepmd.infer import DeepPot

    potential = DeepPot(plain, path="fused")
    for _ in range(3):
        potential.eval(np.array([[0.0, 0, 0, 0.3, 0.1, 0.1]]), None, [0, 1])
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "2 pairs of atoms or couples of neighbours are outside" in warnings[0]


def test_a_process_that_uses_the_fused_path_never_loads_torch(plain) -> None:
    code = (
        "from deepmd.core import Model; import sys\n"
        f"m = Model({plain!r}, path='fused', gpu_rank=-1)\n"
        "maps = open('/proc/self/maps').read()\n"
        "print('torch' in sys.modules, 'libtorch' in maps, 'libdeepmd_script' in maps)\n"
        f"Model({plain!r}, path='script')\n"
        "print('libtorch' in open('/proc/self/maps').read())\n"
    )
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("the loaded libraries are read from Linux' /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == ["False", "False", "False", "True"], done.stderr[-2000:]
