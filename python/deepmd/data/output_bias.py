"""The bias of each type that a model adds to what its network gives: fitted to labels, or moved to new ones.

Values of frames are fitted by composition, argmin |A x - y| with A the atom counts (fractions for means); where the
compositions leave it open, the solution of minimum norm is taken. Atomic labels decide by their means where they exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deepmd.data.graph import Batch
from deepmd.errors import DataError

log = logging.getLogger(__name__)

LABELS = {
    "energy": ("energy", "atom_ener"),
    "spin": ("energy", "atom_ener"),
    "masked": ("energy", ""),
    "pairwise_dprc": ("energy", ""),
    "polar": ("polarizability", "atomic_polarizability"),
    "dos": ("dos", "atom_dos"),
}
"""Label of a frame and of an atom by kind of model. Dipoles have no bias."""


@dataclass
class Fit:
    """Bias [n_types, width] and the spread of what it leaves [width]."""

    bias: np.ndarray
    spread: np.ndarray


def labels_of(model: Any) -> tuple[str, str] | None:
    """The labels that the bias is fitted to."""
    facts = model.facts()
    if facts.kind == "property":
        return facts.output["name"], ""
    return LABELS.get(facts.kind)


def set_output_bias(model: Any, batches: list[Batch]) -> None:
    """Fits the bias of a new model, and for properties the spread that its outputs are measured in."""
    names = labels_of(model)
    if names is None:
        return
    if not hasattr(model, "fitting"):
        set_composite_bias(model, batches)
        return
    fitting = model.fitting
    if not model.fittings():
        return  # a frozen model keeps its bias
    if model.facts().kind == "property" and not fitting.distinguish_types:
        set_common_scale(model, batches, names[0])
        return
    fit = fit_bias(model, batches, preset=True)
    if fit is None:
        log.warning("no labels (%s) in the sampled data: the bias of the model starts at zero", names[0])
        return
    store(model, fit.bias)
    if model.facts().kind == "property":
        model.out_std.copy_(torch.from_numpy(np.where(fit.spread > 0, fit.spread, 1.0)).expand_as(model.out_std))


def set_composite_bias(model: Any, batches: list[Batch]) -> None:
    """Fits what tables and sums of models leave of the labels; a sum of frozen models stays as it is."""
    from deepmd.nn.plain import FrameEngine, PlainEngine

    if getattr(model, "frozen", None) and all(model.frozen):
        return
    if not any(batch.found.get("energy") for batch in batches):
        log.warning("no energies in the sampled data: the bias of the model starts at zero")
        return
    engine = FrameEngine(model) if hasattr(model, "energy_of_frames") else PlainEngine(model)
    change_bias(model, batches, lambda batch: engine(batch, with_forces=False).energy.detach().numpy())


def set_common_scale(model: Any, batches: list[Batch], name: str) -> None:
    """Mean and spread of a property over frames, one pair for all types; per atom if the property is a sum."""
    intensive = model.facts().output["reduce"] == "mean"
    values = []
    for batch in batches:
        n = 1.0 if intensive else batch.atoms_per_frame[:, None]
        values.append(batch.labels[name].reshape(batch.n_frames, -1) / n)
    stacked = np.concatenate(values)
    spread = stacked.std(axis=0)
    model.out_bias.copy_(torch.from_numpy(stacked.mean(axis=0)).expand_as(model.out_bias))
    model.out_std.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)).expand_as(model.out_std))


def change_bias(model: Any, batches: list[Batch], predict: Callable[[Batch], Any]) -> np.ndarray:
    """Adds the fit of (label - prediction) to the bias; predict(batch) -> values of the frames [n_frames, ...]."""
    names = labels_of(model)
    if names is None:
        return np.zeros((model.n_types, 0))
    residuals = [
        batch.labels[names[0]].reshape(batch.n_frames, -1) - np.reshape(predict(batch), (batch.n_frames, -1))
        for batch in batches
    ]
    fit = fit_bias(model, batches, residuals)
    if fit is None:
        raise DataError(
            f"change of the bias: the data hold no {names[0]}; expected {names[0]}.npy in at least one system"
        )
    store(model, fit.bias, add=True)
    return fit.bias


def store(model: Any, bias: np.ndarray, add: bool = False) -> None:
    """Writes a fitted bias; a polarisability multiplies its shift by `scale`, so the stored one is divided by it."""
    if model.facts().kind == "polar":
        bias = bias / model.fitting.scale.numpy()[:, None]
    values = torch.from_numpy(np.ascontiguousarray(bias)).reshape(model.out_bias.shape)
    model.out_bias.copy_(model.out_bias + values if add else values)


def fit_bias(
    model: Any, batches: list[Batch], targets: list[np.ndarray] | None = None, preset: bool = False
) -> Fit | None:
    """targets: what to fit instead of the labels, for each batch [n_frames, width]; preset: honour preset_out_bias."""
    name, atom_name = labels_of(model)
    n_types = model.n_types
    mean_of_atoms = model.facts().output.get("reduce") == "mean"
    rows, values, atoms = [], [], AtomMeans(n_types)
    for k, batch in enumerate(batches):
        if atom_name and targets is None and batch.found.get(atom_name):
            atoms.add(batch.types, batch.labels[atom_name])
        if batch.found.get(name):
            target = batch.labels[name] if targets is None else targets[k]
            counts = composition(batch, n_types, model.counted(batch) if hasattr(model, "counted") else None)
            rows.append(counts / counts.sum(axis=1, keepdims=True) if mean_of_atoms else counts)
            values.append(np.reshape(target, (batch.n_frames, -1)))
    known = known_values(model) if preset else [None] * n_types
    given = np.array([0.0 if value is None else value for value in known])[:, None]
    fixed = np.array([value is not None for value in known])
    if rows:
        a, y = np.concatenate(rows), np.concatenate(values)
        fit = solve(model, a, y - a @ np.broadcast_to(given, (n_types, y.shape[1])), fixed)
        fit.bias = fit.bias + given
    elif atoms.any or fixed.any():
        width = atoms.width or 1
        fit = Fit(np.broadcast_to(given, (n_types, width)).copy(), np.zeros(width))
    else:
        return None
    measured = atoms.seen & ~fixed
    fit.bias[measured] = atoms.means()[measured]
    return fit


def solve(model: Any, a: np.ndarray, y: np.ndarray, fixed: np.ndarray) -> Fit:
    """Least squares by composition without the types that are fixed or that the model leaves out."""
    out = fixed | ~selected(model)
    a = a.copy()
    a[:, out] = 0.0
    bias = np.linalg.lstsq(a, y, rcond=model.fittings()[0].section.get("rcond") if model.fittings() else None)[0]
    return Fit(bias, (y - a @ bias).std(axis=0))


def selected(model: Any) -> np.ndarray:
    """Types that a tensor model predicts something for [n_types] bool; all of them for other kinds."""
    chosen = model.facts().output.get("sel_type")
    return np.isin(np.arange(model.n_types), chosen) if chosen is not None else np.ones(model.n_types, dtype=bool)


def known_values(model: Any) -> list[float | None]:
    """`preset_out_bias` of the energy, one entry per type."""
    preset = (model.section.get("preset_out_bias") or {}).get("energy")
    return [None] * model.n_types if preset is None else [None if v is None else float(v) for v in preset]


def composition(batch: Batch, n_types: int, counted: np.ndarray | None = None) -> np.ndarray:
    """Atoms of each type in each frame [n_frames, n_types]; counted [n_atoms]: 0 for atoms that are not there."""
    cells = batch.frame.astype(np.int64) * n_types + batch.types
    counts = np.bincount(cells, weights=counted, minlength=batch.n_frames * n_types)
    return counts.reshape(batch.n_frames, n_types).astype(np.float64)


class AtomMeans:
    """Means of atomic labels by type."""

    def __init__(self, n_types: int):
        self.count = np.zeros(n_types)
        self.sum: np.ndarray | None = None

    def add(self, types: np.ndarray, labels: np.ndarray) -> None:
        values = labels.reshape(len(types), -1)
        total = np.zeros((len(self.count), values.shape[1]))
        np.add.at(total, types, values)
        self.sum = total if self.sum is None else self.sum + total
        self.count += np.bincount(types, minlength=len(self.count))

    @property
    def any(self) -> bool:
        return self.sum is not None

    @property
    def width(self) -> int:
        return 0 if self.sum is None else self.sum.shape[1]

    @property
    def seen(self) -> np.ndarray:
        return self.count > 0

    def means(self) -> np.ndarray:
        if self.sum is None:
            return np.zeros((len(self.count), 1))
        return self.sum / np.maximum(self.count, 1.0)[:, None]
