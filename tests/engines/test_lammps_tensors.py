"""compute deeptensor/atom against the core, on one rank and on several, and the temperatures of fix ttm/grid."""

from __future__ import annotations

from pathlib import Path

import lammps_run
import numpy as np
import pytest
from checks import assert_close
from lammps_run import make_job
from reference.tiny_models import make_frames
from reference.tiny_outputs import make_output_model

WIDTHS = {"dipole": 3, "polar": 9}


@pytest.fixture(scope="module")
def tensors(plugin, tmp_path_factory) -> dict[str, Path]:
    from deepmd.freeze import freeze_model

    folder = tmp_path_factory.mktemp("tensors")
    for kind in WIDTHS:
        freeze_model(make_output_model(kind), folder / f"{kind}.pth")
    freeze_model(make_output_model("dipole", "dpa2"), folder / "messages.pth")
    freeze_model(make_output_model("dos"), folder / "dos.pth")
    return {path.stem: path for path in folder.glob("*.pth")}


def tensor_job(name: str, frame, model: Path, tensors: dict[str, Path], kinds: list[str], **options):
    """A run that dumps the tensors of the atoms to NAME.tensors."""
    columns = {kind: WIDTHS.get(kind, 3) for kind in kinds}
    words = " ".join(f"c_{kind}[{k + 1}]" for kind, width in columns.items() for k in range(width))
    computes = "\n".join(f"compute {kind} all deeptensor/atom {tensors[kind]}" for kind in columns)
    dump = f"dump t all custom 1 {name}.tensors id {words}\ndump_modify t sort id format float %.17g"
    return make_job(name, frame, str(model), before_run=f"{computes}\n{dump}", **options)


def read_tensors(path: Path) -> np.ndarray:
    text = path.read_text().splitlines()
    start = max(k for k, line in enumerate(text) if line.startswith("ITEM: ATOMS"))
    return np.array([line.split()[1:] for line in text[start + 1 :]], dtype=float)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_compute_gives_the_core_s_tensors(ranks, tensors, models, tmp_path):
    from deepmd.core import Model

    frames = {name: frame for name, frame in make_frames().items() if name in ("bulk", "skewed", "slab", "molecule")}
    kinds = list(WIDTHS) + (["messages"] if ranks == 1 else [])
    jobs = [tensor_job(name, frame, models["plain"], tensors, kinds) for name, frame in frames.items()]
    lammps_run.run_jobs(jobs, tmp_path, ranks)
    opened = {kind: Model(str(tensors[kind])) for kind in kinds}
    for name, frame in frames.items():
        expected = [opened[kind].evaluate_output(**frame.as_input())["atom_output"] for kind in kinds]
        assert np.abs(expected[0]).max() > 1e-3 and not expected[0][frame.types == 1].any()
        assert_close(read_tensors(tmp_path / f"{name}.tensors"), np.concatenate(expected, axis=1), "doors")


def test_groups_lengths_and_moving_atoms(tensors, models, tmp_path):
    """Atoms outside of the group have zeros; lengths are those of LAMMPS; lists are renewed in a run."""
    from deepmd.core import Model

    frame = make_frames()["bulk"]
    path = tensors["dipole"]
    job = make_job("run", frame, str(models["plain"]), units="electron", steps=10, before_run=(
        f"group few id 1:20\ncompute t few deeptensor/atom {path}\n"
        "velocity all create 2000 3 loop geom\nfix n all nve\ntimestep 1.0\n"
        "dump t all custom 10 run.tensors id c_t[1] c_t[2] c_t[3]\n"
        "dump_modify t sort id format float %.17g"))  # fmt: skip
    result = lammps_run.run_jobs([job], tmp_path)["run"]
    found = read_tensors(tmp_path / "run.tensors")
    expected = Model(str(path)).evaluate_output(result.positions, frame.types, frame.cell)["atom_output"]
    expected[20:] = 0.0
    assert_close(found / lammps_run.UNITS["electron"]["length"], expected, "doors")


def test_what_the_compute_cannot_do_is_refused(tensors, models, run_cases, tmp_path):
    def lines(compute: str, style: str = f"deepmd {models['plain']}", coeff: str = "* * O H") -> list[str]:
        return [
            "units metal", "region box block 0 9 0 9 0 9", "create_box 2 box", "create_atoms 1 single 1 1 1",
            "create_atoms 2 single 2 1 1", "mass 1 15.999", "mass 2 1.008", f"pair_style {style}",
            f"pair_coeff {coeff}", f"compute t all deeptensor/atom {compute}", "compute s all reduce sum c_t[1]",
            "thermo_style custom step c_s pe", "run 0",
        ]  # fmt: skip

    dipole = tensors["dipole"]
    cases = {
        "right": (lines(f"{dipole}"), None),
        "elements": (lines(f"{dipole} elements O H"), None),
        "swapped": (lines(f"{dipole} elements H O"), "has a mass of O rather than H"),
        "short": (lines(f"{dipole}", "zero 3.0", "* *"), "shorter than the model's cutoff of 4.0"),
        "kind": (lines(f"{tensors['dos']}"), "predicts 'dos', expected dipole or polar"),
        "word": (lines(f"{dipole} element O H"), "unknown keyword 'element'"),
        "pair": (lines(f"{dipole}", f"deepmd {dipole}"), "predicts 'dipole', expected a model of energies"),
    }
    answers = run_cases({name: given for name, (given, _) in cases.items()})
    for name, (_, words) in cases.items():
        error = answers[name]["error"]
        assert error is None if words is None else error is not None and words in error, f"{name}: {error}"


@pytest.mark.parametrize("ranks", [1, 2])
def test_temperatures_of_electrons_come_from_fix_ttm_grid(ranks, models, tmp_path):
    """The aparam of an atom is the temperature of its cell; models without aparam get the mean as fparam."""
    from deepmd.core import Model

    frame = make_frames()["bulk"]
    n = np.array([3, 2, 4])
    rng = np.random.default_rng(5)
    temperature = rng.uniform(0.2, 0.9, n)
    rows = [f"{i + 1} {j + 1} {k + 1} {temperature[i, j, k]:.17g}" for i, j, k in np.ndindex(*n)]
    (tmp_path / "T.in").write_text("# UNITS: metal COMMENT: made for a test\n" + "\n".join(rows) + "\n")
    fix = "fix e all ttm/grid 7 1.0 1.0 0.0 1e-9 0.0 5.0 3 2 4 infile T.in"
    jobs = []
    for name, words in {"aparam": "fparam 0.4 ttm e", "default_fparam": "ttm e"}.items():
        job = make_job(name, frame, f"{models[name]} {words}", before_run=fix)
        jobs.append(job)
    results = lammps_run.run_jobs(jobs, tmp_path, ranks)
    lengths = np.diag(frame.cell)
    cells = np.floor((frame.positions / lengths % 1.0) * n).astype(int)
    aparam = temperature[tuple(cells.T)].reshape(-1, 1)
    given = {"positions": frame.positions, "types": frame.types, "cell": frame.cell}
    expected = Model(str(models["aparam"])).evaluate(**given, fparam=[0.4], aparam=aparam)
    assert_close(results["aparam"].forces, expected["forces"], "LAMMPS force")
    expected = Model(str(models["default_fparam"])).evaluate(**given, fparam=[temperature.mean()])
    assert_close(results["default_fparam"].forces, expected["forces"], "LAMMPS force")


def test_ttm_refuses_what_it_cannot_read(models, tmp_path):
    frame = make_frames()["bulk"]
    for words, before, expected in (
        ("fparam 0.4 ttm e", "", "there is no fix with ID 'e'"),
        ("fparam 0.4 ttm e", "fix e all ttm 7 1 1 0 1e-9 0 5 2 2 2 set 300", "use 'fix ttm/grid'"),
        ("fparam 0.4 aparam 1 ttm e", "", "aparam, aparam_from_compute and ttm exclude each other"),
    ):
        job = make_job("wrong", frame, f"{models['aparam']} {words}", before_run=before)
        lammps_run.write_data(job, tmp_path / "wrong.data")
        outcome = lammps_run.run_lammps(lammps_run.job_script(job), tmp_path)
        assert outcome.status != 0 and expected in outcome.output, outcome.output[-1500:]
