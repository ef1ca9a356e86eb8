"""Models whose atoms pass messages, in LAMMPS: ghosts must know their own surroundings, on one rank and on several."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lammps_run
import numpy as np
import pytest
from lammps_run import make_job, run_jobs
from reference.tiny_models import make_frames
from test_lammps_agreement import compare, with_invisible_atoms

NAMES = ("dpa2", "dpa3")


@pytest.fixture(scope="module")
def messengers(plugin, tmp_path_factory) -> dict[str, Path]:
    """Frozen models by name."""
    from deepmd.freeze import freeze_model
    from reference.tiny_descriptors import make_model

    folder = tmp_path_factory.mktemp("messengers")
    for name in NAMES:
        freeze_model(make_model(name), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in NAMES}


@pytest.fixture(scope="module")
def judged(messengers):
    """The core's answers for whole frames without ghosts, by model and frame."""
    from deepmd.core import Model

    frames = {name: frame for name, frame in make_frames().items() if len(frame.positions) > 2}
    answers = {}
    for model, path in messengers.items():
        core = Model(str(path))
        answers[model] = {name: core.evaluate(**frame.as_input(), atomic=True) for name, frame in frames.items()}
    return frames, answers


@pytest.mark.parametrize("name", NAMES)
def test_an_atom_depends_on_atoms_beyond_the_cutoff(name, messengers):
    from deepmd.core import Model

    model = Model(str(messengers[name]))
    chain = np.array([[0.0, 0, 0], [2.5, 0.3, 0], [5.2, 0, 0.2]])
    assert model.passes_messages and model.receptive_field > 5.3 > model.rcut
    moved = chain + np.array([[0.0, 0, 0], [0, 0, 0], [0.1, 0.2, 0]])
    first = [model.evaluate(r, [0, 1, 0], atomic=True)["atom_energy"][0] for r in (chain, moved)]
    assert abs(first[0] - first[1]) > 1e-9


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_lammps_gives_the_numbers_of_whole_frames(name, ranks, messengers, judged, tmp_path):
    frames, answers = judged
    grids = {1: [""], 2: ["processors 1 1 2", "processors 2 1 1"]}[ranks]
    model = str(messengers[name])
    jobs = [make_job(key.replace(" ", "_"), frame, model, before_box=grids[k % len(grids)])
            for k, (key, frame) in enumerate(frames.items())]  # fmt: skip
    origin = {job.name: key for job, key in zip(jobs, frames, strict=True)}
    rng = np.random.default_rng(3)
    extra = [
        with_invisible_atoms(make_job("null", frames["skewed"], model, before_box=grids[0]), rng),
        make_job("short", frames["bulk"], model, before_box=grids[0], after_box="comm_modify cutoff 2.0"),
        make_job("real", frames["skewed"], model, before_box=grids[0], units="real"),
        dataclasses.replace(make_job("overlay", frames["bulk"], model, before_box=grids[0]),
                            style=f"hybrid/overlay deepmd {model} zero 3.0",
                            coeff="pair_coeff * * deepmd O H\npair_coeff * * zero"),
    ]  # fmt: skip
    origin.update({"null": "skewed", "short": "bulk", "real": "skewed", "overlay": "bulk"})
    jobs += extra
    results = run_jobs(jobs, tmp_path, ranks)
    problems = []
    for job in jobs:
        expected = answers[name][origin[job.name]]
        try:
            compare(results[job.name], expected, job, len(frames[origin[job.name]].positions))
        except AssertionError as problem:
            problems.append(f"{job.name}: {problem}")
    assert problems == []


def test_a_run_is_the_same_on_two_ranks_with_lists_that_are_rebuilt(messengers, judged, tmp_path):
    frames, _ = judged
    results = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        job = make_job("run", frames["bulk"], str(messengers["dpa2"]), steps=12, after_box="neighbor 0.4 bin",
                       before_run="velocity all create 3000 7 loop geom\nfix f all nve\ntimestep 0.001\n"
                                  "neigh_modify every 3 delay 0 check yes")  # fmt: skip
        results.append(run_jobs([job], folder, ranks)["run"])
    assert np.abs(results[0].positions - results[1].positions).max() < 1e-8
    assert np.abs(results[0].forces - results[1].forces).max() < 1e-8


def test_more_cutoffs_than_one_are_refused_on_several_ranks(messengers, judged, tmp_path):
    lines = "neighbor 1.0 multi\ncomm_modify mode multi"
    job = make_job("multi", judged[0]["bulk"], str(messengers["dpa2"]), after_box=lines)
    lammps_run.write_data(job, tmp_path / "multi.data")
    outcome = lammps_run.run_lammps(lammps_run.job_script(job), tmp_path, 2)
    assert outcome.status != 0 and "write 'comm_modify mode single'" in outcome.output
