#!/usr/bin/env python3
"""Add frames from the model's own dynamics to the data: `python explore.py run/freeze/graph.pth`.

A model is only good where it has data, and its own dynamics soon leads elsewhere: to arrangements that it takes for
more stable than they are. So one lets it run, labels some of the frames with the first-principles method, sees how far
it is off there, adds them to the data and trains again. This script does one such round, from liquids at all densities
and temperatures of the data. Finished runs are kept in run/explore and are not computed again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from make_data import HERE, Burst, calculator, label, plan, write_system
from tqdm import tqdm

STEPS, KEPT = 600, (200, 400, 600)  # of 1 fs
RUNS = {"train/explored_27": 12, "valid/explored_27": 4}


def starts(system: str, number: int) -> list[tuple[Burst, Atoms]]:
    """The last frames of `number` bursts of the liquids in data/`system`, with the conditions they were made at."""
    source = "liquid_27" if system.startswith("train") else "valid_27"
    bursts = [burst for burst in plan() if burst.system == source]
    folder = HERE / "data" / system.replace("explored", "liquid") / "set.000"
    coord, box = np.load(folder / "coord.npy"), np.load(folder / "box.npy")
    last = np.cumsum([len(burst.keep) for burst in bursts]) - 1
    found = []
    for index in np.linspace(0, len(bursts) - 1, number).astype(int):
        positions, cell = coord[last[index]].reshape(-1, 3), box[last[index]].reshape(3, 3)
        found.append((bursts[index], Atoms("OHH" * (len(positions) // 3), positions, cell=cell, pbc=True)))
    return found


def explore(burst: Burst, atoms: Atoms, model: str, progress: tqdm) -> list[dict[str, np.ndarray]]:
    """Run the model from one start and label the kept frames; prints how far the model is off in each."""
    from deepmd.calculator import DP

    rng = np.random.default_rng(burst.seed + 500_000)
    atoms.calc = DP(model)
    MaxwellBoltzmannDistribution(atoms, temperature_K=burst.temperature, rng=rng)
    friction = 0.02 / units.fs
    dynamics = Langevin(atoms, timestep=units.fs, temperature_K=burst.temperature, friction=friction, rng=rng)
    frames = []
    for step in KEPT:
        dynamics.run(step - dynamics.nsteps)
        labelled = Atoms(atoms.symbols, atoms.get_positions(), cell=atoms.cell, pbc=True, calculator=calculator())
        frames.append(label(labelled))
        energy = 1000.0 * (atoms.get_potential_energy() - frames[-1]["energy"]) / len(atoms)
        force = np.sqrt(np.mean((atoms.get_forces() - frames[-1]["force"]) ** 2))
        conditions = f"{burst.density:.2f} g/cm^3 {burst.temperature:.0f} K after {step} fs"
        progress.write(f"{conditions}: energy {energy:+.1f} meV/atom, force RMSE {force:.3f} eV/Angstrom")
        progress.update()
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description="Label frames of the model's own dynamics with GFN1-xTB.")
    parser.add_argument("model", help="the frozen model, such as run/freeze/graph.pth")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder of the finished systems")
    parser.add_argument("--work", type=Path, default=HERE / "run" / "explore", help="folder of finished runs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tqdm(total=sum(RUNS.values()) * len(KEPT), unit="label") as progress:
        for system, number in RUNS.items():
            frames = []
            for burst, atoms in starts(system, number):
                store = arguments.work / f"{burst.name}.npz"
                if not store.is_file():
                    made = explore(burst, atoms, arguments.model, progress)
                    partial = store.with_suffix(".partial.npz")
                    np.savez(partial, **{key: np.stack([frame[key] for frame in made]) for key in made[0]})
                    partial.replace(store)
                else:
                    progress.update(len(KEPT))
                with np.load(store) as arrays:
                    frames.append(dict(arrays))
            write_system(arguments.out / system, frames)


if __name__ == "__main__":
    main()
