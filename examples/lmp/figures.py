"""Draw the figures of this example from what run.sh has left in a folder: `python figures.py run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from trajectory import radial_distribution, read_beads, read_dump

BLUE, ORANGE, GREY = "#1f5fa8", "#d9772b", "#888888"
FEMTOSECONDS_PER_STEP = 0.5


def learning_curve(axes: Axes, run: Path) -> None:
    """Force and energy errors of training and validation batches against the step."""
    curve = np.genfromtxt(run / "train" / "lcurve.out", names=True)
    for key, label, colour in (("rmse_f", "force (eV/Å)", BLUE), ("rmse_e", "energy (eV/atom)", ORANGE)):
        axes.semilogy(curve["step"], curve[f"{key}_trn"], color=colour, alpha=0.35, lw=1)
        axes.semilogy(curve["step"], curve[f"{key}_val"], color=colour, lw=1.5, label=label)
    axes.set(xlabel="training step", ylabel="RMSE", title="learning curve (light: training)")
    axes.legend(frameon=False)


def parity(axes: Axes, data: np.ndarray, prediction: np.ndarray, unit: str, title: str) -> None:
    """Prediction against label, with the root mean square error in the corner."""
    error = np.sqrt(np.mean((prediction - data) ** 2))
    low, high = min(data.min(), prediction.min()), max(data.max(), prediction.max())
    axes.plot([low, high], [low, high], color=GREY, lw=1)
    axes.plot(data, prediction, ".", color=BLUE, ms=3, alpha=0.5, rasterized=True)
    axes.set(xlabel=f"GFN1-xTB ({unit})", ylabel=f"model ({unit})", title=title)
    axes.text(0.05, 0.95, f"RMSE {error:.3g} {unit}", transform=axes.transAxes, va="top")


def energy_parity(axes: Axes, run: Path) -> None:
    """Energies per atom, measured from the mean of the labels."""
    data, prediction = np.loadtxt(run / "test" / "detail.e_peratom.out", ndmin=2).T * 1000.0
    parity(axes, data - data.mean(), prediction - data.mean(), "meV/atom", "energies of held-out frames")


def force_parity(axes: Axes, run: Path) -> None:
    """All force components of the held-out frames."""
    table = np.loadtxt(run / "test" / "detail.f.out")
    parity(axes, table[:, :3].ravel(), table[:, 3:].ravel(), "eV/Å", "forces on held-out frames")


def virial_parity(axes: Axes, run: Path) -> None:
    """All virial components of the held-out frames, per atom."""
    table = np.loadtxt(run / "test" / "detail.v_peratom.out")
    parity(axes, table[:, :9].ravel(), table[:, 9:].ravel(), "eV/atom", "virials of held-out frames")


def distribution(pair: tuple[str, str], top: float) -> Callable[[Axes, Path], None]:
    """A function that draws g(r) of `pair` with classical nuclei (LAMMPS) and quantum nuclei (i-PI)."""

    def draw(axes: Axes, run: Path) -> None:
        classical = read_dump(run / "lammps" / "water.dump")
        classical = classical.after(int(classical.steps[len(classical.steps) // 3]))
        beads = read_beads(sorted((run / "pimd").glob("pimd.pos_*.xyz")))
        beads = beads.after(int(beads.steps.max()) // 2)
        for trajectory, label, colour in ((classical, "classical nuclei", BLUE), (beads, "path integral", ORANGE)):
            axes.plot(*radial_distribution(trajectory, pair), color=colour, lw=1.5, label=label)
        axes.axhline(1.0, color=GREY, lw=0.5)
        axes.set(xlabel="r (Å)", ylabel="g(r)", title=f"{pair[0]}-{pair[1]} distances", xlim=(0.5, None), ylim=(0, top))
        axes.legend(frameon=False)

    return draw


def read_thermo(log: Path) -> list[np.ndarray]:
    """The tables that LAMMPS printed, one structured array for each `run`."""
    tables, names, rows = [], None, []
    for line in log.read_text().splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            names, rows = words, []
        elif words[:2] == ["Loop", "time"] and names:
            tables.append(np.array([tuple(row) for row in rows], dtype=[(name, float) for name in names]))
            names = None
        elif names and len(words) == len(names) and words[0].isdigit():
            rows.append([float(word) for word in words])
    return tables


def energy_conservation(axes: Axes, run: Path) -> None:
    """Total and potential energy of the run at constant energy, in meV per atom."""
    table = read_thermo(run / "lammps" / "log.lammps")[-1]
    time = (table["Step"] - table["Step"][0]) * FEMTOSECONDS_PER_STEP / 1000.0
    n_atoms = len(read_dump(run / "lammps" / "water.dump").elements)
    potential, total = (1000.0 * (table[key] - table[key][0]) / n_atoms for key in ("PotEng", "TotEng"))
    axes.plot(time, potential, color=ORANGE, lw=1, label="potential")
    axes.plot(time, total, color=BLUE, lw=1.5, label="total")
    axes.set(xlabel="time (ps)", ylabel="change of energy (meV/atom)", title="constant energy run in LAMMPS")
    axes.margins(y=0.3)
    axes.legend(frameon=False, loc="upper right", ncols=2)


FIGURES: dict[str, Callable[[Axes, Path], None]] = {
    "learning_curve": learning_curve,
    "energy_parity": energy_parity,
    "force_parity": force_parity,
    "virial_parity": virial_parity,
    "rdf_OO": distribution(("O", "O"), 4.5),
    "rdf_OH": distribution(("O", "H"), 4.0),
    "energy_conservation": energy_conservation,
}
OVERVIEW = ("learning_curve", "force_parity", "energy_conservation", "energy_parity", "rdf_OO", "rdf_OH")


def draw_all(run: Path) -> list[Path]:
    """Write each figure and the overview to run/figures and return their paths."""
    folder = run / "figures"
    folder.mkdir(exist_ok=True)
    made = []
    for name, draw in FIGURES.items():
        figure, axes = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
        draw(axes, run)
        made.append(folder / f"{name}.png")
        figure.savefig(made[-1], dpi=150)
        plt.close(figure)
    figure, grid = plt.subplots(2, 3, figsize=(12.0, 7.0), layout="constrained")
    for name, axes in zip(OVERVIEW, grid.flat, strict=True):
        FIGURES[name](axes, run)
    made.append(folder / "overview.png")
    figure.savefig(made[-1], dpi=90)
    return made


if __name__ == "__main__":
    for path in draw_all(Path(sys.argv[1])):
        print(path)
