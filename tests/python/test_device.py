"""The path cuda: the library that needs a GPU, and all that does not, on the emulation in the host's memory.

On a machine with a GPU the same tests run there; tests/gpu/run.sh is the command for it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_close
from reference.dp_numpy import Judge
from reference.tiny_models import Options, make_frames, make_tree
from test_fused import frames_of, freeze, random_options

KEYS = ("energy", "forces", "virial", "atom_energy", "atom_virial")


@pytest.mark.parametrize("seed", range(20, 26))
def test_random_models_give_the_judge_s_numbers(seed, compiled, tmp_path) -> None:
    options = random_options(seed)
    path, judge = freeze(options, tmp_path), Judge(make_tree(options))
    models = {name: compiled.Model(path, path="cuda", precision=p) for name, p in
              (("doors", "float64"), ("mixed precision", "mixed"))}  # fmt: skip
    for frame in frames_of(options, seed + 100).values():
        expected = judge.evaluate(**frame.as_input())
        for name, model in models.items():
            assert model.path_in_use == "cuda"
            result = model.evaluate(**frame.as_input(), atomic=True)
            for key in KEYS:
                scale = max(1.0, float(np.abs(expected[key]).max()))
                assert_close(np.ravel(result[key]), np.ravel(expected[key]), name, scale)


def test_the_line_about_the_path_tells_device_and_memory(compiled, tmp_path) -> None:
    model = compiled.Model(freeze(Options(), tmp_path), path="cuda")
    frame = make_frames(2)["bulk"]
    model.evaluate(**frame.as_input())
    line = model.path_description
    assert line.startswith("cuda: table to rounding (1e-12), float64, ")
    for words in ("GPU", "MB of tables and weights", "MB of work arrays in 1 chunk (at most", "bytes per atom of"):
        assert words in line


def test_two_runs_give_equal_bits(compiled, tmp_path) -> None:
    path, frame = freeze(Options(), tmp_path), make_frames(2)["bulk"]
    one, other = (compiled.Model(path, path="cuda").evaluate(**frame.as_input(), atomic=True) for _ in range(2))
    for key in KEYS:
        assert np.array_equal(one[key], other[key]), key


def test_an_ensemble_runs_in_one_pass(compiled, tmp_path) -> None:
    paths = []
    for seed in (1, 2, 3):
        (tmp_path / str(seed)).mkdir()
        paths.append(freeze(Options(seed=seed), tmp_path / str(seed)))
    precisions = ("float64", "float64", "mixed")
    models = [compiled.Model(path, path="cuda", precision=p) for path, p in zip(paths, precisions, strict=True)]
    frame = make_frames(2)["bulk"]
    given = frame.as_input()
    alone = [model.evaluate(**given) for model in models]
    together = compiled.Ensemble(models).evaluate(**given)
    for k, expected in enumerate(alone):
        assert together["energies"][k] == expected["energy"]
        assert np.array_equal(together["forces"][k], expected["forces"])
        assert np.array_equal(together["virials"][k], expected["virial"])


def test_pairs_outside_the_tables_are_answered_by_the_cpu(compiled, tmp_path) -> None:
    path = freeze(Options(), tmp_path)
    model, expected = (compiled.Model(path, path=way) for way in ("cuda", "fused"))
    positions, types = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [1.5, 1.0, 0.0]]), np.array([0, 1, 0])
    result, wanted = (m.evaluate(positions, types, atomic=True) for m in (model, expected))
    assert model.n_outside == expected.n_outside > 0
    for key in KEYS:
        assert_close(np.ravel(result[key]), np.ravel(wanted[key]), "doors", max(1.0, float(np.abs(wanted[key]).max())))


def test_atoms_on_top_of_each_other_are_refused_in_words(compiled, tmp_path) -> None:
    from deepmd.errors import EngineError

    model = compiled.Model(freeze(Options(), tmp_path), path="cuda")
    with pytest.raises(EngineError, match="atom 1 and atom 2 are 0.02 Angstrom apart"):
        model.evaluate(np.array([[0.0, 0.0, 0.0], [0.02, 0.0, 0.0]]), np.array([0, 1]))


def in_a_new_process(code: str, **environment: str) -> subprocess.CompletedProcess:
    command, merged = [sys.executable, "-c", code], {**os.environ, **environment}
    return subprocess.run(command, env=merged, capture_output=True, text=True, timeout=120, check=False)


def test_without_a_gpu_nothing_changes_and_the_path_cuda_is_refused(compiled, tmp_path) -> None:
    path = freeze(Options(), tmp_path)
    code = (
        "from deepmd.core import Model, describe_gpus\n"
        "from deepmd.errors import EngineError\n"
        f"print(Model({path!r}).path_in_use, '|', describe_gpus())\n"
        f"try:\n    Model({path!r}, path='cuda')\nexcept EngineError as error:\n    print(error)\n"
        "maps = open('/proc/self/maps').read()\n"
        "print('loaded' if 'libdeepmd_cuda' in maps or 'libdeepmd_emulated' in maps else 'nothing loaded')\n"
    )
    done = in_a_new_process(code, DEEPMD_GPU="off")
    lines = done.stdout.splitlines()
    assert lines[0] == "fused | none in use: DEEPMD_GPU=off leaves GPUs alone", done.stderr
    assert "cannot run by the cuda path: the model needs a GPU for the path cuda: DEEPMD_GPU=off" in lines[1]
    assert "use the path fused, script or auto" in lines[1]
    assert lines[2] == "nothing loaded"
    if Path("/dev/nvidiactl").exists():
        return
    lines = in_a_new_process(code, DEEPMD_GPU="").stdout.splitlines()
    reason = "no NVIDIA driver is installed" if library().exists() else "built without a CUDA compiler"
    assert lines[0].startswith("fused | none in use: ") and reason in lines[0] and lines[2] == "nothing loaded"


def test_wrong_words_in_the_environment_are_refused(compiled, tmp_path) -> None:
    path = freeze(Options(), tmp_path)
    code = f"from deepmd.core import Model\nModel({path!r}, path='cuda')\n"
    assert "DEEPMD_GPU is 'on', expected auto, off or emulated" in in_a_new_process(code, DEEPMD_GPU="on").stderr
    wrong = in_a_new_process(code, DEEPMD_GPU_MEMORY="much").stderr
    assert "DEEPMD_GPU_MEMORY is 'much', expected a number of MiB" in wrong


MOVES = """
import numpy as np
from deepmd.core import Ensemble, Model
rng = np.random.default_rng(0)
positions, types = rng.uniform(0, 6, (20, 3)), np.arange(20) % 2
def moves(evaluate):
    return [evaluate(positions + 0.01 * k, types, np.diag([6.0] * 3)) for k in range(8)]
"""


def test_a_device_that_is_lost_is_given_up_in_words_and_the_cpu_goes_on(compiled, tmp_path) -> None:
    path = freeze(Options(), tmp_path)
    code = MOVES + (
        f"gpu, cpu = Model({path!r}, path='cuda', run_selftest=False), Model({path!r}, path='fused')\n"
        "pairs = zip(moves(gpu.evaluate), moves(cpu.evaluate))\n"
        "print(max(np.abs(a['forces'] - b['forces']).max() for a, b in pairs))\n"
        "print(gpu.path_description)\n"
        f"two = Ensemble([gpu, Model({path!r}, path='cuda', run_selftest=False)])\n"
        "pairs = zip(moves(two.evaluate), moves(cpu.evaluate))\n"
        "print(max(np.abs(a['forces'] - b['forces']).max() for a, b in pairs))\n"
    )
    done = in_a_new_process(code, DEEPMD_GPU="emulated", DEEPMD_EMULATED_FAILURE="70")
    alone, line, together = done.stdout.splitlines()
    assert float(alone) < 1e-9 and float(together) < 1e-9
    assert "given up, the CPU answers: the GPU cannot start a kernel: emulated failure" in line
    assert done.stderr.count("the GPU is given up, and the CPU answers from here on") == 1


def test_a_device_that_is_lost_in_the_self_test_is_refused(compiled, tmp_path) -> None:
    path = freeze(Options(), tmp_path)
    code = f"from deepmd.core import Model\nModel({path!r}, path='cuda')\n"
    done = in_a_new_process(code, DEEPMD_GPU="emulated", DEEPMD_EMULATED_FAILURE="15")
    assert "cannot be tested on the GPU: the GPU cannot start a kernel" in done.stderr and done.returncode != 0


def test_tf32_is_for_the_path_cuda(compiled, tmp_path) -> None:
    from deepmd.errors import EngineError

    path, frame = freeze(Options(fitting_neuron=[40, 40]), tmp_path), make_frames(2)["bulk"]
    model = compiled.Model(path, path="cuda", precision="tf32")
    assert "mixed" in model.path_description and "by one TF32 product" in model.path_description
    errors = [np.abs(compiled.Model(path, path="cuda", precision=p).evaluate(**frame.as_input())["forces"]
                     - compiled.Model(path, path="fused").evaluate(**frame.as_input())["forces"]).max()
              for p in ("mixed", "tf32")]  # fmt: skip
    assert errors[0] < errors[1] < 0.01
    for other in ("auto", "fused", "script"):
        with pytest.raises(EngineError, match=f"'tf32' was asked for together with the path '{other}'"):
            compiled.Model(path, path=other, precision="tf32")


def test_a_small_budget_makes_chunks_and_equal_numbers(compiled, tmp_path) -> None:
    path = freeze(Options(fitting_neuron=[240, 240]), tmp_path)
    code = (
        "import numpy as np\n"
        "from deepmd.core import Model\n"
        "rng = np.random.default_rng(0)\n"
        "grid = np.stack(np.meshgrid(*[np.arange(8.0)] * 3, indexing='ij'), -1).reshape(-1, 3) * 2.0\n"
        "positions, types = grid + rng.uniform(-0.2, 0.2, grid.shape), np.arange(len(grid)) % 2\n"
        "for way in ('cuda', 'fused'):\n"
        f"    model = Model({path!r}, path=way)\n"
        "    forces = model.evaluate(positions, types, np.diag([16.0] * 3))['forces']\n"
        "    print(model.path_description, '|', np.abs(forces - (forces if way == 'cuda' else first)).max())\n"
        "    first = forces\n"
    )
    done = in_a_new_process(code, DEEPMD_GPU_MEMORY="1")
    cuda, fused = done.stdout.splitlines()
    assert int(cuda.split("work arrays in ")[1].split()[0]) > 1
    assert float(fused.split("|")[1]) < 1e-10


def library() -> Path:
    from deepmd.core import library_folder

    return Path(library_folder()) / "libdeepmd_cuda.so"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc: the CUDA library is not built")
def test_the_cuda_library_is_built_and_needs_neither_driver_nor_toolkit(compiled) -> None:
    if os.environ.get("CMAKE_ARGS", "").find("DEEPMD_CUDA=OFF") >= 0:
        pytest.skip("the package was built with DEEPMD_CUDA=OFF")
    assert library().exists(), "nvcc is there, but the package was built without the CUDA library"
    opened = ctypes.CDLL(str(library()))
    assert opened.deepmd_device_border
    names = library().read_bytes()
    assert b"sm_80" in names and b"sm_90" in names
    if shutil.which("readelf"):
        needed = subprocess.run(["readelf", "-d", str(library())], capture_output=True, text=True, check=True).stdout
        assert not any(f"lib{name}" in needed for name in ("cuda", "cudart", "cublas", "torch"))
