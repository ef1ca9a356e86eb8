"""Figures: predicted against reference values, and the learning curve. Files only, no window is opened."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import InputError

log = logging.getLogger(__name__)

MAX_POINTS = 20000  # more points of one panel are thinned out; the errors in its title are over all of them

# Quantity -> title, axis label, unit, unit of the errors, factor to that unit.
PARITY_PANELS = {
    "energy_per_atom": ("Energy per atom", "energy", "eV/atom", "meV/atom", 1e3),
    "force": ("Force components", "force", "eV/Å", "meV/Å", 1e3),
    "virial_per_atom": ("Virial components per atom", "virial", "eV/atom", "meV/atom", 1e3),
    "atom_energy": ("Atomic energies", "energy", "eV", "meV", 1e3),
    "total": ("Values of frames", "value", "unit of the label", "", 1.0),
    "atomic": ("Values of atoms", "value", "unit of the label", "", 1.0),
}
# Column of lcurve.out without _val or _trn -> label of the axis.
CURVE_PANELS = {
    "rmse": "total RMSE",
    "rmse_e": "energy RMSE (eV/atom)",
    "rmse_f": "force RMSE (eV/Å)",
    "rmse_v": "virial RMSE (eV/atom)",
    "rmse_ae": "atomic energy RMSE (eV)",
    "mae_e": "energy MAE (eV/atom)",
    "mae_f": "force MAE (eV/Å)",
    "mae_v": "virial MAE (eV/atom)",
}


def _figure(n_panels: int, width: float) -> tuple[Any, list[Any]]:
    """A figure without a window (the Agg canvas) and its panels in one row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n_panels, width * 0.95), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(1, n_panels, squeeze=False)))


def parity(values: Mapping[str, tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """Predicted against reference values, one panel for each quantity of `PARITY_PANELS`.

    values: {quantity: (reference, predicted)}, flat arrays.
    """
    panels = [key for key in PARITY_PANELS if key in values and len(values[key][0])]
    if not panels:
        raise InputError("there is nothing to plot: the data hold neither energies nor forces nor virials")
    figure, axes = _figure(len(panels), 4.4)
    for key, axis in zip(panels, axes, strict=True):
        _parity_panel(axis, key, *values[key])
    figure.savefig(path, dpi=150)


def _parity_panel(axis: Any, key: str, data: np.ndarray, pred: np.ndarray) -> None:
    title, name, unit, small, factor = PARITY_PANELS[key]
    error = pred - data
    mae, rmse = np.abs(error).mean() * factor, np.sqrt((error**2).mean()) * factor
    shown = slice(None)
    if len(data) > MAX_POINTS:
        shown = np.random.default_rng(0).choice(len(data), MAX_POINTS, replace=False)
    low, high = min(data.min(), pred.min()), max(data.max(), pred.max())
    margin = 0.05 * (high - low) or 0.05
    ends = [low - margin, high + margin]
    axis.plot(ends, ends, color="0.6", linewidth=1.0, zorder=1)
    axis.scatter(data[shown], pred[shown], s=6, alpha=0.4, linewidths=0, color="#1f5fa8", zorder=2, rasterized=True)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.set_xlabel(f"reference {name} ({unit})")
    axis.set_ylabel(f"predicted {name} ({unit})")
    axis.set_title(f"{title}\nMAE {mae:.3g}, RMSE {rmse:.3g} {small}", fontsize=10)
    axis.ticklabel_format(useOffset=False)
    axis.locator_params(nbins=5)


def read_lcurve(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a learning curve by name. Where a restart has changed the columns, rows with the last ones."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; dp train writes it as lcurve.out")
    names: list[str] = []
    rows: dict[tuple[str, ...], list[list[float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.lstrip("# ").split()
        if words[:1] == ["step"]:
            names = words
        elif not line.startswith("#") and len(words) == len(names) > 0:
            with contextlib.suppress(ValueError):
                rows.setdefault(tuple(names), []).append([float(word) for word in words])
    if not rows.get(tuple(names)):
        raise InputError(f"{path} holds no learning curve; expected the columns step, rmse_..., lr")
    return dict(zip(names, np.array(rows[tuple(names)]).T, strict=True))


def learning_curve(lcurve: str | Path, path: str | Path) -> None:
    """Training and validation errors and the learning rate against the step, on logarithmic axes."""
    columns = read_lcurve(lcurve)
    parts = {name: re.fullmatch(r"(.+?)_(trn|val)(_.+)?", name) for name in columns}
    stems = dict.fromkeys(part[1] + (part[3] or "") for part in parts.values() if part)  # with the name of a task
    panels = [*stems, "lr"] if "lr" in columns else list(stems)
    figure, axes = _figure(len(panels), 4.2)
    for stem, axis in zip(panels, axes, strict=True):
        curves = {"": "lr"} if stem == "lr" else {
            {"trn": "training", "val": "validation"}[part[2]]: name
            for name, part in parts.items() if part and part[1] + (part[3] or "") == stem
        }  # fmt: skip
        for name, column in curves.items():
            if column in columns and np.isfinite(columns[column]).any():
                style = {"color": "#c4571a", "zorder": 3} if name == "validation" else {"color": "#1f5fa8", "zorder": 2}
                line = {"linewidth": 1.2, "marker": ".", "markersize": 3, **style}
                axis.plot(columns["step"], columns[column], label=name, **line)
        axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel("learning rate" if stem == "lr" else CURVE_PANELS.get(stem, stem))
        axis.grid(True, which="both", color="0.9", linewidth=0.6)
        if stem != "lr" and axis.lines:
            axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(args: argparse.Namespace) -> None:
    """``dp plot LCURVE``: draws the learning curve of a training run."""
    source = Path(getattr(args, "INPUT", None) or "lcurve.out")
    target = Path(getattr(args, "output", None) or source.with_suffix(".png"))
    learning_curve(source, target)
    log.info("learning curve written to %s", target)
