"""Runs LAMMPS as a user does and reads back what it says, in eV and Angstrom.

A `Job` is one system with its commands; `run_jobs` puts many of them into one input, separated by `clear`, because
starting an engine with torch takes longer than any of these systems.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
from reference.tiny_models import Frame

# Energy of 1 eV in LAMMPS' units, and LAMMPS' factor from energy/volume to pressure (its own constants).
UNITS = {
    "metal": {"energy": 1.0, "nktv2p": 1.6021765e6, "length": 1.0},
    "real": {"energy": 0.0019872067 / 8.617343e-5, "nktv2p": 68568.415, "length": 1.0},
    "electron": {"energy": 3.16681534e-6 / 8.617343e-5, "nktv2p": 2.94210108e13, "length": 1.88972612},
}
MASSES = {"O": 15.999, "H": 1.008, "NULL": 39.948}
# Order of the nine components of centroid/stress/atom as (position, force) axes.
CENTROID = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)]
TIMEOUT = 120  # seconds; a run that hangs is a failure, no test is about speed


def find_program(name: str) -> str | None:
    """Path of an installed program, beside the interpreter or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def plain_environment() -> dict[str, str]:
    """The environment without anything that could help LAMMPS to find the plugin or its libraries."""
    unwanted = ("LAMMPS_PLUGIN_PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return {**kept, "OMP_NUM_THREADS": "1"}


def library_environment(plugin: Path) -> dict[str, str]:
    """What `lmp` sets up before it starts, for Python programs that load LAMMPS as a library."""
    found = [Path(str(p.locate())).resolve().parent for p in metadata.files("mpich") or [] if "libmpi.so" in str(p)]
    return {**plain_environment(), "LAMMPS_PLUGIN_PATH": str(plugin.parent), "LD_LIBRARY_PATH": str(found[0])}


@dataclass
class Outcome:
    """How a program ended: exit status and all that it printed."""

    status: int
    output: str


def run_program(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Outcome:
    """Runs a program to its end; one that does not end is killed with its children and fails the test."""
    with subprocess.Popen(
        command, cwd=folder, env=environment or plain_environment(), text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"{command} did not end within {TIMEOUT} s:\n{output[-2000:]}") from None
    return Outcome(process.returncode, output)


def run_lammps(script: str, folder: Path, ranks: int = 1, arguments: tuple[str, ...] = (), threads: int = 1) -> Outcome:
    """Writes `script` to in.lammps and runs `lmp` on it, through mpirun if there are several ranks."""
    (folder / "in.lammps").write_text(script)
    command = [find_program("lmp"), "-in", "in.lammps", "-log", "none", *arguments]
    if ranks > 1:
        command = [find_program("mpirun"), "-n", str(ranks), *command]
    return run_program(command, folder, {**plain_environment(), "OMP_NUM_THREADS": str(threads)})


@dataclass
class Job:
    """One system and the commands around it."""

    name: str
    positions: np.ndarray  # [n, 3] Angstrom
    types: np.ndarray  # [n] LAMMPS types, from 1
    style: str  # words behind `pair_style`
    coeff: str  # one or more pair_coeff lines
    cell: np.ndarray | None = None  # [3, 3] lower triangular
    pbc: tuple[bool, bool, bool] | None = None
    masses: list[float] = field(default_factory=lambda: [MASSES["O"], MASSES["H"]])
    units: str = "metal"
    ids: np.ndarray | None = None  # [n]
    before_box: str = ""  # such as processors
    after_box: str = ""  # such as balance, neighbor
    after_style: str = ""  # such as pair_modify
    before_run: str = ""  # such as fixes
    steps: int = 0
    run: str = ""  # instead of `run STEPS`

    @property
    def periodic(self) -> tuple[bool, bool, bool]:
        return self.pbc or ((True,) * 3 if self.cell is not None else (False,) * 3)


@dataclass
class Result:
    """eV and Angstrom; atoms in the order of their IDs."""

    energy: float
    virial: np.ndarray  # [6] xx yy zz xy xz yz
    cell: np.ndarray  # [3, 3]
    ids: np.ndarray
    types: np.ndarray  # LAMMPS types
    positions: np.ndarray
    forces: np.ndarray
    atom_energy: np.ndarray
    stress: np.ndarray  # [n, 6] virial of stress/atom
    centroid: np.ndarray  # [n, 3, 3] virial [force][position] of centroid/stress/atom


def lammps_types(frame: Frame, elements: list[str]) -> np.ndarray:
    """LAMMPS types of a frame of O and H where pair_coeff names `elements`; repeated elements take turns."""
    places = {name: [k + 1 for k, element in enumerate(elements) if element == name] for name in ("O", "H")}
    return np.array([places["OH"[t]][i % len(places["OH"[t]])] for i, t in enumerate(frame.types)])


def make_job(name: str, frame: Frame, model: str, elements: tuple[str, ...] = ("O", "H"), **options) -> Job:
    """The job that evaluates a frame; `elements` is the order of LAMMPS types."""
    return Job(
        name, frame.positions, lammps_types(frame, list(elements)), f"deepmd {model}",
        f"pair_coeff * * {' '.join(elements)}", frame.cell, frame.pbc,
        masses=[MASSES[element] for element in elements], **options,
    )  # fmt: skip


def write_data(job: Job, path: Path) -> None:
    """A LAMMPS data file with 17 digits; without a cell the box is drawn around the atoms."""
    length, n = UNITS[job.units]["length"], len(job.positions)
    positions = job.positions * length
    if job.cell is None:
        low, high = positions.min(axis=0) - 0.5, positions.max(axis=0) + 0.5
        tilt = None
    else:
        cell = np.asarray(job.cell) * length
        assert np.allclose(cell, np.tril(cell)), "LAMMPS wants a lower triangular cell"
        low, high = np.zeros(3), np.diag(cell).copy()
        tilt = (cell[1, 0], cell[2, 0], cell[2, 1])
        for a in range(3):
            if not job.periodic[a]:
                low[a], high[a] = positions[:, a].min() - 0.5, positions[:, a].max() + 0.5
    lines = ["made for a test", "", f"{n} atoms", f"{len(job.masses)} atom types", ""]
    lines += [f"{low[a]:.17g} {high[a]:.17g} {axis}lo {axis}hi" for a, axis in enumerate("xyz")]
    if tilt is not None and any(tilt):
        lines.append("{:.17g} {:.17g} {:.17g} xy xz yz".format(*tilt))
    lines += ["", "Masses", "", *[f"{k + 1} {mass:.17g}" for k, mass in enumerate(job.masses)]]
    ids = np.arange(1, n + 1) if job.ids is None else job.ids
    atoms = zip(ids, job.types, positions, strict=True)
    lines += ["", "Atoms # atomic", "", *["{} {} {:.17g} {:.17g} {:.17g}".format(i, t, *r) for i, t, r in atoms]]
    path.write_text("\n".join(lines) + "\n")


COLUMNS = ["id", "type", "xu", "yu", "zu", "fx", "fy", "fz", "c_pa"]
NUMBERS = ["pe", "vol", "lx", "ly", "lz", "xy", "xz", "yz", *[f"c_p[{k}]" for k in range(1, 7)]]
COLUMNS += [f"c_s[{k}]" for k in range(1, 7)] + [f"c_c[{k}]" for k in range(1, 10)]


def job_script(job: Job) -> str:
    """The commands of one job; it writes NAME.dump and NAME.numbers."""
    boundary = " ".join("p" if flag else "s" for flag in job.periodic)
    numbers = " ".join(f"$({word}:%.17g)" for word in NUMBERS)
    return f"""
units {job.units}
atom_style atomic
atom_modify map array
boundary {boundary}
{job.before_box}
box tilt large
read_data {job.name}.data
{job.after_box}
pair_style {job.style}
{job.coeff}
{job.after_style}
compute pa all pe/atom pair
compute s all stress/atom NULL virial
compute c all centroid/stress/atom NULL virial
compute p all pressure NULL virial
thermo_style custom step pe vol lx ly lz xy xz yz c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]
{job.before_run}
dump d all custom {max(1, job.steps)} {job.name}.dump {" ".join(COLUMNS)}
dump_modify d sort id format float %.17g
{job.run or f"run {job.steps}"}
print "{numbers}" file {job.name}.numbers
"""


def read_result(job: Job, folder: Path) -> Result:
    """What a job wrote at its last step."""
    unit = UNITS[job.units]
    energy, volume, lx, ly, lz, xy, xz, yz, *pressure = np.loadtxt(folder / f"{job.name}.numbers")
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]) / unit["length"]
    text = (folder / f"{job.name}.dump").read_text().splitlines()
    start = max(k for k, line in enumerate(text) if line.startswith("ITEM: ATOMS"))
    table = np.array([line.split() for line in text[start + 1 :]], dtype=float).reshape(-1, len(COLUMNS))
    per_atom = -table[:, 9:] / unit["nktv2p"] / unit["energy"]
    centroid = np.zeros((len(table), 3, 3))
    for k, (position, force) in enumerate(CENTROID):
        centroid[:, force, position] = per_atom[:, 6 + k]
    return Result(
        energy / unit["energy"], np.array(pressure) * volume / unit["nktv2p"] / unit["energy"],
        cell, table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:5] / unit["length"],
        table[:, 5:8] / unit["energy"] * unit["length"], table[:, 8] / unit["energy"], per_atom[:, :6], centroid,
    )  # fmt: skip


def run_jobs(jobs: list[Job], folder: Path, ranks: int = 1, threads: int = 1) -> dict[str, Result]:
    """Runs all jobs in one LAMMPS and returns their results by name."""
    for job in jobs:
        write_data(job, folder / f"{job.name}.data")
    outcome = run_lammps("\nclear\n".join(job_script(job) for job in jobs), folder, ranks, threads=threads)
    assert outcome.status == 0, outcome.output[-3000:]
    return {job.name: read_result(job, folder) for job in jobs}


def six(virial: np.ndarray) -> np.ndarray:
    """xx yy zz xy xz yz of [..., 3, 3], symmetrised."""
    virial = np.asarray(virial)
    return np.stack(
        [virial[..., a, a] for a in range(3)]
        + [0.5 * (virial[..., a, b] + virial[..., b, a]) for a, b in ((0, 1), (0, 2), (1, 2))],
        axis=-1,
    )
