"""LAMMPS against the judge: energy, forces, virial and their atomic parts, for every shape of box and several ranks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from checks import assert_close
from lammps_run import MASSES, Job, Result, make_job, run_jobs, six
from reference.dp_numpy import Judge
from reference.tiny_models import Frame, make_tree

GRIDS = {1: [""], 2: ["processors 1 1 2"], 3: ["processors 3 1 1", "processors 1 1 3"], 4: ["processors 1 4 1", ""]}


def with_invisible_atoms(job: Job, rng: np.random.Generator) -> Job:
    """The same job with atoms of a NULL type strewn among the others, the type in the middle of the list."""
    low, high = job.positions.min(axis=0), job.positions.max(axis=0)
    extra = rng.uniform(low, high, (7, 3))
    order = rng.permutation(len(job.positions) + len(extra))
    types = np.concatenate([np.where(job.types == 2, 3, job.types), np.full(len(extra), 2)])
    return dataclasses.replace(
        job, positions=np.concatenate([job.positions, extra])[order], types=types[order], ids=order + 1,
        masses=[MASSES["O"], MASSES["NULL"], MASSES["H"]], coeff="pair_coeff * * O NULL H",
    )  # fmt: skip


def clean(name: str) -> str:
    return name.replace(" ", "_")


def all_jobs(frames: dict[str, Frame], model: str, ranks: int) -> tuple[list[Job], dict[str, str]]:
    """Jobs and the frame that each of them stands for."""
    jobs, origin = [], {}

    def add(frame_name: str, job: Job) -> None:
        jobs.append(job)
        origin[job.name] = frame_name

    for index, (name, frame) in enumerate(frames.items()):
        grid = GRIDS[ranks][index % len(GRIDS[ranks])]
        neighbor = "neighbor 0.5 nsq" if len(frame.positions) < 3 else ""  # LAMMPS' bins need a larger box
        add(name, make_job(clean(name), frame, model, before_box=grid, after_box=neighbor))
    skewed, rng = frames["skewed"], np.random.default_rng(3)
    for name in ("skewed", "molecule"):
        add(name, with_invisible_atoms(make_job(f"null_{name}", frames[name], model), rng))
    add("slab", make_job("tiled", frames["slab"], model, before_box="comm_style tiled", after_box="balance 1.0 rcb"))
    if ranks > 2:
        return jobs, origin  # more ranks than cores are slow, and the rest has little to do with ranks
    add("skewed", make_job("real", skewed, model, units="real"))
    add("slab", make_job("electron", frames["slab"], model, units="electron"))
    add("skewed", make_job("permuted", skewed, model, ("H", "O", "H", "O")))
    add("bulk", make_job("nofdotr", frames["bulk"], model, after_style="pair_modify nofdotr"))
    ids = rng.permutation(len(frames["bulk"].positions)) * 3 + 5
    add("bulk", make_job("holes", frames["bulk"], model, ids=ids))
    return jobs, origin


@pytest.fixture(scope="module")
def judged(frames):
    """The judge's answers by frame; they take loops in Python, so they are shared by all rank counts."""
    judge = Judge(make_tree())
    return {name: judge.evaluate(frame.positions, frame.types, frame.cell, frame.pbc) for name, frame in frames.items()}


def compare(result: Result, expected: dict, job: Job, n_atoms: int) -> None:
    """All quantities of the atoms that the model sees; the invisible ones have exactly nothing."""
    ids = np.arange(1, len(job.positions) + 1) if job.ids is None else job.ids
    rows = {atom_id: row for row, atom_id in enumerate(result.ids)}
    seen = [rows[i] for i in (np.sort(ids)[:n_atoms] if len(ids) > n_atoms else ids)]
    energy = expected["energy"]
    assert_close(result.energy, energy, "LAMMPS energy", scale=max(1.0, abs(float(np.ravel(energy)[0]))))
    assert_close(result.forces[seen], expected["forces"], "LAMMPS force")
    assert_close(result.atom_energy[seen], np.ravel(expected["atom_energy"]), "LAMMPS energy")
    atom_virial = np.reshape(expected["atom_virial"], (-1, 3, 3))
    assert_close(result.centroid[seen], atom_virial, "LAMMPS virial")
    assert_close(result.stress[seen], six(atom_virial), "LAMMPS virial")
    virial = np.reshape(expected["virial"], (3, 3))
    assert_close(result.virial, six(virial), "LAMMPS virial", scale=max(1.0, np.abs(virial).max()))
    assert_close(result.stress.sum(axis=0), result.virial, "LAMMPS virial", scale=max(1.0, np.abs(virial).max()))
    unseen = np.setdiff1d(np.arange(len(result.ids)), seen)
    for array in (result.forces, result.atom_energy, result.stress, result.centroid):
        assert not array[unseen].any()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_shape_of_box_agrees_with_the_judge(ranks, frames, models, judged, tmp_path):
    jobs, origin = all_jobs(frames, str(models["plain"]), ranks)
    results = run_jobs(jobs, tmp_path, ranks)
    problems = []
    for job in jobs:
        expected = {key: np.asarray(value) for key, value in judged[origin[job.name]].items()}
        try:
            compare(results[job.name], expected, job, len(frames[origin[job.name]].positions))
        except AssertionError as problem:
            problems.append(f"{job.name}: {problem}")
    assert problems == []
