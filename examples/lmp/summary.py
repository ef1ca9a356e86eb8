"""Print the results of this example in a dozen lines from what run.sh has left in a folder: `python summary.py run`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from figures import read_thermo
from trajectory import radial_distribution, read_beads, read_dump


def tested_errors(log: str) -> list[str]:
    """One line for each system in the output of `dp test`: its errors of energy, force and virial."""
    lines = []
    for block in log.split("# testing system : ")[1:]:
        name = Path(block.split()[0])
        energy, force, virial = (
            1000.0 * float(re.search(rf"{re.escape(label)} *: *(\S+)", block)[1])
            for label in ("Energy RMSE/Natoms", "Force  RMSE", "Virial RMSE/Natoms")
        )
        values = f"energy {energy:.1f} meV/atom, force {force:.0f} meV/Å, virial {virial:.0f} meV/atom (RMSE)"
        lines.append(f"  {name.name:13} {values}")
    return lines


def highest_peak(distances: np.ndarray, values: np.ndarray, low: float) -> str:
    """Place and height of the highest peak beyond `low`."""
    beyond = distances > low
    best = np.argmax(values[beyond])
    return f"{distances[beyond][best]:.2f} Å ({values[beyond][best]:.2f})"


def summary(run: Path) -> list[str]:
    """The lines of the summary."""
    log = (run / "logs" / "test.log").read_text(errors="replace")
    curve = np.genfromtxt(run / "train" / "lcurve.out", names=True)
    lammps_log = (run / "lammps" / "log.lammps").read_text()
    constant = read_thermo(run / "lammps" / "log.lammps")[-1]
    dump = read_dump(run / "lammps" / "water.dump")
    drift = np.polyfit(constant["Step"] * 0.0005, constant["TotEng"], 1)[0] * 1000.0 / len(dump.elements)
    speed = re.findall(r"Performance: (\S+) ns/day", lammps_log)[-1]
    beads = read_beads(sorted((run / "pimd").glob("pimd.pos_*.xyz")))
    beads = beads.after(int(beads.steps.max()) // 2)
    dump = dump.after(int(dump.steps[len(dump.steps) // 3]))
    quantum = np.loadtxt(run / "pimd" / "pimd.out", ndmin=2)
    kinetic = 1000.0 * quantum[len(quantum) // 2 :, 4].mean() / len(beads.elements)
    return [
        f"training        {curve['step'][-1]:.0f} steps, see {run}/train/lcurve.out",
        "held-out frames",
        *tested_errors(log),
        f"LAMMPS          {len(dump.elements)} atoms, {speed} ns/day on 2 MPI ranks",
        f"1 and 2 ranks   {(run / 'logs' / 'ranks.log').read_text().strip()}",
        f"constant energy drift {drift:+.3f} meV/atom/ps over {np.ptp(constant['Step']) * 0.0005:.1f} ps, "
        f"mean temperature {constant['Temp'].mean():.0f} K",
        f"O-O peak        classical {highest_peak(*radial_distribution(dump, ('O', 'O')), 2.0)}, "
        f"path integral {highest_peak(*radial_distribution(beads, ('O', 'O')), 2.0)}",
        f"O-H bond        classical {highest_peak(*radial_distribution(dump, ('O', 'H')), 0.5)}, "
        f"path integral {highest_peak(*radial_distribution(beads, ('O', 'H')), 0.5)}",
        f"path integral   {len(quantum)} lines in pimd.out, kinetic energy {kinetic:.0f} meV/atom "
        f"(classical nuclei: {1.5 * 8.617333e-5 * 300 * 1000:.0f})",
        f"model           {run}/freeze/graph.pth, compressed {run}/compress/fast.pth",
        f"trajectories    {run}/lammps/water.dump, {run}/pimd/pimd.pos_*.xyz",
        f"figures         {run}/figures (overview.png shows them together)",
        f"logs            {run}/logs",
    ]


if __name__ == "__main__":
    print("\n".join(summary(Path(sys.argv[1]))))
