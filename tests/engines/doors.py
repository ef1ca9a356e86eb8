"""The doors to a frozen model: each takes a case (a model and its frames) and returns {frame name: results}.

Results are energy, forces [n, 3], virial [3, 3], atom_energy [n], atom_virial [n, 3, 3], as far as the door has them;
`virial_six` (xx, yy, zz, xy, xz, yz, symmetrised) where an engine knows no more. A frame that a door cannot express is
left out. A new door is a function and a line in DOORS.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ipi_fixtures import installed_command
from ipi_server import Connection, meet
from lammps_run import MASSES, Job, run_jobs
from reference.dp_numpy import complete_cell
from reference.tiny_models import Frame, Options

HERE = Path(__file__).resolve().parent
SKIN = 1.0
Results = dict[str, dict[str, np.ndarray]]


@dataclass
class Case:
    """A model, its neutral tree, its frozen file, and frames."""

    options: Options
    tree: dict[str, Any]
    path: Path
    frames: dict[str, Frame]


Door = Callable[[Case, Path], Results]


# ---------------------------------------------------------------------------------------------------------- Python


def through_module(module: Any, case: Case) -> Results:
    """A torch module, eager or scripted, with pairs from the compiled list."""
    from deepmd.nn.frames import evaluate, find_pairs

    rcut = case.options.rcut
    return {
        name: evaluate(module, find_pairs(f.positions, f.cell, rcut, f.pbc), f.types, f.fparam, f.aparam)
        for name, f in case.frames.items()
    }


def torch_eager(case: Case, folder: Path) -> Results:
    from deepmd.nn.model import deserialize

    return through_module(deserialize(case.tree).eval(), case)


def torchscript(case: Case, folder: Path) -> Results:
    import torch

    return through_module(torch.jit.load(str(case.path)), case)


def core(path: str, precision: str = "float64") -> Door:
    """The core by one of its paths."""

    def door(case: Case, folder: Path) -> Results:
        from deepmd.core import Model

        model = Model(str(case.path), path=path, precision=precision)
        assert model.path_in_use == path
        return {name: model.evaluate(**frame.as_input(), atomic=True) for name, frame in case.frames.items()}

    return door


def compressed(exact: bool, door: Door) -> Door:
    """Another door for the compressed model."""

    def through(case: Case, folder: Path) -> Results:
        from deepmd.compress import Options as How
        from deepmd.compress import compress_file

        path = folder / "compressed.pth"
        compress_file(case.path, path, How(exact=exact))
        return door(replace(case, path=path), folder)

    return through


def core_with_kept_list(case: Case, folder: Path) -> Results:
    """The list is built for other positions, and used again for the frame's own."""
    from deepmd.core import Model, Neighbors

    model, results = Model(str(case.path)), {}
    for name, frame in case.frames.items():
        kept = Neighbors(case.options.rcut, SKIN)
        displaced = frame.positions + 0.2 * np.sin(np.arange(frame.positions.size)).reshape(-1, 3)
        kept.update(displaced, frame.cell, frame.pbc)
        results[name] = model.evaluate(**frame.as_input(), atomic=True, neighbors=kept)
    return results


@dataclass
class Ghosts:
    """What an MD engine hands over: local atoms, then their images near them, and a full list without shifts."""

    positions: np.ndarray  # [n_all, 3]
    owner: np.ndarray  # [n_all]
    first: np.ndarray  # [n_local + 1]
    index: np.ndarray


def with_ghosts(frame: Frame, reach: float) -> Ghosts:
    """All images within ``reach`` of a local atom, and for each local atom all atoms within it."""
    local, n = frame.positions, len(frame.positions)
    shifts = np.zeros((1, 3))
    if frame.cell is not None:
        pbc = np.ones(3, dtype=bool) if frame.pbc is None else np.array(frame.pbc)
        cell = complete_cell(frame.cell, pbc)
        inverse = np.linalg.inv(cell)
        span = np.ptp(local @ inverse, axis=0)
        counts = np.where(pbc, np.ceil(reach * np.linalg.norm(inverse, axis=0) + span), 0).astype(int)
        shifts = np.array(list(itertools.product(*(range(-k, k + 1) for k in counts)))) @ cell
        shifts = shifts[np.argsort((shifts**2).sum(axis=1), kind="stable")]  # the local atoms come first
    positions = (shifts[:, None] + local).reshape(-1, 3)
    owner = np.tile(np.arange(n), len(shifts))
    distances = np.linalg.norm(positions[None] - local[:, None], axis=-1)
    kept = (distances < reach).any(axis=0)
    kept[:n] = True
    distances = distances[:, kept]
    near = distances < reach
    near[np.arange(n), np.arange(n)] = False
    first = np.concatenate([[0], np.cumsum(near.sum(axis=1))])
    return Ghosts(positions[kept], owner[kept], first, np.nonzero(near)[1].astype(np.int32))


def core_with_ghosts(case: Case, folder: Path, path: str = "auto", has_rows: bool = True) -> Results:
    """As an MD engine calls: ghosts carry the periodicity, their shares go to the owners; with a list or without."""
    from deepmd.core import Model

    model, results = Model(str(case.path), path=path), {}
    for name, frame in case.frames.items():
        ghosts, n = with_ghosts(frame, case.options.rcut + SKIN), len(frame.types)
        result = model.evaluate(
            ghosts.positions, frame.types[ghosts.owner], fparam=frame.fparam, aparam=frame.aparam, atomic=True,
            n_local=n, list=(ghosts.first, ghosts.index) if has_rows else case.options.rcut + SKIN,
        )  # fmt: skip
        for key, shape in (("forces", (n, 3)), ("atom_virial", (n, 3, 3))):
            folded = np.zeros(shape)
            np.add.at(folded, ghosts.owner, np.reshape(result[key], (-1, *shape[1:])))
            result[key] = folded
        results[name] = result
    return results


def deep_pot(case: Case, folder: Path) -> Results:
    from deepmd.infer import DeepPot

    model, results = DeepPot(case.path), {}
    names = ("energy", "forces", "virial", "atom_energy", "atom_virial")
    for name, f in case.frames.items():
        arrays = model.eval(f.positions, f.cell, f.types, True, f.fparam, f.aparam, pbc=f.pbc)
        results[name] = dict(zip(names, arrays, strict=True))
    return results


def ase_calculator(case: Case, folder: Path) -> Results:
    from ase import Atoms
    from deepmd.calculator import DP

    calculator, results = DP(case.path), {}
    for name, f in case.frames.items():
        pbc = f.cell is not None if f.pbc is None else f.pbc
        atoms = Atoms([case.options.type_map[t] for t in f.types], f.positions, cell=f.cell, pbc=pbc)
        atoms.info = {"fparam": f.fparam, "aparam": f.aparam}
        atoms.calc = calculator
        results[name] = {
            "energy": atoms.get_potential_energy(), "forces": atoms.get_forces(),
            "atom_energy": atoms.get_potential_energies(),
        }  # fmt: skip
        if f.cell is not None:
            stress = atoms.get_stress()[[0, 1, 2, 5, 4, 3]]
            results[name]["virial_six"] = -stress * atoms.get_volume()
    return results


# -------------------------------------------------------------------------------------------------------- C and C++


@functools.cache
def build_program(language: str, name: str = "evaluate", library_name: str = "deepmd") -> Path:
    """Compiles one of door_programs against the installed headers and library; skips without a compiler."""
    from deepmd import core as installed

    compilers = {"c": ("CC", "cc", "-std=c99"), "cpp": ("CXX", "c++", "-std=c++11")}
    variable, usual, standard = compilers[language]
    compiler = os.environ.get(variable) or shutil.which(usual)
    if compiler is None:
        pytest.skip(f"there is no compiler {usual}")
    library = installed.library_folder()
    folder = Path(tempfile.mkdtemp(prefix="doors"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = folder / f"{name}_{language}"
    command = [
        *compiler.split(), standard, "-O1", "-Wall", "-Wextra", "-Werror", f"-I{installed.include_folder()}",
        str(HERE / "door_programs" / f"{name}.{language}"), "-o", str(program), f"-L{library}", f"-l{library_name}",
        f"-Wl,-rpath,{library}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return program


def run_compiled(program: Path, case: Case, folder: Path, names: list[str]) -> Results:
    """Writes the frames, runs the program, reads five lines of numbers for each frame."""
    path = write_frames(case.frames, folder, names)
    done = subprocess.run([program, case.path, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [np.array(line.split(), dtype=float) for line in done.stdout.splitlines()]
    keys = ("energy", "forces", "virial", "atom_energy", "atom_virial")
    assert len(rows) == len(keys) * len(names), done.stdout[-1000:]
    return {name: dict(zip(keys, rows[5 * k : 5 * k + 5], strict=True)) for k, name in enumerate(names)}


def write_frames(frames: dict[str, Frame], folder: Path, names: list[str]) -> Path:
    """The file that the programs read."""
    lines = [str(len(names))]
    for name in names:
        f = frames[name]
        pbc = (True,) * 3 if f.pbc is None else f.pbc
        lines.append(f"{len(f.types)} {int(f.cell is not None)} " + " ".join(str(int(flag)) for flag in pbc))
        lines.append(text(np.zeros(9) if f.cell is None else f.cell))
        lines += [" ".join(map(str, f.types)), text(f.positions)]
        for values in (f.fparam, f.aparam):
            lines.append("0" if values is None else f"{np.size(values)} {text(values)}")
    path = folder / "frames.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def text(values: np.ndarray) -> str:
    return " ".join(f"{value:.17g}" for value in np.ravel(values))


def c_interface(case: Case, folder: Path) -> Results:
    return run_compiled(build_program("c"), case, folder, list(case.frames))


def box_or_none(case: Case) -> list[str]:
    """Frames for the interfaces that have a box that is periodic everywhere, or none."""
    return [name for name, frame in case.frames.items() if frame.pbc is None]


def cpp_skin(case: Case, folder: Path) -> Results:
    return run_compiled(build_program("cpp", library_name="deepmd_cc"), case, folder, box_or_none(case))


def documented_c(case: Case, folder: Path) -> Results:
    """The C interface of DeePMD-kit."""
    return run_compiled(build_program("c", "documented", "deepmd_c"), case, folder, box_or_none(case))


# --------------------------------------------------------------------------------------------------------- engines


def lammps_job(name: str, f: Frame, case: Case, choice: str = "", grid: str = "") -> Job:
    """The job that evaluates a frame by the model of a case."""
    keywords = choice + ("" if f.fparam is None else f" fparam {text(f.fparam)}")
    keywords += "" if f.aparam is None else f" aparam {text(f.aparam[0])}"
    return Job(
        name, f.positions, f.types + 1, f"deepmd {case.path}{keywords}",
        f"pair_coeff * * {' '.join(case.options.type_map)}", f.cell, f.pbc,
        masses=[MASSES[element] for element in case.options.type_map], before_box=grid,
        after_box="neighbor 0.5 nsq" if len(f.types) < 3 else "",
    )  # fmt: skip


def lammps(ranks: int, grids: tuple[str, ...], choice: str = "") -> Door:
    """LAMMPS on so many ranks; the processor grids take turns over the frames. choice: keywords of the pair style."""

    def door(case: Case, folder: Path) -> Results:
        jobs = [lammps_job(name.replace(" ", "_"), f, case, choice, grids[k % len(grids)])
                for k, (name, f) in enumerate(case.frames.items())]  # fmt: skip
        found = run_jobs(jobs, folder, ranks)
        results = {}
        for name, job in zip(case.frames, jobs, strict=True):
            r = found[job.name]
            results[name] = {
                "energy": r.energy, "forces": r.forces, "virial_six": r.virial, "atom_energy": r.atom_energy,
                "atom_virial": r.centroid,
            }  # fmt: skip
        return results

    return door


def dp_ipi(case: Case, folder: Path, **choice: str) -> Results:
    """The installed client against a server that sends the frame once; one client for each frame."""
    command, results = installed_command(), {}
    for name, f in case.frames.items():
        settings: dict[str, Any] = {
            "verbose": False, "graph_file": str(case.path), "coord_file": "coord.xyz", "n_threads": 1,
            "atom_type": {element: k for k, element in enumerate(case.options.type_map)},
            "pbc": False if f.cell is None else [bool(flag) for flag in f.pbc or (True,) * 3], **choice,
        }  # fmt: skip
        if f.fparam is not None:
            settings["fparam"] = list(map(float, f.fparam))
        if f.aparam is not None:
            settings["aparam"] = list(map(float, f.aparam[0]))
        answers: list[dict] = []

        def script(connection: Connection, f: Frame = f, answers: list[dict] = answers) -> None:
            connection.start()
            connection.posdata(np.diag([80.0] * 3) if f.cell is None else f.cell, f.positions)
            assert connection.status() == "HAVEDATA"
            answers.extend(connection.getforce())
            connection.header("EXIT")

        outcome = meet(command, settings, folder, [script], [case.options.type_map[t] for t in f.types])
        assert outcome.failure is None and outcome.code == 0, f"{name}: {outcome.failure} {outcome.err}"
        results[name] = {key: answers[0][key] for key in ("energy", "forces", "virial")}
    return results


DOORS: dict[str, Door] = {
    "torch eager": torch_eager,
    "TorchScript": torchscript,
    "core, fused": core("fused"),
    "core, script": core("script"),
    "core, mixed": core("fused", "mixed"),
    "core, exact": compressed(True, core("fused")),
    "core, spectral": compressed(False, core("fused")),
    "core, spectral, mixed": compressed(False, core("fused", "mixed")),
    "core, cuda": core("cuda"),
    "core, cuda, mixed": core("cuda", "mixed"),
    "core, cuda, spectral": compressed(False, core("cuda")),
    "core, kept list": core_with_kept_list,
    "core, ghosts": core_with_ghosts,
    "core, ghosts, no list": functools.partial(core_with_ghosts, has_rows=False),
    "core, cuda, ghosts, no list": functools.partial(core_with_ghosts, path="cuda", has_rows=False),
    "DeepPot": deep_pot,
    "ASE": ase_calculator,
    "C": c_interface,
    "C++": cpp_skin,
    "C of DeePMD-kit": documented_c,
    "LAMMPS, 1 rank": lammps(1, ("",)),
    "LAMMPS, 2 ranks": lammps(2, ("processors 1 1 2", "processors 2 1 1")),
    "LAMMPS, 3 ranks": lammps(3, ("processors 3 1 1", "processors 1 1 3", "processors 1 3 1")),
    "LAMMPS, 4 ranks": lammps(4, ("processors 1 4 1", "processors 2 1 2", "")),
    "LAMMPS, script": lammps(2, ("",), " path script"),
    "LAMMPS, mixed": lammps(2, ("",), " path fused precision mixed"),
    "LAMMPS, cuda, 1 rank": lammps(1, ("",), " path cuda"),
    "LAMMPS, cuda": lammps(3, ("processors 3 1 1", "processors 1 1 3", "processors 1 3 1"), " path cuda"),
    "LAMMPS, spectral": compressed(False, lammps(2, ("",))),
    "dp_ipi": dp_ipi,
    "dp_ipi, script": functools.partial(dp_ipi, path="script"),
    "dp_ipi, cuda": functools.partial(dp_ipi, path="cuda"),
    "dp_ipi, spectral": compressed(False, dp_ipi),
}
# Doors that promise less than rounding: names of their tolerances.
TOLERANCE_OF = {name: "mixed precision" for name in DOORS if "mixed" in name}
TOLERANCE_OF |= {name: "spectral compression" for name in DOORS if name.endswith("spectral")}
TOLERANCE_OF |= {name: "exact compression" for name in DOORS if name.endswith("exact")}
NEEDS_LAMMPS = tuple(name for name in DOORS if name.startswith("LAMMPS"))


def write_summary(rows: dict[str, Any], path: str | os.PathLike) -> None:
    """The table as JSON, for who wants to keep it."""
    Path(path).write_text(json.dumps(rows, indent=1) + "\n")
