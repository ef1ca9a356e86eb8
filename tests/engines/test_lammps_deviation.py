"""Model deviation in LAMMPS: the numbers of Python, the layout that other programs read, any number of ranks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from lammps_run import make_job, run_jobs, run_lammps, write_data
from reference.tiny_models import Frame

ENSEMBLE = ("plain", "other", "third")
LABELS = ["max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f"]
HEADER = "#" + "step".rjust(11) + "".join(label.rjust(19) for label in LABELS)


def expected_rows(
    frame: Frame, evaluate, level: float | None = None, level_v: float | None = None, names: tuple = ENSEMBLE
) -> np.ndarray:
    """[6 + n] the columns of one step, from the formulas."""
    swapped = dataclasses.replace(frame, types=1 - frame.types)
    results = [evaluate(name, swapped if name == "permuted" else frame) for name in names]
    forces = np.array([result["forces"] for result in results])
    mean = forces.mean(axis=0)
    force = np.sqrt((np.linalg.norm(forces - mean, axis=-1) ** 2).mean(axis=0))
    if level is not None:
        force = force / (np.linalg.norm(mean, axis=-1) + level)
    virials = np.array([np.ravel(result["virial"]) for result in results]) / len(frame.positions)
    virial = virials.std(axis=0)
    if level_v is not None:
        virial = virial / (np.abs(virials.mean(axis=0)) + level_v)
    rms = np.sqrt((virial**2).mean())
    return np.array([virial.max(), virial.min(), rms, force.max(), force.min(), force.mean(), *force])


def jobs_for(frame: Frame, models, path: str = "fused") -> list:
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    unlike = " ".join(str(models[name]) for name in ("plain", "permuted", "long"))
    options = "atomic relative 0.7 relative_v 0.4"
    paths, unlike = f"{paths} path {path}", f"{unlike} path {path}"
    invisible = make_job("null", frame, f"{paths} out_file null.out", ("O", "H", "NULL"))
    extra = np.array([[1.0, 1.0, 1.0], [3.0, 4.0, 2.0]])
    return [
        make_job("plain", frame, f"{paths} out_file plain.out atomic out_freq 1"),
        make_job("relative", frame, f"{paths} out_file relative.out {options}"),
        make_job("real", frame, f"{paths} out_file real.out", units="real"),
        dataclasses.replace(
            invisible, positions=np.concatenate([frame.positions, extra]), types=np.append(invisible.types, [3, 3])
        ),
        make_job("same", frame, f"{models['plain']} {models['plain']} {models['plain']} path {path} out_file same.out"),
        make_job("unlike", frame, f"{unlike} atomic out_file unlike.out"),
    ]


@pytest.mark.parametrize(("ranks", "path"), [(1, "fused"), (3, "fused"), (1, "cuda"), (2, "cuda")])
def test_deviations_agree_with_the_formulas(ranks, path, frames, models, evaluate, tmp_path):
    frame = frames["skewed"]
    results = run_jobs(jobs_for(frame, models, path), tmp_path, ranks)
    table = {path.stem: np.loadtxt(path, ndmin=2) for path in tmp_path.glob("*.out")}
    plain = expected_rows(frame, evaluate)
    assert table["plain"].shape == (1, 7 + len(frame.positions))
    np.testing.assert_allclose(table["plain"][0, 1:], plain, rtol=2e-6)
    relative = expected_rows(frame, evaluate, 0.7, 0.4)
    np.testing.assert_allclose(table["relative"][0, 1:], relative, rtol=2e-6)
    np.testing.assert_allclose(table["real"][0, 1:], plain[:6] * 23.060549, rtol=2e-6)
    np.testing.assert_allclose(table["null"][0, 1:], plain[:6], rtol=2e-6)
    assert not table["same"][0, 1:].any()
    unlike = expected_rows(frame, evaluate, names=("plain", "permuted", "long"))
    np.testing.assert_allclose(table["unlike"][0, 1:], unlike, rtol=2e-6)
    assert results["plain"].energy == pytest.approx(float(evaluate("plain", frame)["energy"]), abs=1e-8)


def test_layout_steps_and_continuation(frames, models, tmp_path):
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    write_data(make_job("water", frames["skewed"], "x"), tmp_path / "water.data")
    style = f"pair_style deepmd {paths} out_freq 3\npair_coeff * * O H"
    move = "fix move all nve\ntimestep 0.0002"
    script = f"""
units metal
box tilt large
read_data water.data
{style}
{move}
run 7
write_restart seven.restart
"""
    outcome = run_lammps(script, tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    lines = (tmp_path / "model_devi.out").read_text().splitlines()
    assert lines[0] == HEADER
    assert [line[:12] for line in lines[1:]] == [f"{step:12d}" for step in (0, 3, 6)]
    for line in lines[1:]:
        assert len(line) == 12 + 6 * 19
        assert all(value == f"{float(value):18.6e}" for value in (line[13 + 19 * k : 31 + 19 * k] for k in range(6)))
    outcome = run_lammps(f"read_restart seven.restart\n{style}\n{move}\nrun 3", tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    continued = (tmp_path / "model_devi.out").read_text().splitlines()
    assert continued[: len(lines)] == lines
    assert [line[:12].strip() for line in continued[len(lines) :]] == ["9"]


def test_observers_in_mixed_precision_see_the_same_deviations(frames, models, tmp_path):
    """The first model keeps its bits; the deviations change by no more than mixed precision errs."""
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    jobs = [make_job(name, frames["bulk"], f"{paths} atomic out_file {name}.out {words}")
            for name, words in (("exact", ""), ("rough", "observers mixed"))]  # fmt: skip
    results = run_jobs(jobs, tmp_path, 2)
    assert np.array_equal(results["exact"].forces, results["rough"].forces)
    exact, rough = np.loadtxt(tmp_path / "exact.out"), np.loadtxt(tmp_path / "rough.out")
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, rtol=1e-4, atol=1e-4)


def test_no_file_without_need(frames, models, tmp_path):
    one = make_job("one", frames["skewed"], str(models["plain"]))
    off = make_job("off", frames["skewed"], f"{models['plain']} {models['other']} out_freq 0")
    results = run_jobs([one, off], tmp_path)
    assert not (tmp_path / "model_devi.out").exists()
    assert results["one"].energy == results["off"].energy


def test_a_hybrid_style_writes_deviations(frames, models, evaluate, tmp_path):
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    job = make_job("hybrid", frames["bulk"], "x", steps=2, before_run="fix move all nve\ntimestep 0")
    job.style = f"hybrid/overlay deepmd {paths} out_freq 1 lj/cut 4.0"
    job.coeff = "pair_coeff * * deepmd O H\npair_coeff * * lj/cut 0.0 1.0"
    run_jobs([job], tmp_path, 2)
    table = np.loadtxt(tmp_path / "model_devi.out")
    assert table[:, 0].tolist() == [0, 1, 2]
    for row in table:
        np.testing.assert_allclose(row[1:], expected_rows(frames["bulk"], evaluate)[:6], rtol=2e-6)
