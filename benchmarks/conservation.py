"""Energy of water in NVE: drift per atom of our engine in each precision, beside the uncompressed script path; a plot.

The box is first brought to 330 K for a picosecond; all engines then start from the same positions and velocities. Not a
timing: as many run at once as there are cores.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import md
import numpy as np
from engines import NAMES, available
from harness import HERE, header, our_lmp, run, table
from inputs import start
from md import Engine

STEP = 0.0005  # ps
EQUILIBRATE = """velocity all create 330 4928459
fix 1 all langevin 330 330 0.1 48279
fix 2 all nve
timestep {step}
run {steps}
velocity all zero linear
write_data equilibrated.data nocoeff
"""
CONSERVE = """fix 1 all nve
timestep {step}
thermo_style custom step etotal temp
thermo_modify format 2 %.9f
thermo {every}
run {steps}
"""
N_ATOMS = 192
MEAN_OVER = 0.1  # ps; takes the bond vibrations out of the plot


def total_energies(engine: Engine, started: Path, picoseconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (ps), total energies (eV/atom) and temperatures (K) of a run in a folder of its own."""
    steps = round(picoseconds / STEP)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tail = CONSERVE.format(step=STEP, steps=steps, every=max(steps // 4000, 1))
        md.write_input(folder, engine, start("water", N_ATOMS), tail)
        text = (folder / "in.lammps").read_text()
        (folder / "in.lammps").write_text(re.sub(r"read_data \S+", f"read_data {started}", text))
        output = run([*our_lmp(), "-in", "in.lammps"], folder, threads=1, variables=engine.variables).output
    rows = re.findall(r"^\s+(\d+)\s+(-?\d+\.\d{9})\s+([\d.]+)\s*$", output, re.M)
    done, energies, kelvin = np.array(rows, float).T
    return done * STEP, energies / N_ATOMS, kelvin


def drift(times: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """Slope of the total energy (eV/atom/ps) and its fluctuation about the line (eV/atom)."""
    slope, offset = np.polyfit(times, energies, 1)
    return float(slope), float(np.std(energies - slope * times - offset))


def plot(path: Path, curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for name, (times, energies, _) in curves.items():
        block = max(1, round(MEAN_OVER / (times[1] - times[0])))
        smooth = np.convolve(energies - energies[:block].mean(), np.ones(block) / block, "valid")
        axes.plot(times[: len(smooth)] + times[block - 1] / 2, 1e6 * smooth, label=name, lw=0.9)
    axes.set(xlabel="time, ps", ylabel=f"total energy, mean over {MEAN_OVER} ps\nminus its start, ueV per atom")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=NAMES, metavar="NAME",
                        default=["spectral float64", "spectral mixed", "exact float64", "script"])  # fmt: skip
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--script-ps", type=float, default=2.0, help="of the slow script path")
    parser.add_argument("--plot", type=Path, default=HERE / "conservation.png")
    parser.add_argument("--quick", action="store_true", help="half a picosecond, barely trained models")
    args = parser.parse_args()
    if args.quick:
        args.ps = args.script_ps = 0.25
    print(header())
    engines = [e for e in available(args.engines, "water", args.quick) if e.ours]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = round((0.05 if args.quick else 1.0) / STEP)
        md.write_input(folder, engines[0], start("water", N_ATOMS), EQUILIBRATE.format(step=STEP, steps=steps))
        md.call(folder, engines[0])
        started = folder / "equilibrated.data"
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            lengths = {e.name: args.script_ps if e.slow else args.ps for e in engines}
            jobs = {e.name: pool.submit(total_energies, e, started, lengths[e.name]) for e in engines}
            curves = {name: job.result() for name, job in jobs.items()}
    rows = []
    for name, (times, energies, kelvin) in curves.items():
        slope, wobble = drift(times, energies)
        rows.append([name, f"{times[-1]:g}", f"{1e6 * slope:+.2f}", f"{1e6 * wobble:.1f}", f"{kelvin.mean():.0f}"])
    print(f"\n{N_ATOMS} water atoms, NVE, {1000 * STEP} fs")
    print(table(["engine", "ps", "drift, ueV per atom and ps", "fluctuation, ueV per atom", "mean K"], rows))
    plot(args.plot, curves)
    print(f"plot: {args.plot.name}")


if __name__ == "__main__":
    main()
