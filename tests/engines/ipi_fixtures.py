"""What the tests of dp_ipi run: the installed program, and the program on a stand-in of libdeepmd under sanitizers."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

NAMES = ["O", "H", "H", "O", "H", "H"]
ATOM_TYPE = {"O": 0, "H": 1}
CELL = np.array([[9.0, 0.0, 0.0], [1.2, 9.5, 0.0], [-0.7, 0.4, 10.0]])
POSITIONS = np.array(
    [[0.1, 0.2, 0.3], [1.9, 0.1, 0.2], [0.2, 2.1, 0.4], [4.1, 4.3, 4.2], [5.9, 4.2, 4.4], [4.0, 6.2, 8.9]]
)


@dataclass
class Engine:
    """A dp_ipi with a model; `evaluate` is an independent way to the same numbers."""

    name: str
    command: list[str]
    graph_file: str
    evaluate: Callable[[np.ndarray, np.ndarray | None], dict]

    def settings(self, **extra: object) -> dict:
        """A valid input.json but for the address."""
        return {
            "verbose": False,
            "graph_file": self.graph_file,
            "coord_file": "coord.xyz",
            "atom_type": ATOM_TYPE,
            "n_threads": 1,
            **extra,
        }


def pair_table(rcut: float = 4.0) -> Callable[[np.ndarray, np.ndarray | None], dict]:
    """The Lennard-Jones potential of ipi_driver/tests/standin_core.cpp in NumPy."""
    types = np.array([ATOM_TYPE[name] for name in NAMES])

    def evaluate(positions: np.ndarray, cell: np.ndarray | None) -> dict:
        energy, forces, virial = 0.0, np.zeros_like(positions), np.zeros((3, 3))
        span = range(-2, 3) if cell is not None else range(1)
        shifts = np.array([(u, v, w) for u in span for v in span for w in span], float)
        for shift in shifts @ (np.zeros((3, 3)) if cell is None else cell):
            vectors = positions[None] + shift - positions[:, None]
            squared = (vectors**2).sum(-1)
            pairs = (squared < rcut**2) & (squared > 1e-12)
            i, j = np.nonzero(pairs)
            level = types[i] + types[j]
            sixth = ((1.5 + 0.1 * level) ** 2 / squared[i, j]) ** 3
            epsilon = 0.01 * (1 + level)
            energy += (2 * epsilon * (sixth**2 - sixth)).sum()
            gradient = (-12 * epsilon * (2 * sixth**2 - sixth) / squared[i, j])[:, None] * vectors[i, j]
            np.add.at(forces, j, -gradient)
            np.add.at(forces, i, gradient)
            virial -= gradient.T @ vectors[i, j]
        return {"energy": energy, "forces": forces, "virial": virial}

    return evaluate


@functools.cache
def build_standin() -> Path:
    """Folder of dp_ipi_standin, dp_ipi_fuzz and dp_ipi_unit, built with the sanitizers; skips without the tools."""
    if shutil.which("cmake") is None or (shutil.which("c++") is None and "CXX" not in os.environ):
        pytest.skip("cmake and a C++ compiler are needed to build the stand-in client")
    folder = ROOT / "build" / "ipi_tests"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    steps = [
        ["cmake", "-S", str(ROOT / "ipi_driver" / "tests"), "-B", str(folder), *([] if folder.is_dir() else generator)],
        ["cmake", "--build", str(folder), "--parallel", "2"],
    ]
    steps[0] += ["-DDEEPMD_SANITIZE=address,undefined", f"-DPython_EXECUTABLE={sys.executable}"]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if "nlohmann_json" in done.stderr and done.returncode != 0:
            pytest.skip("nlohmann-json is needed to build the stand-in client (pip install nlohmann-json)")
        assert done.returncode == 0, f"{' '.join(step)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return folder


def standin_engine(tmp_path_factory: pytest.TempPathFactory, words: str = "") -> Engine:
    """dp_ipi on the stand-in of libdeepmd, with address and undefined-behaviour sanitizers; `words` go to its model."""
    model = tmp_path_factory.mktemp("standin") / "model.standin"
    model.write_text(f"standin {words} type_map O H\n")
    return Engine("standin", [str(build_standin() / "dp_ipi_standin")], str(model), pair_table())


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """See standin_engine."""
    return standin_engine(tmp_path_factory)


def installed_command() -> list[str]:
    """The command that `pip install` put beside the interpreter; skips where the engine is not installed."""
    command = Path(sys.executable).with_name("dp_ipi")
    if not command.exists():
        pytest.skip("dp_ipi is not installed beside this Python")
    from deepmd.ipi_entry import find_binary

    if find_binary() is None:
        pytest.skip("this installation was built without dp_ipi")
    return [str(command)]


@functools.cache
def toy_model() -> str:
    """A Lennard-Jones model in the frozen format, for O and H."""
    from toy_lj import Options, write_toy

    folder = Path(tempfile.mkdtemp(prefix="dpipi"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(write_toy(folder / "toy.pth", Options(metadata={"type_map": ["O", "H"]})))


def installed_engine() -> Engine:
    """The installed program with a frozen model; the core's Python door is the judge."""
    command = installed_command()
    pytest.importorskip("torch")
    from deepmd import core

    model = core.Model(toy_model())
    types = np.array([ATOM_TYPE[name] for name in NAMES], np.int32)

    def evaluate(positions: np.ndarray, cell: np.ndarray | None) -> dict:
        return model.evaluate(positions, types, cell)

    return Engine("installed", command, toy_model(), evaluate)


@pytest.fixture(scope="session")
def installed() -> Engine:
    """dp_ipi as `pip install` left it."""
    return installed_engine()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The installed program; where there is none, the stand-in, so that the driver itself is tested all the same."""
    try:
        return installed_engine()
    except pytest.skip.Exception:
        return standin_engine(tmp_path_factory)
