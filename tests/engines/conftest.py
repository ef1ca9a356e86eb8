"""Fixtures for the tests that need an engine: skipped with the reason where LAMMPS or the plugin is not installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import lammps_run
import numpy as np
import pytest
from lammps_models import MODELS
from reference.tiny_models import Frame, make_frames, make_tree

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def plugin() -> Path:
    """The installed deepmd_plugin.so; everything that runs LAMMPS depends on it."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed (pip install 'deepmd-engine[lmp]')")
    pytest.importorskip("deepmd._core", reason="the compiled core is not installed")
    from deepmd.core import plugin_folder

    for program in ("lmp", "mpirun"):
        if lammps_run.find_program(program) is None:
            pytest.skip(f"there is no program '{program}' (pip install 'deepmd-engine[lmp]')")
    found = Path(plugin_folder()) / "deepmd_plugin.so"
    if not found.exists():
        pytest.skip("the LAMMPS plugin was not built: LAMMPS' headers were missing at installation")
    return found


@pytest.fixture(scope="session")
def models(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Frozen models with random weights by name, see MODELS."""
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    folder = tmp_path_factory.mktemp("models")
    for name, options in MODELS.items():
        freeze_model(deserialize(make_tree(options)), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in MODELS}


@pytest.fixture(scope="session")
def evaluate(models: dict[str, Path]) -> Callable[..., dict[str, np.ndarray]]:
    """`evaluate("plain", frame)` gives energy, forces, virial and atomic parts through deepmd.core."""
    from deepmd.core import Model

    opened: dict[str, Model] = {}

    def call(name: str, frame: Frame) -> dict[str, np.ndarray]:
        model = opened.setdefault(name, Model(str(models[name])))
        return model.evaluate(**frame.as_input(), atomic=True)

    return call


@pytest.fixture(scope="session")
def frames() -> dict[str, Frame]:
    """Small systems of every shape: bulk, skewed, thin, slab, wire, molecule, lonely atoms."""
    return make_frames()


@pytest.fixture(scope="session")
def run_cases(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict], dict]:
    """Runs {name: input lines} one after the other in one process: {name: {"error", "screen", "energy"}}."""

    def call(cases: dict[str, list[str]]) -> dict:
        folder = tmp_path_factory.mktemp("cases")
        (folder / "cases.json").write_text(json.dumps(cases))
        command = [sys.executable, str(HERE / "lammps_cases.py"), "cases.json", "answers.json"]
        outcome = lammps_run.run_program(command, folder, lammps_run.library_environment(plugin))
        assert outcome.status == 0, outcome.output[-3000:]
        return json.loads((folder / "answers.json").read_text())

    return call
