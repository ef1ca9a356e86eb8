"""What the benchmarks run on: data, trained models and start structures, made by script and kept in `run`.

Everything is a function of fixed seeds. Water is the standard DFT set where it is found, else that of `examples/lmp`;
copper is fcc, labelled with the effective-medium potential of ASE.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import HERE, our_bin, run

WATER_STEPS, OBSERVER_STEPS, COPPER_STEPS, QUICK_STEPS = 8000, 2500, 3000, 200
OBSERVERS = ("water_1", "water_2", "water_3")
SEEDS = {"water": 1, "water_1": 11, "water_2": 21, "water_3": 31, "copper": 1}
COPPER_LATTICE, COPPER_FRAMES = 3.61, 40  # Angstrom
MASSES = {"O": 15.9994, "H": 1.008, "Cu": 63.546}


@dataclass
class Structure:
    """Atoms in a periodic box with orthogonal edges."""

    type_map: list[str]
    types: np.ndarray  # int [n]
    positions: np.ndarray  # float64 [n, 3], Angstrom
    box: np.ndarray  # float64 [3], Angstrom

    def repeated(self, times: tuple[int, int, int]) -> Structure:
        """The same, `times` along each edge."""
        shifts = np.stack(np.meshgrid(*[np.arange(n) for n in times], indexing="ij"), -1).reshape(-1, 3) * self.box
        positions = (shifts[:, None] + self.positions).reshape(-1, 3)
        return Structure(self.type_map, np.tile(self.types, len(shifts)), positions, self.box * np.array(times))

    def write(self, path: Path) -> None:
        """As a LAMMPS data file."""
        edges = "".join(f"0 {edge:.10f} {a}lo {a}hi\n" for edge, a in zip(self.box, "xyz", strict=True))
        masses = "".join(f"{k + 1} {MASSES[name]}\n" for k, name in enumerate(self.type_map))
        rows = zip(self.types, self.positions, strict=True)
        atoms = "".join(f"{k + 1} {t + 1} {x:.12g} {y:.12g} {z:.12g}\n" for k, (t, (x, y, z)) in enumerate(rows))
        path.write_text(
            f"benchmark\n\n{len(self.types)} atoms\n{len(self.type_map)} atom types\n\n{edges}\n"
            f"Masses\n\n{masses}\nAtoms # atomic\n\n{atoms}"
        )


def cache(quick: bool = False) -> Path:
    """Where models and data are kept; `DEEPMD_BENCHMARK_CACHE` names another folder."""
    folder = Path(os.environ.get("DEEPMD_BENCHMARK_CACHE") or HERE / "run")
    folder = folder / "quick" if quick else folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shared_data() -> Path | None:
    """The folder of the shared data, if there is one."""
    folder = Path(os.environ.get("DEEPMD_SHARED_DATA") or HERE.parent.parent / "shared" / "data").resolve()
    return folder if folder.is_dir() else None


def water_systems() -> tuple[list[str], list[str], str]:
    """Folders to train on and to test on, and what they are."""
    data = shared_data()
    if data and (data / "water" / "data").is_dir():
        folders = [str(data / "water" / "data" / f"data_{k}") for k in range(4)]
        return folders[:3], folders[3:], "DFT water (the standard set)"
    data = HERE.parent / "examples" / "lmp" / "data"
    return [str(data / "train")], [str(data / "valid" / "liquid_27")], "GFN1-xTB water (examples/lmp)"


def read_frames(system: str, n_frames: int) -> list[Structure]:
    """The first frames of an npy system."""
    folder = Path(system)
    names, types = (folder / "type_map.raw").read_text().split(), np.loadtxt(folder / "type.raw", dtype=int)
    order = ["O", "H"] if set(names) == {"O", "H"} else names
    types = np.array([order.index(names[t]) for t in types])
    first = sorted(folder.glob("set.*"))[0]
    positions, boxes = np.load(first / "coord.npy")[:n_frames], np.load(first / "box.npy")[:n_frames]
    edges = boxes.reshape(-1, 3, 3).diagonal(axis1=1, axis2=2).astype(float)
    return [
        Structure(order, types, p.reshape(-1, 3).astype(float) % box, box)
        for p, box in zip(positions, edges, strict=True)
    ]


def repeats(n_start: int, n_atoms: int) -> tuple[int, int, int]:
    """How often to repeat a box of `n_start` atoms along each edge to have `n_atoms`: the three as equal as can be."""
    if n_atoms % n_start:
        sys.exit(f"benchmarks: {n_atoms} atoms are no multiple of {n_start}; choose another size")
    total = n_atoms // n_start
    triples = [(a, b, total // a // b) for a in range(1, total + 1) if total % a == 0
               for b in range(a, total // a + 1) if total // a % b == 0]  # fmt: skip
    return min((t for t in triples if t[2] >= t[1]), key=lambda t: t[2] - t[0])


def start(model: str, n_atoms: int) -> Structure:
    """A start structure: a held-out water frame repeated, or fcc copper with thermal displacements of 300 K."""
    if model.startswith("water"):
        one = read_frames(water_systems()[1][0], 1)[0]
        return one.repeated(repeats(len(one.types), n_atoms))
    cells = round((n_atoms / 4) ** (1 / 3))
    if 4 * cells**3 != n_atoms:
        sys.exit(f"benchmarks: {n_atoms} atoms are no cube of fcc cells; take 864, 4000, ...")
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * COPPER_LATTICE
    cell = Structure(["Cu"], np.zeros(4, int), corners, np.full(3, COPPER_LATTICE))
    crystal = cell.repeated((cells, cells, cells))
    crystal.positions = crystal.positions + np.random.default_rng(7).normal(0, 0.08, crystal.positions.shape)
    crystal.positions %= crystal.box
    return crystal


def error_frames(model: str) -> list[Structure]:
    """Frames on which forces are compared; the smallest benchmark size."""
    if model.startswith("water"):
        return read_frames(water_systems()[1][0], 4)
    frames = [start("copper", 864) for _ in range(2)]
    for k, frame in enumerate(frames):
        scale = (0.97, 1.02)[k]
        frame.positions, frame.box = frame.positions * scale, frame.box * scale
    return [start("copper", 864), *frames]


def copper_data() -> Path:
    """A system of strained fcc copper between 300 and 600 K; made on first use."""
    target = cache() / "copper_data"
    if (target / "set.000" / "energy.npy").exists():
        return target
    from ase import units
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    rng = np.random.default_rng(5)
    frames = []
    for k in range(COPPER_FRAMES // 4):
        atoms = bulk("Cu", "fcc", a=COPPER_LATTICE, cubic=True) * (3, 3, 3)
        strain = np.eye(3) * rng.uniform(0.96, 1.04) + rng.uniform(-0.03, 0.03, (3, 3)) * (k % 3 > 0)
        atoms.set_cell(atoms.cell @ (strain + strain.T) / 2, scale_atoms=True)
        atoms.calc = EMT()
        kelvin = 300 + 300 * k / (COPPER_FRAMES // 4 - 1)
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=rng)
        motion = Langevin(atoms, 4 * units.fs, temperature_K=kelvin, friction=0.02, rng=rng)
        for _ in range(4):
            motion.run(25)
            frames.append((atoms.positions.ravel().copy(), atoms.cell.array.ravel().copy(),
                           atoms.get_potential_energy(), atoms.get_forces().ravel()))  # fmt: skip
    (target / "set.000").mkdir(parents=True, exist_ok=True)
    (target / "type_map.raw").write_text("Cu\n")
    np.savetxt(target / "type.raw", np.zeros(len(atoms), int), fmt="%d")
    for name, values in zip(("coord", "box", "energy", "force"), zip(*frames, strict=True), strict=True):
        np.save(target / "set.000" / f"{name}.npy", np.array(values))
    return target


def training_input(model: str, steps: int, seed: int, precision: str = "float64") -> dict:
    """The standard input of the family's manuals for water; the same nets with an 8 A cutoff for copper."""
    water = model.startswith("water")
    systems = water_systems()[0] if water else [str(copper_data())]
    descriptor = {"sel": [46, 92], "rcut": 6.0} if water else {"sel": [500], "rcut": 8.0}
    return {
        "model": {
            "type_map": ["O", "H"] if water else ["Cu"],
            "descriptor": {"type": "se_e2_a", **descriptor, "rcut_smth": 0.5, "neuron": [25, 50, 100],
                           "axis_neuron": 16, "resnet_dt": False, "type_one_side": True, "precision": precision,
                           "seed": seed},
            "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "precision": precision, "seed": seed + 1},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5, "decay_steps": max(steps // 100, 1)},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
                 "start_pref_v": 0, "limit_pref_v": 0},
        "training": {"training_data": {"systems": systems, "batch_size": 1}, "numb_steps": steps, "seed": seed + 2,
                     "disp_freq": 100, "save_freq": max(steps // 4, 1)},
    }  # fmt: skip


def trained(model: str, quick: bool = False) -> Path:
    """The frozen model of that name, float64 and uncompressed; trained on first use (quick: a few steps only)."""
    full = cache() / model / "graph.pth"
    if full.exists():
        return full
    folder = cache(quick) / model
    if (folder / "graph.pth").exists():
        return folder / "graph.pth"
    steps = {"water": WATER_STEPS, "copper": COPPER_STEPS}.get(model, OBSERVER_STEPS)
    steps = QUICK_STEPS if quick else steps
    folder.mkdir(parents=True, exist_ok=True)
    print(f"training {model}, {steps} steps, in {folder} ...", flush=True)
    (folder / "input.json").write_text(json.dumps(training_input(model, steps, SEEDS[model]), indent=1))
    run([our_bin() / "dp", "train", "input.json"], folder, threads=1)
    run([our_bin() / "dp", "freeze", "-o", "graph.pth"], folder, threads=1)
    for checkpoint in folder.glob("model.ckpt*"):
        checkpoint.unlink()
    return folder / "graph.pth"
