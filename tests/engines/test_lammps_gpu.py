"""pair_style deepmd with `path cuda`: who makes the neighbour list, and the same numbers either way.

On a machine without a GPU all of this runs on the emulation in the host's memory.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from lammps_run import MASSES, Job, make_job, run_jobs, run_lammps, write_data
from reference.tiny_models import Frame

FOUND = "the GPU finds the neighbors, LAMMPS makes no list for this style"
FAST = "velocity all create 20000 4711 mom yes loop geom\nfix move all nve\ntimestep 0.0005"
DELETE = f"{FAST}\nrun 5\ndelete_atoms random fraction 0.4 yes all NULL 77"
DEFORM = f"{FAST}\nfix box all deform 5 x scale 0.97 xy delta 2.5 flip yes"
SWAP = "fix swap all atom/swap 1 5 29494 1e9 ke no types 1 2"
BETWEEN = (
    f"{FAST}\nneighbor 0.5 bin\nrun 4\nneigh_modify exclude type 1 2\nrun 2\nneigh_modify exclude none\nrun 3 pre no"
)
SELDOM = f"{FAST}\nneigh_modify every 3 delay 0 check no\npair_modify compute no\nrun 7\npair_modify compute yes"


def jobs_for(path: str, frames: dict[str, Frame], model: Path) -> list[Job]:
    """Jobs in which lists are made, kept, made late, or left to LAMMPS."""
    bulk, skewed, words = frames["bulk"], frames["skewed"], f"{model} path {path}"
    deepmd = "pair_coeff * * deepmd O H\npair_coeff * * lj/cut 0.002 1.5"
    named = [
        make_job("fast", bulk, words, before_run=FAST, after_box="neighbor 0.6 bin", steps=15),
        make_job("molecule", frames["molecule"], words, before_run=FAST, steps=15),
        make_job("lonely", frames["lonely"], words) if "lonely" in frames else make_job("slab", frames["slab"], words),
        make_job("deform", skewed, words, before_run=DEFORM, steps=12),
        make_job("delete", bulk, words, before_run=DELETE, steps=5),
        make_job("between", bulk, words, before_run=BETWEEN, steps=3),
        make_job("seldom", bulk, words, before_run=SELDOM, steps=4),
        make_job("minimise", skewed, words, run="min_style cg\nminimize 0 1e-3 5 15"),
        make_job("excluded", bulk, words, after_style="neigh_modify exclude type 1 2"),
        dataclasses.replace(
            make_job("overlay", bulk, words), style=f"hybrid/overlay deepmd {words} lj/cut 4.0", coeff=deepmd
        ),
        dataclasses.replace(
            make_job("invisible", bulk, words, before_run=SWAP, steps=3), coeff="pair_coeff * * O NULL",
            masses=[MASSES["O"]] * 2,
        ),
    ]  # fmt: skip
    return [dataclasses.replace(job, name=f"{path}_{job.name}") for job in named]


@pytest.mark.parametrize("ranks", [1, 3])
def test_runs_are_the_same_whoever_makes_the_list(ranks, frames, models, tmp_path) -> None:
    results = {}
    for path in ("fused", "cuda"):
        jobs = jobs_for(path, frames, models["plain"])
        if ranks > 1:
            jobs = [job for job in jobs if job.name.split("_")[1] in ("fast", "deform", "between", "excluded")]
        results |= run_jobs(jobs, tmp_path, ranks)
    for name in {name.split("_", 1)[1] for name in results}:
        one, other = results[f"fused_{name}"], results[f"cuda_{name}"]
        assert np.abs(one.positions - other.positions).max() < 1e-8, name
        assert np.abs(one.forces - other.forces).max() < 1e-7, name
        assert one.energy == pytest.approx(other.energy, abs=1e-7), name
        assert np.abs(one.stress - other.stress).max() < 1e-6, name


def test_the_log_says_who_makes_the_list(frames, models, tmp_path) -> None:
    write_data(make_job("water", frames["bulk"], "x"), tmp_path / "water.data")
    begin = f"""
units metal
box tilt large
read_data water.data
pair_style deepmd {models["plain"]} path cuda
pair_coeff * * O H
"""
    changes = ("run 0", "run 0", "neigh_modify exclude type 1 1", "run 0", "neigh_modify exclude none", "run 0")
    outcome = run_lammps(begin + "\n".join(changes), tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    lines = [line for line in outcome.output.splitlines() if line.startswith("pair_style deepmd: ")]
    excluded = "pair_style deepmd: LAMMPS makes the neighbor list, since 'neigh_modify exclude' removes pairs"
    assert lines == [f"pair_style deepmd: {FOUND}", excluded, f"pair_style deepmd: {FOUND}"]
    totals = [line for line in outcome.output.splitlines() if line.startswith("Total # of neighbors")]
    counts = [int(line.split("=")[1]) for line in totals]
    assert counts[0] == counts[1] == counts[3] == 0 < counts[2]


def test_reasons_to_leave_the_list_to_lammps(frames, models, run_cases, tmp_path) -> None:
    write_data(make_job("water", frames["bulk"], "x"), tmp_path / "water.data")
    begin = ["units metal", "box tilt large", f"read_data {tmp_path / 'water.data'}"]
    style, coeff = f"deepmd {models['plain']} path cuda", "pair_coeff * * deepmd O H"
    bonded = [
        "units metal", "atom_style bond", "region box block -5 5 -5 5 -5 5",
        "create_box 2 box bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 2", "create_atoms 1 single 0 0 0",
        "create_atoms 2 single 1 0 0", "create_atoms 2 single 3 1 0", "mass 1 15.999", "mass 2 1.008",
        f"pair_style {style}", "pair_coeff * * O H",
    ]  # fmt: skip
    close = ["create_atoms 2 single 1 1 1", "create_atoms 1 single 1 1 1.02"]
    answers = run_cases({
        "hybrid": [
            *begin, f"pair_style hybrid/overlay {style} lj/cut 4.0", coeff, "pair_coeff * * lj/cut 0 1", "run 0",
        ],
        "bonds": [*bonded, "run 0"],
        "kept bonds": [*bonded, "special_bonds lj/coul 1 1 1", "run 0"],
        "on the CPU": [*begin, f"pair_style deepmd {models['plain']} path fused", "pair_coeff * * O H", "run 0"],
        "too close": [*begin, f"pair_style {style}", "pair_coeff * * O H", *close, "run 0"],
    })  # fmt: skip
    assert "since the style is part of a hybrid style" in answers["hybrid"]["screen"]
    assert "since special_bonds of weight 0 would remove pairs" in answers["bonds"]["screen"]
    assert FOUND in answers["kept bonds"]["screen"]
    for name in ("hybrid", "bonds", "kept bonds", "on the CPU"):
        assert answers[name]["error"] is None, answers[name]
    assert "the neighbor" not in answers["on the CPU"]["screen"].replace("neighbor list info", "")
    assert "are 0.02 Angstrom apart" in answers["too close"]["error"]


def test_deviations_of_atoms_come_down_where_they_are_asked_for(frames, models, tmp_path) -> None:
    """With a fix that wants them, with selected frames, and the same rows in the file without."""
    paths = " ".join(str(models[name]) for name in ("plain", "other", "third"))
    values = 'print "$(v_s:%.12g) $(c_d[4]:%.12g) $(c_d[7]:%.12g)" file values'
    results = {}
    for path in ("fused", "cuda"):
        write_data(make_job("water", frames["bulk"], "x"), tmp_path / "water.data")
        script = f"""
units metal
box tilt large
read_data water.data
pair_style deepmd {paths} path {path} out_freq 2 out_file {path}.out relative 1.0 select 0.0 100.0 {path}.extxyz
pair_coeff * * O H
fix a all pair 2 deepmd devi_f 1
compute d all pair deepmd
compute m all reduce max f_a
variable s equal c_m
fix move all nve
timestep 0.0002
thermo_style custom step pe c_m c_d[4]
run 4
{values}_{path}
pair_style deepmd {paths} path {path} out_freq 2 out_file {path}_plain.out
pair_coeff * * O H
unfix a
uncompute m
thermo_style custom step pe
run 2
"""
        outcome = run_lammps(script, tmp_path)
        assert outcome.status == 0, outcome.output[-3000:]
        files = (f"{path}.out", f"{path}_plain.out", f"values_{path}")
        results[path] = [np.loadtxt(tmp_path / name) for name in files]
        rows = (tmp_path / f"{path}.extxyz").read_text().split("\n")
        results[path].append(np.array([line.split()[-1] for line in rows if line[:2] in ("O ", "H ")], dtype=float))
    for one, other in zip(results["fused"], results["cuda"], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-12)
    largest, in_file, absolute = results["cuda"][2]
    assert largest == pytest.approx(in_file)
    assert absolute > largest
    assert len(results["cuda"][0]) == 3 and len(results["cuda"][3]) == 3 * len(frames["bulk"].types)


def test_a_device_that_is_lost_in_a_run(frames, models, tmp_path, monkeypatch) -> None:
    """Words, and the same trajectory and deviations by the CPU."""
    paths = " ".join(str(models[name]) for name in ("plain", "other"))
    monkeypatch.setenv("DEEPMD_GPU", "emulated")
    monkeypatch.setenv("DEEPMD_EMULATED_FAILURE", "400")
    results, tables = {}, {}
    for path in ("fused", "cuda"):
        style = f"{paths} path {path} out_freq 1 out_file {path}.out"
        job = make_job(path, frames["bulk"], style, before_run=FAST, after_box="neighbor 0.6 bin", steps=12)
        results |= run_jobs([job], tmp_path)
        tables[path] = np.loadtxt(tmp_path / f"{path}.out")
    assert np.abs(results["fused"].forces - results["cuda"].forces).max() < 1e-7
    np.testing.assert_allclose(tables["fused"], tables["cuda"], rtol=2e-6)
    outcome = run_lammps((tmp_path / "in.lammps").read_text(), tmp_path)
    assert outcome.output.count("the GPU is given up, and the CPU answers from here on") == 1


def test_ranks_share_the_memory_of_a_device(frames, models, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DEEPMD_GPU", "emulated")
    write_data(make_job("water", frames["bulk"], "x"), tmp_path / "water.data")
    script = f"""
units metal
box tilt large
read_data water.data
pair_style deepmd {models["plain"]} {models["other"]} path cuda observers tf32 out_file devi.out
pair_coeff * * O H
run 0
"""
    alone, shared = (run_lammps(script, tmp_path, ranks).output for ranks in (1, 2))
    assert "at most 1073.74 MB" in alone and "shared by" not in alone
    assert "at most 536.871 MB" in shared and "shared by 2 ranks" in shared
    assert "observers:          tf32" in alone
