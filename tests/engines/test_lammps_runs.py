"""pair_style deepmd among LAMMPS' other commands: trajectories, deletions, hybrid styles, restarts, minimisation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from checks import assert_close, tolerance
from lammps_run import MASSES, Job, Result, make_job, run_jobs, run_lammps, six, write_data
from reference.tiny_models import Frame

DYNAMICS = "velocity all create 600 4711 mom yes loop geom\nfix move all nve\ntimestep 0.0002"
DRIFT = f"{DYNAMICS}\nvelocity all set 200 100 0 sum yes"
DEFORM = f"{DYNAMICS}\nfix box all deform 5 x scale 0.97 xy delta 2.5 flip yes"
DELETE = f"{DYNAMICS}\nrun 10\ndelete_atoms random fraction 0.4 yes all NULL 77"
SCALE = "variable s equal 0.25\nfix s all adapt 1 pair deepmd scale * * v_s"
SWAP = f"{DYNAMICS}\nunfix move\nfix swap all atom/swap 1 5 29494 1e9 ke no types 1 2"
FROM_COMPUTE = "compute v all property/atom id"
LJ = "pair_coeff * * lj/cut 0.002 1.5"


def as_frame(result: Result, elements: str = "OH", periodic: bool = True) -> Frame:
    """The atoms that a run ended with, for a model with the types O and H."""
    types = np.array(["OH".index(elements[t - 1]) for t in result.types])
    return Frame(result.positions, types, result.cell if periodic else None)


def serial_jobs(frames: dict[str, Frame], paths: dict[str, str]) -> list[Job]:
    """Jobs of all tests below that need one rank."""
    skewed, bulk = frames["skewed"], frames["bulk"]
    plain = paths["plain"]

    def hybrid(name: str, style: str, coeff: str, **options) -> Job:
        return dataclasses.replace(make_job(name, skewed, plain, **options), style=style, coeff=coeff)

    deepmd = "pair_coeff * * deepmd O H"
    aparam = f"{paths['aparam']} fparam 0.4"
    argon = make_job("argon", skewed, plain, ("O", "H", "NULL"))
    argon.types = np.where(np.arange(len(argon.types)) % 4 == 0, 3, argon.types)
    mixed = "pair_coeff 1*2 3 lj/cut 0.002 1.5\npair_coeff 3 3 lj/cut 0.002 1.5"
    only_argon = f"pair_coeff * * 0.0 1.5\n{mixed.replace('lj/cut ', '')}"
    return [
        make_job("dynamics", bulk, plain, before_run=DYNAMICS, steps=60),
        make_job("start", bulk, plain),
        make_job("drift", frames["molecule"], plain, before_run=DRIFT, steps=60),
        make_job("deform", skewed, plain, before_run=DEFORM, steps=42),
        make_job("delete", bulk, plain, before_run=DELETE, steps=10),
        make_job("swap", bulk, plain, before_run=SWAP, steps=5),
        dataclasses.replace(
            make_job("swap_null", bulk, plain, before_run=SWAP, steps=5),
            coeff="pair_coeff * * O NULL", masses=[MASSES["O"], MASSES["O"]],
        ),
        make_job("minimise", skewed, plain, run="min_style cg\nminimize 0 1e-3 20 60"),
        make_job("twice", skewed, plain, before_run="run 0\nrun 0 post no"),
        make_job("scaled", skewed, plain, before_run=SCALE),
        make_job("fparam", skewed, f"{paths['fparam']} fparam 0.3 -0.2"),
        make_job("aparam", skewed, f"{aparam} aparam 0.7"),
        make_job("aparam_compute", skewed, f"{aparam} aparam_from_compute v", before_run=FROM_COMPUTE),
        hybrid("lj", "lj/cut 5.0", LJ.replace("lj/cut ", "")),
        hybrid("overlay", f"hybrid/overlay deepmd {plain} lj/cut 5.0", f"{deepmd}\n{LJ}"),
        hybrid("half", f"hybrid/scaled 0.5 deepmd {plain} 2.0 lj/cut 5.0", f"{deepmd}\n{LJ}"),
        hybrid(
            "pair", f"hybrid/overlay deepmd {plain} deepmd {paths['other']}",
            "pair_coeff * * deepmd 1 O H\npair_coeff * * deepmd 2 O H",
        ),
        make_job("other", skewed, paths["other"]),
        dataclasses.replace(argon, name="argon_alone"),
        dataclasses.replace(argon, name="argon_lj", style="lj/cut 5.0", coeff=only_argon),
        dataclasses.replace(
            argon, name="argon_hybrid", style=f"hybrid deepmd {plain} lj/cut 5.0",
            coeff=f"pair_coeff * * deepmd O H NULL\n{mixed}",
        ),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def results(frames, models, tmp_path_factory) -> dict[str, Result]:
    """All jobs above, run in one LAMMPS: `clear` and a new model lie between any two of them."""
    paths = {name: str(path) for name, path in models.items()}
    return run_jobs(serial_jobs(frames, paths), tmp_path_factory.mktemp("runs"))


def assert_equal(result: Result, expected: dict) -> None:
    """Energy, forces and virial of a LAMMPS result and of an evaluation."""
    size = max(1.0, abs(float(expected["energy"])))
    assert_close(result.energy, float(expected["energy"]), "LAMMPS energy", scale=size)
    assert_close(result.forces, expected["forces"], "LAMMPS force")
    assert_close(result.virial, six(np.reshape(expected["virial"], (3, 3))), "LAMMPS virial", scale=size)


@pytest.mark.parametrize("name", ["dynamics", "drift", "deform", "delete", "swap", "minimise", "twice"])
def test_the_last_step_agrees_with_python(name, results, evaluate):
    result = results[name]
    assert_equal(result, evaluate("plain", as_frame(result, periodic=name != "drift")))


def test_the_runs_did_something(results, frames):
    assert len(results["delete"].ids) < 0.8 * len(frames["bulk"].positions)
    assert results["deform"].cell[0, 0] < 0.98 * frames["skewed"].cell[0, 0]
    assert results["deform"].cell[1, 0] < 0.0  # 3.4 + 2.4 is more than half of the box: LAMMPS has flipped it
    assert np.abs(results["dynamics"].positions - results["start"].positions).max() > 0.05
    assert (results["swap"].types != results["start"].types).any()
    assert results["minimise"].energy < results["twice"].energy


def test_types_that_become_visible_are_seen_at_once(results, evaluate):
    result = results["swap_null"]
    assert (result.types != results["start"].types).any()
    frame = as_frame(result)
    seen = frame.types == 0
    expected = evaluate("plain", Frame(frame.positions[seen], frame.types[seen], frame.cell))
    assert_close(result.forces[seen], expected["forces"], "LAMMPS force")
    assert not result.forces[~seen].any()
    assert result.energy == pytest.approx(float(expected["energy"]), rel=tolerance("LAMMPS energy"))


def test_parameters_reach_the_model(results, evaluate, frames):
    skewed = frames["skewed"]
    n = len(skewed.types)

    def expect(model: str, fparam: list[float], aparam: np.ndarray | None = None) -> dict:
        return evaluate(model, dataclasses.replace(skewed, fparam=np.array(fparam), aparam=aparam))

    assert_equal(results["fparam"], expect("fparam", [0.3, -0.2]))
    assert_equal(results["aparam"], expect("aparam", [0.4], np.full((n, 1), 0.7)))
    assert_equal(results["aparam_compute"], expect("aparam", [0.4], np.arange(1.0, n + 1)[:, None]))


def combine(results: dict[str, Result], parts: dict[str, float]) -> dict:
    """Weighted sums of what separate runs gave."""
    return {
        name: sum(weight * np.asarray(getattr(results[part], name)) for part, weight in parts.items())
        for name in ("energy", "forces", "virial", "atom_energy", "stress", "centroid")
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("overlay", {"twice": 1.0, "lj": 1.0}),
        ("half", {"twice": 0.5, "lj": 2.0}),
        ("pair", {"twice": 1.0, "other": 1.0}),
        ("argon_hybrid", {"argon_alone": 1.0, "argon_lj": 1.0}),
        ("scaled", {"twice": 0.25}),
    ],
)
def test_sums_of_styles(name, parts, results):
    expected = combine(results, parts)
    for quantity, value in expected.items():
        if name == "half" and quantity not in ("energy", "forces", "virial"):
            continue  # hybrid/scaled of this LAMMPS does not promise scaled atomic parts
        scale = max(1.0, np.abs(expected["virial"]).max()) if quantity == "virial" else 1.0
        scale = max(1.0, abs(expected["energy"])) if quantity == "energy" else scale
        assert_close(getattr(results[name], quantity), value, "LAMMPS virial", scale=scale)


@pytest.mark.parametrize(("ranks", "threads"), [(2, 1), (3, 1), (1, 2), (2, 3)])
def test_a_trajectory_does_not_depend_on_ranks_and_threads(ranks, threads, results, frames, models, tmp_path):
    options = {"before_run": DYNAMICS, "steps": 60, "after_box": "neighbor 0.3 bin"}
    jobs = [
        make_job("dynamics", frames["bulk"], str(models["plain"]), **options),
        make_job("drift", frames["molecule"], str(models["plain"]), before_run=DRIFT, steps=60),
    ]
    parallel = run_jobs(jobs, tmp_path, ranks, threads)
    for name, result in parallel.items():
        assert_close(result.positions, results[name].positions, "LAMMPS trajectory")
        assert_close(result.forces, results[name].forces, "LAMMPS trajectory")


def test_energy_is_conserved(frames, models, tmp_path):
    job = make_job("nve", frames["bulk"], str(models["plain"]), before_run=DYNAMICS)
    write_data(job, tmp_path / "nve.data")
    outcome = run_lammps(
        f"""
units metal
read_data nve.data
pair_style deepmd {models["plain"]}
pair_coeff * * O H
{DYNAMICS}
thermo_style custom step etotal ke
thermo_modify format float %.12g
thermo 20
run 200
""",
        tmp_path,
    )
    assert outcome.status == 0, outcome.output[-2000:]
    rows = [line.split() for line in outcome.output.splitlines()]
    total, kinetic = np.array([row for row in rows if len(row) == 3 and row[0].isdigit()], dtype=float)[:, 1:].T
    assert len(total) == 11
    assert np.ptp(total) < 2e-3 * np.ptp(kinetic)  # velocity Verlet: the wobble is of second order in the time step


def test_restart_files_bring_the_style_back(frames, models, tmp_path):
    job = make_job("water", frames["skewed"], str(models["plain"]))
    write_data(job, tmp_path / "water.data")
    (tmp_path / "gone.pth").write_bytes(models["plain"].read_bytes())
    energy = "run 0\nprint 'ENERGY {} $(pe:%.15g)'"
    plain, other = models["plain"], models["other"]
    head = "units metal\nbox tilt large\nread_data water.data\n"
    script = f"""
{head}
pair_style deepmd {plain} selftest off
pair_coeff * * O H
{energy.format("first")}
write_restart one.restart
clear
read_restart one.restart
{energy.format("restored")}
clear
read_restart one.restart
pair_style deepmd {other}
pair_coeff * * O H
{energy.format("other")}
clear
read_restart one.restart
pair_style lj/cut 4.0
pair_coeff * * 0.0 1.0
{energy.format("lj")}
clear
{head}
pair_style deepmd gone.pth
pair_coeff * * H O
mass 1 1.008
mass 2 15.999
write_restart gone.restart
pair_style hybrid/overlay deepmd {plain} lj/cut 4.0
pair_coeff * * deepmd O H
pair_coeff * * lj/cut 0.0 1.0
mass 1 15.999
mass 2 1.008
write_restart hybrid.restart
clear
read_restart hybrid.restart
pair_coeff * * deepmd O H
pair_coeff * * lj/cut 0.0 1.0
{energy.format("hybrid")}
clear
shell rm gone.pth
read_restart gone.restart
pair_style deepmd {plain} masscheck off
pair_coeff * * O H
{energy.format("renamed")}
clear
read_restart gone.restart
run 0
"""
    outcome = run_lammps(script, tmp_path, ranks=2)
    words = [line.split() for line in outcome.output.splitlines() if line.startswith("ENERGY")]
    energies = {word[1]: float(word[2]) for word in words}
    assert list(energies) == ["first", "restored", "other", "lj", "hybrid", "renamed"], outcome.output[-2000:]
    for name in ("restored", "hybrid", "renamed"):
        assert energies[name] == pytest.approx(energies["first"], abs=1e-9)
    assert energies["other"] != pytest.approx(energies["first"], abs=1e-3)
    assert energies["lj"] == 0.0
    assert outcome.status != 0 and "cannot open model file 'gone.pth'" in outcome.output


def test_partitions_run_different_models(frames, models, evaluate, tmp_path):
    job = make_job("water", frames["skewed"], str(models["plain"]))
    write_data(job, tmp_path / "water.data")
    script = f"""
variable model world {models["plain"]} {models["other"]}
variable name world plain other
units metal
box tilt large
read_data water.data
pair_style deepmd ${{model}}
pair_coeff * * O H
run 0
print "$(pe:%.15g)" file ${{name}}.energy
"""
    outcome = run_lammps(script, tmp_path, 2, ("-partition", "1", "1", "-plog", "none", "-pscreen", "none"))
    assert outcome.status == 0, outcome.output
    for name in ("plain", "other"):
        expected = float(evaluate(name, frames["skewed"])["energy"])
        energy = float((tmp_path / f"{name}.energy").read_text())
        assert energy == pytest.approx(expected, rel=tolerance("LAMMPS energy"))


def test_rerun_and_long_range_electrostatics(frames, models, tmp_path):
    job = make_job("water", frames["bulk"], str(models["plain"]))
    write_data(job, tmp_path / "water.data")
    script = f"""
units metal
read_data water.data
pair_style deepmd {models["plain"]}
pair_coeff * * O H
{DYNAMICS}
thermo_modify format float %.15g
thermo 5
dump d all custom 5 path.dump id type x y z
dump_modify d sort id format float %.17g
run 10
undump d
print "RERUN"
rerun path.dump dump x y z
clear
units metal
atom_style charge
region box block 0 9 0 9 0 9
lattice sc 3.0
create_box 2 box
create_atoms 1 box
mass * 15.999
set type 1 charge 0.0
set atom 1 charge 1e-9
set atom 2 charge -1e-9
pair_style deepmd {models["plain"]}
pair_coeff * * O O
run 0
print "ENERGY $(pe:%.15g)"
kspace_style pppm 1e-4
run 0
print "ENERGY $(pe:%.15g)"
"""
    outcome = run_lammps(script, tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    first, second = outcome.output.split("RERUN", 1)

    def steps(text: str) -> list[str]:
        rows = [line.split() for line in text.splitlines()]
        return [float(row[2]) for row in rows if len(row) == 6 and row[0] in ("0", "5", "10") and row[1][0].isdigit()]

    assert len(steps(first)) == 3 and steps(second)[:3] == pytest.approx(steps(first), abs=1e-8)
    energies = [float(line.split()[1]) for line in outcome.output.splitlines() if line.startswith("ENERGY")]
    assert len(energies) == 2 and energies[0] == pytest.approx(energies[1], abs=1e-8)
