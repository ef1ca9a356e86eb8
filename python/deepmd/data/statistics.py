"""Statistics that a new model starts from: widths of the environment rows, energy bias, parameter scales."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from deepmd.data.graph import Batch
from deepmd.errors import DataError
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.rows import Environment

log = logging.getLogger(__name__)
SMALLEST_STD = 1e-2
UNSEEN_STD = 0.1


def set_statistics(model: EnergyModel, batches: list[Batch], protect: float = 1e-2) -> None:
    """Fills the model's input statistics and energy bias from sampled batches (in place)."""
    set_row_statistics(model, batches)
    set_parameter_statistics(model, batches, protect)
    set_energy_bias(model, batches)


def set_row_statistics(model: EnergyModel, batches: Iterable[Batch]) -> None:
    """davg and dstd of the rows per centre type, over all slots, empty slots counting as zeros.

    Radial entry: mean and standard deviation; angular entries: pooled, mean kept at zero. Standard deviations below
    0.01 become 0.01; a type that was not seen gets mean 0 and 0.1.
    """
    for environment in model.descriptor.environments():
        fill_environment(environment, batches)


def fill_environment(environment: Environment, batches: Iterable[Batch]) -> None:
    """The same for one cutoff; pairs beyond it count as empty slots."""
    n_types, n_slots = environment.n_types, environment.n_slots
    sums = np.zeros((n_types, 5))  # atoms, sum r, sum r^2, sum a, sum a^2
    keep = environment.keep.numpy()
    for batch in batches:
        rows = environment.raw_rows(torch.from_numpy(batch.vectors)).numpy()
        centre, neighbour = batch.types[batch.centers], batch.types[batch.neighbor]
        rows = rows * keep[centre, neighbour][:, None]
        sums[:, 0] += np.bincount(batch.types, minlength=n_types)
        columns = (rows[:, 0], rows[:, 0] ** 2, rows[:, 1:].sum(axis=1), (rows[:, 1:] ** 2).sum(axis=1))
        for k, column in enumerate(columns):
            sums[:, 1 + k] += np.bincount(centre, weights=column, minlength=n_types)
    seen = sums[:, 0] > 0
    n = np.maximum(sums[:, 0], 1.0) * n_slots
    mean_r, mean_a = sums[:, 1] / n, sums[:, 3] / (3 * n)
    std_r = np.sqrt(np.maximum(sums[:, 2] / n - mean_r**2, 0.0))
    std_a = np.sqrt(np.maximum(sums[:, 4] / (3 * n) - mean_a**2, 0.0))
    std = np.where(seen[:, None], np.maximum(np.stack([std_r, std_a], axis=1), SMALLEST_STD), UNSEEN_STD)
    davg = np.zeros((n_types, environment.row_width))
    if not environment.set_davg_zero:
        davg[:, 0] = np.where(seen, mean_r, 0.0)
    environment.davg.copy_(torch.from_numpy(davg))
    environment.dstd.copy_(torch.from_numpy(std[:, [0, 1, 1, 1][: environment.row_width]].copy()))


def set_parameter_statistics(model: EnergyModel, batches: list[Batch], protect: float) -> None:
    """Mean and inverse standard deviation of fparam (over frames) and aparam (over atoms)."""
    for name, dim in (("fparam", model.fitting.dim_fparam), ("aparam", model.fitting.dim_aparam)):
        if dim == 0:
            continue
        values = np.concatenate([batch.labels[name].reshape(-1, dim) for batch in batches])
        getattr(model.fitting, f"{name}_avg").copy_(torch.from_numpy(values.mean(axis=0)))
        std = np.maximum(values.std(axis=0), protect)
        getattr(model.fitting, f"{name}_inv_std").copy_(torch.from_numpy(1.0 / std))


def set_energy_bias(model: EnergyModel, batches: list[Batch]) -> None:
    """Energy per type: least squares of frame energies on composition, or means of atomic energies where labelled."""
    bias = fit_bias(model, batches, [batch.labels["energy"].reshape(-1) for batch in batches])
    if bias is None:
        log.warning("no energy labels in the sampled data: the energy bias starts at zero")
        return
    model.out_bias.copy_(torch.from_numpy(bias))


def change_bias(model: EnergyModel, batches: list[Batch], predict: Any) -> np.ndarray:
    """Adds the least-squares fit of (label - prediction) to the bias; predict(batch) -> energies [n_frames]."""
    residuals = [batch.labels["energy"].reshape(-1) - predict(batch) for batch in batches]
    bias = fit_bias(model, batches, residuals, preset=False)
    if bias is None:
        raise DataError(
            "change of the energy bias: the data hold no energies; expected energy.npy in at least one system"
        )
    model.out_bias.add_(torch.from_numpy(bias))
    return bias


def fit_bias(
    model: EnergyModel, batches: list[Batch], targets: list[np.ndarray], preset: bool = True
) -> np.ndarray | None:
    """argmin |A x - y| with A the atom counts [n_frames, n_types]; minimum norm where compositions leave it open."""
    n_types = model.n_types
    counts, energies = [], []
    atom_sum, atom_count = np.zeros(n_types), np.zeros(n_types)
    for batch, target in zip(batches, targets, strict=True):
        if batch.found["atom_ener"] and preset:
            atom_sum += np.bincount(batch.types, weights=batch.labels["atom_ener"].reshape(-1), minlength=n_types)
            atom_count += np.bincount(batch.types, minlength=n_types)
        if batch.found["energy"]:
            for k in range(batch.n_frames):
                counts.append(np.bincount(batch.types[batch.frame == k], minlength=n_types))
                energies.append(target[k])
    fixed = (model.section.get("preset_out_bias") or {}).get("energy") if preset else None
    fixed = [None] * n_types if fixed is None else fixed
    known = np.array([0.0 if value is None else float(value) for value in fixed])
    if energies:
        a, y = np.asarray(counts, dtype=np.float64), np.asarray(energies) - np.asarray(counts) @ known
        a[:, [value is not None for value in fixed]] = 0.0
        bias = np.linalg.lstsq(a, y, rcond=model.fitting.section.get("rcond"))[0] + known
    elif atom_count.any() or any(value is not None for value in fixed):
        bias = known
    else:
        return None
    measured = (atom_count > 0) & np.array([value is None for value in fixed])
    bias[measured] = atom_sum[measured] / atom_count[measured]
    return bias
