"""The picture of `dp check`: histograms of distances, forces and energies per atom."""

from __future__ import annotations

import numpy as np

from deepmd.data.inspect import BINS, FORCE_BINS, Histograms


def draw(histograms: Histograms, path: str) -> None:
    """Write the three histograms to an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    near, force, energy = figure.subplots(1, 3)
    for pair, counts in sorted(histograms.distances.items()):
        near.stairs(counts, BINS, label=pair)
    near.set(xlabel="distance (Å)", ylabel="pairs", yscale="log" if histograms.distances else "linear")
    if histograms.distances:
        near.legend(ncols=1 + len(histograms.distances) // 12, fontsize="small")
    force.stairs(histograms.forces, FORCE_BINS, fill=True)
    force.set(xlabel="force (eV/Å)", ylabel="atoms", xscale="log")
    if histograms.energies:
        energy.hist(np.concatenate(histograms.energies), bins=80)
    energy.set(xlabel="energy per atom (eV)", ylabel="frames")
    figure.savefig(path, dpi=130)
