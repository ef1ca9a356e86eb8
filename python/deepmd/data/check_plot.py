"""The picture of `dp check`: histograms of distances, forces and energies per atom."""

from __future__ import annotations

import numpy as np

from deepmd.data.inspection import BINS, FORCE_BINS, Histograms

_LABELLED = 10  # pairs that the legend names, the most frequent


def draw(histograms: Histograms, path: str) -> None:
    """Write the three histograms to an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    near, force, energy = figure.subplots(1, 3)
    pairs = sorted(histograms.distances, key=lambda pair: -histograms.distances[pair].sum())
    for pair in pairs:
        label = pair if pair in pairs[:_LABELLED] else None
        near.stairs(histograms.distances[pair], BINS, label=label)
    near.set(xlabel="distance (Å)", ylabel="pairs", yscale="log" if histograms.distances else "linear")
    if histograms.distances:
        near.legend(fontsize="small")
    force.stairs(histograms.forces, FORCE_BINS, fill=True)
    force.set(xlabel="force (eV/Å)", ylabel="atoms", xscale="log")
    if histograms.energies:
        energy.hist(np.concatenate(histograms.energies), bins=80)
    energy.set(xlabel="energy per atom (eV)", ylabel="frames")
    figure.savefig(path, dpi=130)
