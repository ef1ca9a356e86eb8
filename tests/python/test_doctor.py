"""``dp doctor``: what it says when something is missing or broken, with stand-ins for the programs."""

import argparse
import os

import pytest
from deepmd import doctor, lammps_probe
from deepmd.doctor import FAIL, NONE, PASS, Finding, Visit
from deepmd.errors import EngineError


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Puts a stand-in program first on PATH: on_path("lmp", shell commands)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return lambda name, script: program(folder, name, script)


def run(monkeypatch, capsys, checks, models=()):
    monkeypatch.setattr(doctor, "CHECKS", checks)
    status = doctor.main(argparse.Namespace(models=list(models)))
    return status, capsys.readouterr().out.splitlines()


def test_the_first_failure_is_named_with_its_remedy(monkeypatch, capsys):
    checks = (
        lambda visit: Finding(PASS, "one", "fine"),
        lambda visit: Finding(NONE, "two", "not there"),
        lambda visit: Finding(FAIL, "three", "broken", "mend it"),
        lambda visit: Finding(FAIL, "four", "broken too", "mend that"),
    )
    status, lines = run(monkeypatch, capsys, checks)
    assert status == 1
    assert lines[0].split() == ["PASS", "one", "fine"] and lines[1].startswith("NONE  two")
    assert lines[-2:] == ["The first thing that is wrong is three: broken", "What to do: mend it"]
    status, lines = run(monkeypatch, capsys, checks[:2])
    assert status == 0 and lines[-1] == "Everything that is installed works."


def test_nothing_is_tried_without_the_core(monkeypatch, capsys):
    from deepmd import core

    def missing():
        raise EngineError("the compiled module was not found")

    monkeypatch.setattr(core, "version", missing, raising=False)
    status, lines = run(monkeypatch, capsys, (doctor.check_core, doctor.check_lammps))
    assert status == 1 and len(lines) == 3 and lines[0].startswith("FAIL  core")


def test_versions_that_do_not_belong_together(monkeypatch, tmp_path):
    from deepmd import core

    monkeypatch.setattr(core, "version", lambda: "0.0.9", raising=False)
    finding = doctor.check_core(Visit(tmp_path))
    assert finding.status == FAIL and "0.0.9" in finding.detail


def test_a_lammps_that_does_not_start(on_path, tmp_path):
    visit = Visit(tmp_path)
    on_path("lmp", "echo 'cannot open libmpi.so.12'; exit 127")
    finding = doctor.check_lammps(visit)
    assert finding.status == FAIL and "libmpi.so.12" in finding.detail and visit.lmp is None
    on_path("lmp", "echo; echo '  LAMMPS - 1 Jan 2000'")
    assert doctor.check_lammps(visit).detail.startswith("LAMMPS - 1 Jan 2000 at ")


def test_a_client_that_does_not_start(on_path, tmp_path):
    on_path("dp_ipi", "echo 'libtorch.so: cannot open shared object file' >&2; exit 127")
    finding = doctor.check_dp_ipi(Visit(tmp_path))
    assert finding.status == FAIL and "libtorch.so" in finding.detail
    on_path("dp_ipi", "echo 'usage: dp_ipi input.json'")
    assert doctor.check_dp_ipi(Visit(tmp_path)).status == PASS


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Unknown command: plugin load (src/input.cpp:314)", "PLUGIN package"),
        ("ERROR: Unrecognized pair style 'deepmd' (src/force.cpp:275)", "not loaded"),
        ("loading\nERROR: Model file is damaged (src/x.cpp:1)", "Model file is damaged"),
        ("Segmentation fault", "Segmentation fault"),
        ("", "status 139"),
    ],
)
def test_failed_runs_are_explained(output, words):
    outcome = lammps_probe.explain(139, output)
    assert words in outcome.problem and outcome.remedy


def test_wrong_forces_are_a_failure():
    import numpy as np

    expected = np.zeros((3, 3))
    assert lammps_probe.judge(expected + 1e-12, expected, 1e-8).problem == ""
    outcome = lammps_probe.judge(expected + 1e-3, expected, 1e-8)
    assert "1.0e-03" in outcome.problem and "do not use" in outcome.remedy


# ------------------------------------------------------------------------------------------ with what is installed


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    pytest.importorskip("deepmd._core", reason="the compiled core is not built")
    visit = Visit(tmp_path_factory.mktemp("doctor"))
    finding = doctor.check_freezing(visit)
    assert finding.status == PASS, finding
    return visit


def test_models_of_the_user(visit, tmp_path):
    (finding,) = doctor.check_model(visit, str(visit.tiny_model))
    assert finding.status == PASS and "in Python" in finding.detail
    content = bytearray(visit.tiny_model.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.pth").write_bytes(content)
    (finding,) = doctor.check_model(visit, str(tmp_path / "damaged.pth"))
    assert finding.status == FAIL and "damaged" in finding.detail and finding.remedy
    (finding,) = doctor.check_model(visit, str(tmp_path / "none.pth"))
    assert finding.status == FAIL and "does not exist" in finding.detail


def test_the_plugin_in_the_installed_lammps(visit):
    from pathlib import Path

    from deepmd.core import plugin_folder

    if doctor.check_lammps(visit).status == NONE or not list(Path(plugin_folder()).glob("*plugin.so")):
        pytest.skip("LAMMPS or the plugin is not installed")
    finding = doctor.check_plugin(visit)
    assert finding.status == PASS, finding
    findings = list(doctor.check_model(visit, str(visit.tiny_model)))
    assert [finding.status for finding in findings] == [PASS, PASS]
    visit.lmp = None
    assert doctor.check_plugin(visit).status == NONE
