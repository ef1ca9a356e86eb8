"""Models of other kinds than energy through the doors: C++, and refusals where energies are expected."""

from __future__ import annotations

import subprocess

import doors
import numpy as np
import pytest
from checks import assert_close
from reference.tiny_models import make_frames
from reference.tiny_outputs import FITTINGS, make_output_model, make_spin_model

KEYS = ("output", "atom_output", "forces", "virial", "atom_virial")


@pytest.fixture(scope="module")
def outputs(compiled, tmp_path_factory):
    """Frozen models by kind."""
    from deepmd.freeze import freeze_model

    folder = tmp_path_factory.mktemp("outputs")
    for kind in FITTINGS:
        freeze_model(make_output_model(kind), folder / f"{kind}.pth")
    return {kind: folder / f"{kind}.pth" for kind in FITTINGS}


@pytest.mark.parametrize("kind", FITTINGS)
def test_cpp_gives_the_numbers_of_python(kind, outputs, tmp_path):
    from deepmd.core import Model

    frames = {name: make_frames()[name] for name in ("skewed", "molecule", "one atom")}
    path = doors.write_frames(frames, tmp_path, list(frames))
    program = doors.build_program("cpp", "outputs")
    done = subprocess.run([program, kind, outputs[kind], path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = iter([np.array(line.split(), dtype=float) for line in done.stdout.splitlines()])
    model = Model(str(outputs[kind]))
    for frame in frames.values():
        expected = model.evaluate_output(**frame.as_input(), derivatives=kind in ("dipole", "polar"))
        assert len(frame.types) == 1 or np.abs(expected["output"]).max() > 1e-3
        for key in [key for key in KEYS if key in expected]:
            assert_close(next(rows), np.ravel(expected[key]), "doors")
    assert next(rows, None) is None


def test_cpp_gives_the_numbers_of_python_for_spins(compiled, tmp_path):
    from deepmd.freeze import freeze_model
    from deepmd.infer import DeepSpin

    freeze_model(make_spin_model(), tmp_path / "spin.pth")
    frames = {name: make_frames()[name] for name in ("skewed", "molecule")}
    rng = np.random.default_rng(2)
    for frame in frames.values():
        frame.fparam = rng.normal(0.0, 0.5, (len(frame.types), 3))
    path = doors.write_frames(frames, tmp_path, list(frames))
    command = [doors.build_program("cpp", "outputs"), "spin", tmp_path / "spin.pth", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [np.array(line.split(), dtype=float) for line in done.stdout.splitlines()]
    for k, frame in enumerate(frames.values()):
        cell = None if frame.cell is None else frame.cell[None]
        found = DeepSpin(tmp_path / "spin.pth").eval(
            frame.positions[None], cell, frame.types, atomic=True, spin=frame.fparam[None]
        )
        energy, force, virial, atom_energy, atom_virial, force_mag, _ = found
        expected = (energy, force, force_mag, virial, atom_energy, atom_virial)
        assert np.abs(force_mag).max() > 1e-3
        for row, value in zip(rows[6 * k : 6 * k + 6], expected, strict=True):
            assert_close(row, np.ravel(value), "doors", scale=max(1.0, np.abs(value).max()))


def test_the_wrong_class_is_refused_in_words(outputs, tmp_path):
    path = doors.write_frames({"one": make_frames()["one atom"]}, tmp_path, ["one"])
    program = doors.build_program("cpp", "outputs")
    done = subprocess.run([program, "dos", outputs["dipole"], path], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "predicts 'dipole', expected dos; open it with the class of its kind" in done.stderr
    program = doors.build_program("cpp")
    done = subprocess.run([program, outputs["dipole"], path], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "predicts 'dipole', expected a model of energies" in done.stderr
