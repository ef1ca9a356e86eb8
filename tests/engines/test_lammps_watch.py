"""The deviation as a quantity of LAMMPS that thermo, dump, fix halt, fix ave/time see; a stop rule, selected frames."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from lammps_run import Outcome, find_program, make_job, run_lammps, run_program, write_data

ENSEMBLE = ("plain", "other", "third")
START = """
units metal
{boundary}
box tilt large
read_data water.data
pair_style deepmd {models} {words}
pair_coeff * * O H
"""
MOVE = """
velocity all create 2000 4711
fix move all nve
timestep 0.0005
thermo 1
"""


@pytest.fixture
def run(frames, models, tmp_path):
    """`run("out_freq 2", "run 10", ranks=2, frame="skewed")` runs the ensemble; commands before the run come along."""

    def call(words: str, commands: str, ranks: int = 1, frame: str = "skewed", **options) -> Outcome:
        job = make_job("water", frames[frame], "x")
        write_data(job, tmp_path / "water.data")
        paths = " ".join(str(models[name]) for name in ENSEMBLE)
        boundary = options.get("boundary", "" if frames[frame].cell is not None else "boundary s s s")
        script = START.format(models=paths, words=words, boundary=boundary) + options.get("move", MOVE) + commands
        outcome = run_lammps(script, tmp_path, ranks)
        assert outcome.status == 0 or options.get("fails"), outcome.output[-3000:]
        return outcome

    return call


def thermo_table(output: str) -> np.ndarray:
    """Rows of numbers between the header of the (last) thermo output and its end."""
    block = re.findall(r"^\s*Step .*\n((?:\s*[-\d].*\n)+)", output, re.MULTILINE)[-1]
    return np.loadtxt(block.splitlines(), ndmin=2)


def dump_tables(path: Path) -> dict[int, np.ndarray]:
    """Step: rows of a dump, by ID."""
    tables = {}
    for text in path.read_text().split("ITEM: TIMESTEP\n")[1:]:
        rows = np.loadtxt(text.split("ITEM: ATOMS")[1].splitlines()[1:], ndmin=2)
        tables[int(text.split()[0])] = rows[np.argsort(rows[:, 0])]
    return tables


OUTPUTS = """
compute d all pair deepmd
fix a all pair 2 deepmd devi_f 0
variable worst equal c_d[4]
fix t all ave/time 2 2 4 c_d[4] c_d[1] file average.txt
thermo_style custom step c_d[1] c_d[2] c_d[3] c_d[4] c_d[5] c_d[6] c_d[7] c_d[8] v_worst
thermo 2
thermo_modify format float %.6e
dump d all custom 2 atoms.dump id f_a
dump_modify d format float %.6e
run 8
"""


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_thermo_dump_and_averages_show_what_the_file_says(ranks, run, tmp_path):
    outcome = run("out_freq 2 atomic", OUTPUTS, ranks)
    file = np.loadtxt(tmp_path / "model_devi.out")
    assert file[:, 0].tolist() == [0, 2, 4, 6, 8]
    table = thermo_table(outcome.output)
    assert (table[:, 0] == file[:, 0]).all() and (table[:, 8] == file[:, 0]).all()
    np.testing.assert_array_equal(table[:, 1:7], file[:, 1:7])
    np.testing.assert_array_equal(table[:, 7], file[:, 4])  # absolute here
    np.testing.assert_array_equal(table[:, 9], file[:, 4])
    for row in file:
        np.testing.assert_array_equal(dump_tables(tmp_path / "atoms.dump")[int(row[0])][:, 1], row[7:])
    average = np.loadtxt(tmp_path / "average.txt")
    for row in average:
        chosen = file[(file[:, 0] > row[0] - 4) & (file[:, 0] <= row[0])]
        np.testing.assert_allclose(row[1:], chosen[:, [4, 1]].mean(axis=0), rtol=1e-5)


def test_fix_pair_asks_for_deviations_between_the_rows_of_the_file(run, tmp_path):
    commands = """
compute d all pair deepmd
fix a all pair 3 deepmd devi_f 1
dump d all custom 3 atoms.dump id f_a
thermo_style custom step c_d[4] c_d[8]
thermo 3
thermo_modify format float %.9e
run 9
"""
    outcome = run("out_freq 100 out_file rare.out", commands, 2)
    assert np.loadtxt(tmp_path / "rare.out", ndmin=2)[:, 0].tolist() == [0]
    table, atoms = thermo_table(outcome.output), dump_tables(tmp_path / "atoms.dump")
    assert table[:, 2].tolist() == [0, 3, 6, 9]
    for step, worst, _ in table:
        assert atoms[int(step)][:, 1].max() == pytest.approx(worst, rel=1e-5)
    run("out_freq 3 atomic out_file often.out", "run 9")
    often = np.loadtxt(tmp_path / "often.out")
    np.testing.assert_allclose(often[:, 4], table[:, 1], rtol=1e-6)


def test_per_atom_values_are_refused_where_there_are_none(run):
    outcome = run("out_freq 4", "fix a all pair 2 deepmd devi_f 0\nrun 4", fails=True)
    assert "devi_f is wanted on step 2, where no deviation is computed" in outcome.output and outcome.status != 0


def test_the_relative_form_keeps_the_absolute_maximum(run, tmp_path):
    commands = "compute d all pair deepmd\nthermo_style custom step c_d[4] c_d[7]\n"
    commands += "thermo_modify format float %.9e\nrun 0"
    relative = thermo_table(run("out_freq 1 relative 0.5", commands, 2).output)
    absolute = thermo_table(run("out_freq 1", commands).output)
    assert relative[0, 2] == pytest.approx(absolute[0, 1], rel=1e-7)
    assert abs(relative[0, 1] / relative[0, 2] - 1) > 0.1


def rising(tmp_path: Path, run) -> np.ndarray:
    """Steps and largest force deviations of 20 steps; something must happen in them."""
    run("out_freq 1 out_file all.out", "run 20")
    table = np.loadtxt(tmp_path / "all.out")[:, [0, 4]]
    assert np.ptp(table[:, 1]) > 1e-3 * table[:, 1].max()
    return table


def level_above(table: np.ndarray, n: int) -> float:
    """A level between the n-th smallest deviation and the next one, clear of rounding."""
    ordered = np.sort(table[:, 1])
    return float(ordered[n - 1 : n + 1].mean())


@pytest.mark.parametrize("ranks", [1, 3])
def test_fix_halt_uses_the_deviation(ranks, run, tmp_path):
    table = rising(tmp_path, run)
    level = level_above(table[1:], 17)
    first = int(table[1:][table[1:, 1] > level][0, 0])
    commands = f"""
compute d all pair deepmd
variable worst equal c_d[4]
fix h all halt 1 v_worst > {level:.12g} error continue
run 20
print "stopped at $(step)"
"""
    outcome = run("out_freq 1", commands, ranks)
    assert f"stopped at {first}" in outcome.output


def expected_stop(table: np.ndarray, level: float, n_checks: int) -> int:
    count = 0
    for step, value in table:
        count = count + 1 if value > level else 0
        if count == n_checks:
            return int(step)
    return int(table[-1, 0])


@pytest.mark.parametrize(("n_checks", "ranks"), [(1, 1), (2, 2), (5, 4)])
def test_the_stop_rule_ends_the_run_and_the_rest_of_the_input_goes_on(n_checks, ranks, run, tmp_path):
    table = rising(tmp_path, run)
    level = level_above(table, 10)
    stop = expected_stop(table, level, n_checks)
    commands = 'run 20\nprint "first run ended at $(step)"\nwrite_data end.data\nrun 7\nprint "then at $(step)"\n'
    outcome = run(f"out_freq 1 stop_above {level:.15g} checks {n_checks}", commands, ranks)
    assert f"first run ended at {stop}" in outcome.output and f"then at {stop}" in outcome.output
    assert (tmp_path / "end.data").exists()
    said = [line for line in outcome.output.splitlines() if "the run stops on step" in line]
    assert len(said) == 1 and f"on step {stop}:" in said[0]
    file = np.loadtxt(tmp_path / "model_devi.out", ndmin=2)
    assert file[-1, 0] == stop and len(file) == stop + 1
    assert "MPI_Abort" not in outcome.output and "ERROR" not in outcome.output


def recomputed(path: Path, models, level: float | None = None) -> list[tuple[int, float, float]]:
    """Step, stated and recomputed largest deviation of each frame of an extxyz file."""
    import ase.io
    from deepmd.infer import DeepPot, calc_model_devi

    potentials = [DeepPot(models[name]) for name in ENSEMBLE]
    found = []
    for atoms in ase.io.read(path, index=":"):
        types = [["O", "H"].index(symbol) for symbol in atoms.get_chemical_symbols()]
        cell = atoms.cell.array if atoms.pbc.any() else None
        table = calc_model_devi(atoms.positions, cell, types, potentials, atomic=True)
        np.testing.assert_allclose(atoms.arrays["devi_f"], table[0, 8:], rtol=1e-8)
        assert atoms.arrays["id"].tolist() == sorted(atoms.arrays["id"])
        found.append((atoms.info["step"], atoms.info["max_devi_f"], table[0, 4]))
    return found


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_selected_frames_are_those_between_the_levels_and_can_be_recomputed(ranks, run, models, tmp_path):
    table = rising(tmp_path, run)
    low, high = level_above(table, 6), level_above(table, 15)
    run(f"out_freq 2 select {low:.15g} {high:.15g} picked.extxyz", "run 20", ranks)
    file = np.loadtxt(tmp_path / "model_devi.out")
    even = table[::2]
    expected = even[(even[:, 1] >= low) & (even[:, 1] < high)]
    found = recomputed(tmp_path / "picked.extxyz", models)
    assert 0 < len(found) < len(file) and [step for step, *_ in found] == expected[:, 0].tolist()
    for step, stated, again in found:
        assert stated == pytest.approx(again, rel=1e-8)
        assert f"{stated:.6e}" == f"{file[file[:, 0] == step][0, 4]:.6e}"


@pytest.mark.parametrize("frame", ["skewed", "molecule"])
def test_a_data_folder_of_selected_frames_is_read_by_dp_and_dpdata(frame, run, frames, models, tmp_path):
    import dpdata
    from deepmd.data import load_systems
    from deepmd.infer import DeepPot, calc_model_devi

    run("out_freq 2 select 0 1e9 picked", "run 8", 2, frame)
    file = np.loadtxt(tmp_path / "model_devi.out")
    (folder,) = (tmp_path / "picked").iterdir()
    counts = np.bincount(frames[frame].types)
    assert folder.name == f"O{counts[0]}H{counts[1]}"
    assert np.load(folder / "set.000/step.npy").tolist() == file[:, 0].tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(np.load(folder / "set.000/max_devi_f.npy"), file[:, 4], rtol=1e-6)
    (system,) = load_systems(str(tmp_path / "picked"), type_map=["O", "H"])
    data = system.frames(range(5))
    potentials = [DeepPot(models[name]) for name in ENSEMBLE]
    table = calc_model_devi(data["positions"], data["cell"], data["types"][0], potentials)
    np.testing.assert_allclose(table[:, 4], file[:, 4], rtol=1e-6)
    read = dpdata.System(str(folder), fmt="deepmd/npy")
    assert read.get_nframes() == 5 and read["atom_names"] == ["O", "H"] and read.nopbc == (frame == "molecule")
    np.testing.assert_allclose(read["coords"], data["positions"], atol=1e-12)


def test_parameters_go_along_with_selected_frames(frames, models, tmp_path):
    import ase.io

    frame = frames["skewed"]
    write_data(make_job("water", frame, "x"), tmp_path / "water.data")
    script = START.format(models=f"{models['aparam']} {models['aparam']}", words="{words}", boundary="")
    for target in ("picked", "picked.extxyz"):
        words = f"fparam 0.4 aparam 0.25 out_freq 1 select 0 1 {target}"
        outcome = run_lammps(script.format(words=words) + MOVE + "run 1", tmp_path, 2)
        assert outcome.status == 0, outcome.output[-2000:]
    (folder,) = (tmp_path / "picked").iterdir()
    n = len(frame.types)
    assert (np.load(folder / "set.000/aparam.npy") == np.full((2, n), 0.25)).all()
    assert (np.load(folder / "set.000/fparam.npy") == [[0.4], [0.4]]).all()
    atoms = ase.io.read(tmp_path / "picked.extxyz", index="-1")
    assert atoms.info["fparam"] == 0.4 and (atoms.arrays["aparam"] == 0.25).all()


@pytest.mark.parametrize("target", ["picked", "picked.extxyz"])
def test_a_continued_run_leaves_neither_doubled_nor_lost_rows_and_frames(target, run, models, tmp_path):
    import ase.io

    words = f"out_freq 2 select 0 1e9 {target}"
    run(words, "run 6\nwrite_restart six.restart\nrun 4")  # goes on to step 10, and is then started again from 6
    with open(tmp_path / "model_devi.out", "a") as file:
        file.write("          12   1.0")  # cut short
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    style = f"pair_style deepmd {paths} {words}\npair_coeff * * O H\nfix move all nve\ntimestep 0.0005\n"
    outcome = run_lammps(f"read_restart six.restart\n{style}run 6\nrun 2", tmp_path, 2)
    assert outcome.status == 0, outcome.output[-2000:]
    lines = (tmp_path / "model_devi.out").read_text().splitlines()
    expected = list(range(0, 15, 2))
    assert [int(line.split()[0]) for line in lines[1:]] == expected and sum(line.startswith("#") for line in lines) == 1
    if target == "picked":
        (folder,) = (tmp_path / "picked").iterdir()
        steps = np.load(folder / "set.000/step.npy")
        assert len(np.load(folder / "set.000/coord.npy")) == len(np.load(folder / "set.000/box.npy")) == len(steps)
    else:
        steps = np.array([atoms.info["step"] for atoms in ase.io.read(tmp_path / target, index=":")])
    assert steps.tolist() == expected


def test_a_new_hybrid_style_after_a_restart_goes_on_too(run, models, tmp_path):
    paths = " ".join(str(models[name]) for name in ENSEMBLE)
    hybrid = f"pair_style hybrid/overlay deepmd {paths} out_freq 2 lj/cut 4.0\npair_coeff * * deepmd O H\n"
    hybrid += "pair_coeff * * lj/cut 0.0 1.0\nfix move all nve\ntimestep 0.0005\n"
    run("out_freq 2", "run 4\nwrite_restart four.restart")
    outcome = run_lammps(f"read_restart four.restart\n{hybrid}run 4", tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    assert np.loadtxt(tmp_path / "model_devi.out")[:, 0].tolist() == [0, 2, 4, 6, 8]
    # Steps that are counted anew come behind the old rows.
    outcome = run_lammps(f"read_restart four.restart\nreset_timestep 0\n{hybrid}run 2", tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    assert np.loadtxt(tmp_path / "model_devi.out")[:, 0].tolist() == [0, 2, 4, 6, 8, 0, 2]


def test_trial_moves_leave_one_row_and_one_frame_a_step(run, models, tmp_path):
    commands = "fix swap all atom/swap 1 3 4711 5000 ke no types 1 2\nrun 5"
    run("out_freq 1 select 0 1e9 picked.extxyz", commands)
    file = np.loadtxt(tmp_path / "model_devi.out")
    assert file[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    found = recomputed(tmp_path / "picked.extxyz", models)
    assert [step for step, *_ in found] == [0, 1, 2, 3, 4, 5]
    for (_, stated, again), row in zip(found, file, strict=True):
        assert stated == pytest.approx(again, rel=1e-8) and row[4] == pytest.approx(stated, rel=1e-6)


def test_atoms_that_come_and_go(run, tmp_path):
    commands = """
region all block INF INF INF INF INF INF
fix e all evaporate 2 2 all 4711
compute d all pair deepmd
fix a all pair 1 deepmd devi_f 0
dump d all custom 1 atoms.dump id f_a
run 5
"""
    run("out_freq 1 select 0 1e9 picked", commands, 2)
    folders = sorted(path.name for path in (tmp_path / "picked").iterdir())
    assert len(folders) >= 3
    n_frames = sum(len(np.load(tmp_path / f"picked/{name}/set.000/step.npy")) for name in folders)
    assert n_frames == 6
    for table in dump_tables(tmp_path / "atoms.dump").values():
        assert (table[:, 1] > 0).all()


def test_every_door_prints_the_same_digits(run, models, tmp_path):
    """LAMMPS on one to four ranks, dp model-devi on the frames that it selected, and Python."""
    from deepmd.infer import DeepPot, calc_model_devi

    words = "out_freq 2 relative 1.0 relative_v 0.1 atomic out_file {0}.out select 0 1e9 {0}"
    for ranks in (1, 2, 3, 4):
        run(words.format(f"ranks{ranks}"), "run 6", ranks)
    texts = [(tmp_path / f"ranks{ranks}.out").read_text() for ranks in (1, 2, 3, 4)]
    assert texts[1:] == texts[:1] * 3
    rows = [line.split() for line in texts[0].splitlines()[1:]]
    paths = [str(models[name]) for name in ENSEMBLE]
    command = [find_program("dp"), "model-devi", "-m", *paths, "-s", "ranks3", "-o", "dp.out", "-f", "2"]
    outcome = run_program([*command, "--relative", "1.0", "--relative_v", "0.1", "--atomic"], tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    printed = [line.split() for line in (tmp_path / "dp.out").read_text().splitlines() if not line.startswith("#")]
    assert [row[:7] for row in printed] == [row[:7] for row in rows]
    assert [sorted(row[8:]) for row in printed] == [sorted(row[7:]) for row in rows]  # atoms stand by type there
    (folder,) = (tmp_path / "ranks2").iterdir()
    coord, cells = np.load(folder / "set.000/coord.npy"), np.load(folder / "set.000/box.npy")
    types = np.loadtxt(folder / "type.raw", dtype=int)
    potentials = [DeepPot(path) for path in paths]
    table = calc_model_devi(coord, cells, types, potentials, frequency=2, relative=1.0, relative_v=0.1)
    assert [[f"{value:.6e}" for value in row[1:7]] for row in table] == [row[1:7] for row in rows]
