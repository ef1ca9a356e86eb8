"""A user's own CMake project in C and C++ finds the installed library, builds and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_close
from toy_lj import closed_form, write_toy


def run(*command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


PROGRAMS = ["frame_c", "frame_cxx", "documented_c", "documented_cxx"]


@pytest.fixture(scope="module")
def programs(compiled, root, tmp_path_factory):
    """Folder with the programs."""
    beside = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if cmake is None or shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("no CMake or no C++ compiler")
    build = tmp_path_factory.mktemp("outside")
    run(cmake, "-S", root / "tests/cxx/outside", "-B", build, f"-Ddeepmd_DIR={compiled.cmake_folder()}",
        f"-DCMAKE_PREFIX_PATH={compiled.native_folder()}")  # fmt: skip
    run(cmake, "--build", build)
    return build


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "graph.pth")


@pytest.mark.parametrize("program", PROGRAMS)
def test_outside_program_gives_the_closed_form(programs, model_path, program):
    # Nothing but the path of the program: the libraries are found through the run paths.
    environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    energy, force = map(float, run(programs / program, model_path, env=environment).split())
    frame = {"positions": np.array([[0.0, 0, 0], [2.4, 0.3, 0]]), "types": np.array([0, 1]), "cell": np.eye(3) * 12}
    expected = closed_form(frame)
    assert_close(np.array([energy, force]), np.array([expected["energy"][0], expected["forces"][0, 0]]), "closed form")


@pytest.mark.parametrize("program", PROGRAMS)
def test_outside_program_reports_a_missing_model(programs, program):
    done = subprocess.run([programs / program, "missing.pth"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "missing.pth cannot be read" in done.stderr


def test_library_shows_only_the_c_interface(compiled):
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    library = Path(compiled.library_folder()) / "libdeepmd.so"
    symbols = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()]
    assert symbols and all(symbol.startswith("deepmd_") for symbol in symbols), symbols
