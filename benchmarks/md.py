"""One LAMMPS run of either program: the input, the command, and what its output says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import Timing, interleave, mpirun, our_lmp, run
from inputs import Structure
from peer import peer_bin

# Both programs read this, but for the model's name: NVE, skin 2 A, list rebuilt every 10 steps.
INPUT = """units metal
boundary p p p
atom_style atomic
atom_modify map yes
neighbor 2.0 bin
neigh_modify every 10 delay 0 check no
read_data {data}
pair_style deepmd {models}
pair_coeff * * {elements}
"""
MOTION = """velocity all create {kelvin} 23456789
fix 1 all nve
timestep {timestep}
thermo 100
run {warm}
run {steps}
"""
FORCES = """run 0
write_dump all custom forces_0 id fx fy fz modify sort id format float %.15g
"""
NEXT_FORCES = """read_dump frames.dump {k} x y z box yes
run 0
write_dump all custom forces_{k} id fx fy fz modify sort id format float %.15g
"""
LARGE = 2000  # atoms; above, few steps are enough
LOOP = re.compile(r"Loop time of (\S+) on (\d+) procs for (\d+) steps with (\d+) atoms")


@dataclass
class Engine:
    """A program with its models, as one column of a benchmark."""

    name: str
    models: tuple[Path, ...]
    ours: bool
    variables: dict[str, str] = field(default_factory=dict)  # environment, as DEEPMD_PATH
    words: str = ""  # keywords after the models in pair_style

    @property
    def slow(self) -> bool:
        """Measured once and briefly."""
        return self.name.startswith("script")


@dataclass
class Run:
    """What one LAMMPS run measured."""

    microseconds: float  # per atom and step
    split: dict[str, float]  # share of the loop time in %, by LAMMPS' sections
    memory: int  # bytes, largest process
    path: str  # what our engine says about itself
    timing: Timing


def write_input(folder: Path, engine: Engine, structure: Structure, tail: str) -> None:
    """`in.lammps` and, where it is absent, the data file beside it."""
    data = folder / f"{'-'.join(structure.type_map)}-{len(structure.types)}.data"
    if not data.exists():
        structure.write(data)
    models = " ".join([*map(str, engine.models), engine.words]).strip()
    text = INPUT.format(data=data.name, models=models, elements=" ".join(structure.type_map))
    (folder / "in.lammps").write_text(text + tail)


def call(folder: Path, engine: Engine, threads: int = 1, ranks: int = 1, check: bool = True) -> Timing:
    """Runs `in.lammps` of the folder on as many cores as ranks times threads."""
    program = our_lmp() if engine.ours else [str(peer_bin() / "lmp")]
    command = [*mpirun(program, ranks, Path(program[0]).parent), "-in", "in.lammps"]
    return run(command, folder, threads, cores=ranks * threads, variables=engine.variables, check=check)


def path_line(output: str) -> str:
    """The line in which our engine says which path, precision and instruction set it uses."""
    lines = [line.strip() for line in output.splitlines() if re.match(r"\s*(engine|path):", line)]
    return "; ".join(re.sub(r"^(engine|path):\s*", "", line) for line in lines)


def motion(folder: Path, engine: Engine, structure: Structure, steps: int, **where: int) -> Run:
    """Molecular dynamics: some steps to warm up, then `steps` timed ones."""
    warm = 2 if len(structure.types) > LARGE else min(max(steps // 5, 10), 100)
    water = "O" in structure.type_map
    tail = MOTION.format(kelvin=330 if water else 600, timestep=0.0005 if water else 0.001,
                         warm=warm, steps=steps)  # fmt: skip
    write_input(folder, engine, structure, tail)
    timing = call(folder, engine, **where)
    seconds, _, done, atoms = LOOP.findall(timing.output)[-1]
    last = timing.output.split("MPI task timing breakdown")[-1]
    split = {name: float(share) for name, share in re.findall(r"^(\w+)\s*\|.*\|\s*([\d.]+)\s*$", last, re.M)}
    cost = float(seconds) / int(done) / int(atoms) * 1e6
    return Run(cost, split, timing.memory, path_line(timing.output), timing)


def steps_for(seconds: float, cost: float, n_atoms: int) -> int:
    """Steps that take that long, a multiple of ten, for the list is rebuilt every ten."""
    return max(10, math.ceil(seconds * 1e6 / cost / n_atoms / 10) * 10)


def measure(
    folder: Path, structure: Structure, tasks: dict[str, tuple[Engine, int, int]], seconds: float, repeats: int
) -> dict[str, list[Run]]:
    """Interleaved runs of (engine, threads, ranks), each of about `seconds`."""
    n_atoms, runs, calls = len(structure.types), {name: [] for name in tasks}, {}
    for name, (engine, threads, n_ranks) in tasks.items():
        trial = motion(folder, engine, structure, 2 if n_atoms > LARGE else 10, threads=threads, ranks=n_ranks)
        steps = steps_for(seconds, trial.microseconds, n_atoms)

        def one(name=name, where=(threads, n_ranks), engine=engine, steps=steps, trial=trial) -> float:
            if engine.slow:
                runs[name].append(trial)
            else:
                runs[name].append(motion(folder, engine, structure, steps, threads=where[0], ranks=where[1]))
            return runs[name][-1].microseconds

        calls[name] = one
    interleave(calls, repeats)
    return runs


def write_frames(path: Path, frames: list[Structure]) -> None:
    """As a LAMMPS dump file whose time steps number the frames."""
    text = []
    for k, frame in enumerate(frames):
        bounds = "".join(f"0 {edge:.10f}\n" for edge in frame.box)
        text.append(f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n{len(frame.types)}\n")
        text.append(f"ITEM: BOX BOUNDS pp pp pp\n{bounds}")
        rows = zip(frame.types, frame.positions, strict=True)
        text.append("ITEM: ATOMS id type x y z\n")
        text.extend(f"{i + 1} {t + 1} {x:.12g} {y:.12g} {z:.12g}\n" for i, (t, (x, y, z)) in enumerate(rows))
    path.write_text("".join(text))


def forces(folder: Path, engine: Engine, frames: list[Structure]) -> tuple[np.ndarray, np.ndarray]:
    """Energies [n_frames] (eV) and forces [n_frames, n, 3] (eV/A) of frames of the same atoms, through LAMMPS."""
    write_frames(folder / "frames.dump", frames)
    more = "".join(NEXT_FORCES.format(k=k) for k in range(1, len(frames)))
    write_input(folder, engine, frames[0], "thermo_modify format float %.12f\n" + FORCES + more)
    output = call(folder, engine).output
    energies = re.findall(r"^\s+0\s+\S+\s+(-?[\d.]+)\s", output, re.M)
    values = [np.loadtxt((folder / f"forces_{k}").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:])[:, 1:]
              for k in range(len(frames))]  # fmt: skip
    return np.array(energies, float), np.array(values)
