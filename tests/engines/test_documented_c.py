"""The C interface of DeePMD-kit, by ctypes, against Python; a compiled program is among the doors."""

from __future__ import annotations

import ctypes
import re

import doors
import numpy as np
import pytest
from checks import assert_close
from reference.tiny_models import Options, make_frames, make_tree
from reference.tiny_outputs import make_output_model, make_spin_model

OPTIONS = Options(n_fparam=2, n_aparam=1, seed=5)
NAMES = ("energy", "forces", "virial", "atom_energy", "atom_virial")


class Library:
    """libdeepmd_c: functions by name, answers as text or numbers."""

    def __init__(self) -> None:
        from deepmd import core

        self.raw = ctypes.CDLL(f"{core.library_folder()}/libdeepmd_c.so")

    def call(self, name: str, *arguments, answer=None):
        function = getattr(self.raw, name)
        function.restype = answer
        return function(*map(as_argument, arguments))

    def new(self, name: str, *arguments) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.call(name, *arguments, answer=ctypes.c_void_p))

    def text(self, name: str, *arguments) -> str:
        """A text that belongs to the caller."""
        pointer = self.new(name, *arguments)
        value = ctypes.string_at(pointer).decode()
        self.call("DP_DeleteChar", pointer)
        return value


def as_argument(value):
    if isinstance(value, np.ndarray):
        return value.ctypes.data_as(ctypes.c_void_p)
    if isinstance(value, str):
        return value.encode()
    return value


@pytest.fixture(scope="module")
def library(compiled) -> Library:
    return Library()


@pytest.fixture(scope="module")
def paths(compiled, tmp_path_factory) -> dict[str, str]:
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    folder = tmp_path_factory.mktemp("documented")
    models = {f"energy{k}": deserialize(make_tree(Options(n_fparam=2, n_aparam=1, seed=5 + k))) for k in range(2)}
    models["other"] = deserialize(make_tree(Options(n_aparam=1, seed=5)))
    models |= {"dipole": make_output_model("dipole"), "spin": make_spin_model()}
    for name, model in models.items():
        freeze_model(model, folder / f"{name}.pth")
    return {name: str(folder / f"{name}.pth") for name in models}


@pytest.fixture
def frame():
    frame = make_frames(2)["skewed"]
    frame.fparam = np.array([0.3, -0.2])
    frame.aparam = np.linspace(-1.0, 1.0, len(frame.types))[:, None]
    return frame


def atoms(frame, real=np.float64) -> list:
    return [frame.positions.astype(real), frame.types.astype(np.int32), frame.cell.astype(real)]


def results(n: int, n_frames: int = 1, real=np.float64) -> list[np.ndarray]:
    """Arrays for energy, forces, virial, atom_energy and atom_virial, full of what is no result."""
    shapes = [(n_frames,), (n_frames, n, 3), (n_frames, 3, 3), (n_frames, n), (n_frames, n, 3, 3)]
    return [np.full(shape, 1e9, np.float64 if k == 0 else real) for k, shape in enumerate(shapes)]


def expected_of(path: str, frame) -> dict:
    from deepmd.core import Model

    return Model(path).evaluate(**frame.as_input(), atomic=True)


def compare(found: list[np.ndarray], expected: dict, kind: str = "doors") -> None:
    for name, values in zip(NAMES, found, strict=True):
        assert_close(np.ravel(values), np.ravel(expected[name]), kind)


def test_facts_of_a_model(library, paths) -> None:
    model = library.new("DP_NewDeepPot", paths["energy0"])
    assert library.text("DP_DeepPotCheckOK", model) == ""
    assert library.call("DP_DeepPotGetCutoff", model, answer=ctypes.c_double) == OPTIONS.rcut
    asked = ("NumbTypes", "DimFParam", "DimAParam")
    counts = [library.call(f"DP_DeepPotGet{what}", model, answer=ctypes.c_int) for what in asked]
    assert counts == [len(OPTIONS.type_map), 2, 1]
    assert library.text("DP_DeepPotGetTypeMap", model) == " ".join(OPTIONS.type_map)
    library.call("DP_DeleteDeepPot", model)


def test_frames_of_different_types_and_floats(library, paths, frame) -> None:
    model, n = library.new("DP_NewDeepPot", paths["energy0"]), len(frame.types)
    swapped = frame.types[::-1].copy()
    found = results(n, 2)
    library.call(
        "DP_DeepPotComputeMixedType", model, 2, n, np.tile(frame.positions, (2, 1)),
        np.concatenate([frame.types, swapped]).astype(np.int32), np.tile(frame.cell, (2, 1)), np.tile(frame.fparam, 2),
        np.tile(frame.aparam, (2, 1)), *found,
    )  # fmt: skip
    assert library.text("DP_DeepPotCheckOK", model) == ""
    compare([values[0] for values in found], expected_of(paths["energy0"], frame))
    frame.types = swapped
    expected = expected_of(paths["energy0"], frame)
    compare([values[1] for values in found], expected)

    single = results(n, real=np.float32)
    library.call(
        "DP_DeepPotComputef2", model, 1, n, *atoms(frame, np.float32), frame.fparam.astype(np.float32),
        frame.aparam.astype(np.float32), *single,
    )  # fmt: skip
    assert np.abs(single[1] - expected["forces"]).max() < 1e-4
    energy = results(n)[0]
    library.call("DP_DeepPotCompute2", model, 1, n, *atoms(frame), frame.fparam, frame.aparam, energy, *4 * [None])
    assert_close(energy, np.ravel(expected["energy"]), "doors")
    library.call("DP_DeleteDeepPot", model)


def list_of(library, frame, reach: float):
    """The list of an MD engine, its atoms, and the arrays that have to live as long."""
    ghosts, n = doors.with_ghosts(frame, reach), len(frame.types)
    index = np.ascontiguousarray(ghosts.index, np.int32)
    rows = (ctypes.c_void_p * n)(*(index.ctypes.data + 4 * int(first) for first in ghosts.first[:-1]))
    kept = [np.arange(n, dtype=np.int32), np.diff(ghosts.first).astype(np.int32), rows, index]
    return library.new("DP_NewNlist", n, kept[0], kept[1], ctypes.cast(rows, ctypes.c_void_p)), ghosts, kept


def folded(found: list[np.ndarray], owner: np.ndarray, n: int) -> list[np.ndarray]:
    """Shares of ghosts given back to their owners."""
    energy, forces, virial, atom_energy, atom_virial = (values[0] for values in found)
    sums = []
    for values in (forces, atom_virial):
        sums.append(np.zeros((n, *values.shape[1:])))
        np.add.at(sums[-1], owner, values)
    return [energy, sums[0], virial, atom_energy[:n], sums[1]]


def test_list_of_an_engine(library, paths, frame) -> None:
    model, n = library.new("DP_NewDeepPot", paths["energy0"]), len(frame.types)
    neighbors, ghosts, kept = list_of(library, frame, OPTIONS.rcut + 0.5)
    n_all, types = len(ghosts.owner), frame.types[ghosts.owner].astype(np.int32)
    for ago in (0, 1):
        found = results(n_all)
        library.call(
            "DP_DeepPotComputeNList2", model, 1, n_all, ghosts.positions, types, None, n_all - n,
            neighbors, ago, frame.fparam, frame.aparam, *found,
        )  # fmt: skip
        assert library.text("DP_DeepPotCheckOK", model) == ""
        compare(folded(found, ghosts.owner, n), expected_of(paths["energy0"], frame))
    del kept
    library.call("DP_DeleteNlist", neighbors)
    library.call("DP_DeleteDeepPot", model)


def test_ensemble(library, paths, frame) -> None:
    names, n = [paths["energy0"], paths["energy1"]], len(frame.types)
    given = (ctypes.c_char_p * 2)(*(name.encode() for name in names))
    model = library.new("DP_NewDeepPotModelDevi", given, 2)
    found = results(n, 2)
    library.call("DP_DeepPotModelDeviCompute2", model, 1, n, *atoms(frame), frame.fparam, frame.aparam, *found)
    assert library.text("DP_DeepPotModelDeviCheckOK", model) == ""
    for k, name in enumerate(names):
        compare([values[k] for values in found], expected_of(name, frame))
    library.call("DP_DeepPotModelDeviCompute2", model, 2, n, *atoms(frame), frame.fparam, frame.aparam, *found)
    assert "one frame at a time, got 2" in library.text("DP_DeepPotModelDeviCheckOK", model)
    library.call("DP_DeleteDeepPotModelDevi", model)
    given[1] = paths["other"].encode()  # takes other parameters
    model = library.new("DP_NewDeepPotModelDevi", given, 2)
    assert library.text("DP_DeepPotModelDeviCheckOK", model) != ""
    found = results(n, 2)
    library.call("DP_DeepPotModelDeviCompute2", model, 1, n, *atoms(frame), frame.fparam, frame.aparam, *found)
    assert "no model is open" in library.text("DP_DeepPotModelDeviCheckOK", model)
    assert all((values == 1e9).all() for values in found)
    library.call("DP_DeleteDeepPotModelDevi", model)


def test_tensor(library, paths, frame) -> None:
    from deepmd.core import Model

    frame.fparam = frame.aparam = None
    expected = Model(paths["dipole"]).evaluate_output(**frame.as_input(), derivatives=True)
    model, n = library.new("DP_NewDeepTensor", paths["dipole"]), len(frame.types)
    assert library.call("DP_DeepTensorGetOutputDim", model, answer=ctypes.c_int) == 3
    n_selected = library.call("DP_DeepTensorGetNumbSelTypes", model, answer=ctypes.c_int)
    selected = library.new("DP_DeepTensorGetSelTypes", model)
    types = np.ctypeslib.as_array(ctypes.cast(selected, ctypes.POINTER(ctypes.c_int)), (n_selected,))
    assert not expected["atom_output"][~np.isin(frame.types, types)].any()
    whole, forces, virial, atom_virial = np.zeros(3), np.zeros((3, n, 3)), np.zeros((3, 9)), np.zeros((3, n, 9))
    tensor, size = ctypes.c_void_p(), ctypes.c_int()
    library.call(
        "DP_DeepTensorCompute", model, n, *atoms(frame), whole, forces, virial, ctypes.byref(tensor), atom_virial,
        ctypes.byref(size),
    )  # fmt: skip
    assert library.text("DP_DeepTensorCheckOK", model) == ""
    atom_output = np.ctypeslib.as_array(ctypes.cast(tensor, ctypes.POINTER(ctypes.c_double)), (size.value,)).copy()
    ctypes.CDLL(None).free(tensor)
    for name, values in (("output", whole), ("forces", forces), ("virial", virial), ("atom_virial", atom_virial)):
        assert_close(np.ravel(values), np.ravel(expected[name]), "doors")
    assert_close(atom_output, np.ravel(expected["atom_output"]), "doors")
    library.call("DP_DeleteDeepTensor", model)


def test_spin(library, paths, frame) -> None:
    from deepmd.infer import DeepSpin

    n, spins = len(frame.types), np.random.default_rng(2).normal(0.0, 0.5, (len(frame.types), 3))
    expected = DeepSpin(paths["spin"]).eval(frame.positions, frame.cell, frame.types, atomic=False, spin=spins)
    model = library.new("DP_NewDeepSpin", paths["spin"])
    energy, forces, spin_forces, virial = np.zeros(1), np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(9)
    positions, types, cell = atoms(frame)
    library.call(
        "DP_DeepSpinCompute2", model, 1, n, positions, spins, types, cell, None, None, energy, forces, spin_forces,
        virial, None, None,
    )  # fmt: skip
    assert library.text("DP_DeepSpinCheckOK", model) == ""
    for found, wanted in zip((energy, forces, virial, spin_forces), expected[:4], strict=True):
        assert_close(np.ravel(found), np.ravel(wanted), "doors")
    library.call("DP_DeleteDeepSpin", model)


def test_failures_are_sentences_and_leave_results_alone(library, paths, frame, tmp_path) -> None:
    missing = library.new("DP_NewDeepPot", str(tmp_path / "absent.pth"))
    assert "absent.pth" in library.text("DP_DeepPotCheckOK", missing)
    found = results(1)
    library.call("DP_DeepPotCompute", missing, 1, np.zeros(3), np.zeros(1, np.int32), None, *found)
    assert "no model is open" in library.text("DP_DeepPotCheckOK", missing)
    assert all((values == 1e9).all() for values in found)
    library.call("DP_DeleteDeepPot", missing)

    model, n = library.new("DP_NewDeepPot", paths["energy0"]), len(frame.types)
    found = results(n)
    library.call("DP_DeepPotCompute", model, n, *atoms(frame), *found)
    assert re.search("fparam", library.text("DP_DeepPotCheckOK", model))
    assert all((values == 1e9).all() for values in found)
    library.call("DP_DeepPotCompute2", model, 1, n, *atoms(frame), frame.fparam, frame.aparam, *found)
    assert library.text("DP_DeepPotCheckOK", model) == ""
    library.call("DP_DeleteDeepPot", model)
    size = ctypes.c_int()
    assert "cannot be read" in library.text("DP_ReadFileToChar2", str(tmp_path / "absent.pth"), ctypes.byref(size))
    assert size.value < 0
