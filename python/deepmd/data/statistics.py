"""Statistics that a new model starts from: widths of the environment rows and scales of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from deepmd.data.graph import Batch
from deepmd.data.output_bias import set_output_bias
from deepmd.nn.rows import Environment

SMALLEST_STD = 1e-2
UNSEEN_STD = 0.1


def set_statistics(model: Any, batches: list[Batch], protect: float = 1e-2) -> None:
    """Fills the model's input statistics and output bias from sampled batches (in place)."""
    set_row_statistics(model, batches)
    set_parameter_statistics(model, batches, protect)
    set_output_bias(model, batches)


def set_row_statistics(model: Any, batches: Iterable[Batch]) -> None:
    """davg and dstd of the rows per centre type, over all slots, empty slots counting as zeros.

    Radial entry: mean and standard deviation; angular entries: pooled, mean kept at zero. Standard deviations below
    0.01 become 0.01; a type that was not seen gets mean 0 and 0.1.
    """
    for descriptor in model.descriptors():
        if hasattr(descriptor, "fill_statistics"):  # rows that are no environment
            descriptor.fill_statistics(batches)
        for environment in descriptor.environments():
            fill_environment(environment, row_batches(model, batches, descriptor))


def row_batches(model: Any, batches: Iterable[Batch], descriptor: Any) -> Iterable[Batch]:
    """The batches as a descriptor of the model sees them: with virtual atoms, or with some atoms of them only."""
    if hasattr(model, "part_batch"):
        return [model.part_batch(batch, descriptor) for batch in batches]
    return [model.row_batch(batch) for batch in batches] if hasattr(model, "row_batch") else batches


def fill_environment(environment: Environment, batches: Iterable[Batch]) -> None:
    """The same for one cutoff; pairs beyond it count as empty slots."""
    set_from_moments(environment, moments(environment, batches))


def moments(environment: Environment, batches: Iterable[Batch]) -> np.ndarray:
    """Per centre type [n_types, 5]: atoms, and sums of r, r^2, a, a^2 over the rows."""
    n_types = environment.n_types
    sums = np.zeros((n_types, 5))
    keep = environment.keep.numpy()
    for batch in batches:
        rows = environment.raw_rows(torch.from_numpy(batch.vectors)).numpy()
        centre, neighbour = batch.types[batch.centers], batch.types[batch.neighbor]
        rows = rows * keep[centre, neighbour][:, None]
        sums[:, 0] += np.bincount(batch.types, minlength=n_types)
        columns = (rows[:, 0], rows[:, 0] ** 2, rows[:, 1:].sum(axis=1), (rows[:, 1:] ** 2).sum(axis=1))
        for k, column in enumerate(columns):
            sums[:, 1 + k] += np.bincount(centre, weights=column, minlength=n_types)
    return sums


def set_from_moments(environment: Environment, sums: np.ndarray) -> None:
    """davg and dstd from `moments`, or from a weighted sum of several."""
    seen = sums[:, 0] > 0
    n = np.where(seen, sums[:, 0], 1.0) * environment.n_slots
    mean_r, mean_a = sums[:, 1] / n, sums[:, 3] / (3 * n)
    std_r = np.sqrt(np.maximum(sums[:, 2] / n - mean_r**2, 0.0))
    std_a = np.sqrt(np.maximum(sums[:, 4] / (3 * n) - mean_a**2, 0.0))
    std = np.where(seen[:, None], np.maximum(np.stack([std_r, std_a], axis=1), SMALLEST_STD), UNSEEN_STD)
    davg = np.zeros((environment.n_types, environment.row_width))
    if not environment.set_davg_zero:
        davg[:, 0] = np.where(seen, mean_r, 0.0)
    environment.davg.copy_(torch.from_numpy(davg))
    environment.dstd.copy_(torch.from_numpy(std[:, [0, 1, 1, 1][: environment.row_width]].copy()))


def set_parameter_statistics(model: Any, batches: list[Batch], protect: float) -> None:
    """Mean and inverse standard deviation of fparam (over frames) and aparam (over atoms)."""
    for fitting in model.fittings():
        fill_parameters(fitting, [(1.0, batches)], protect)


def fill_parameters(fitting: Any, weighed: list[tuple[float, list[Batch]]], protect: float) -> None:
    """The same for one fitting; weighed: weight and batches of each task that has it."""
    for name, dim in (("fparam", fitting.dim_fparam), ("aparam", fitting.dim_aparam)):
        if dim == 0:
            continue
        values = [np.concatenate([b.labels[name].reshape(-1, dim) for b in batches]) for _, batches in weighed]
        weights = np.repeat([weight for weight, _ in weighed], [len(one) for one in values])
        stacked = np.concatenate(values)
        mean = np.average(stacked, axis=0, weights=weights)
        std = np.sqrt(np.average((stacked - mean) ** 2, axis=0, weights=weights))
        getattr(fitting, f"{name}_avg").copy_(torch.from_numpy(mean))
        getattr(fitting, f"{name}_inv_std").copy_(torch.from_numpy(1.0 / np.maximum(std, protect)))
