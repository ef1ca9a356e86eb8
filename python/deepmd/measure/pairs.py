"""Labels beside predictions, and what is said of their differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


def detail_path(prefix: str, suffix: str) -> Path:
    """A detail file. A prefix that ends in `.out` loses it; other dots belong to the name (water_0.5, water_0.6)."""
    return Path(prefix.removesuffix(".out") + suffix)


@dataclass
class Pairs:
    """Labels and predictions of one quantity: [n_rows, n_components] each, and optional weights of the rows."""

    data: np.ndarray
    pred: np.ndarray
    weight: np.ndarray | None = None
    rows_of_frames: list[int] = field(default_factory=list)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels and predictions frame by frame."""
        ends = np.cumsum(self.rows_of_frames)[:-1]
        yield from zip(np.split(self.data, ends), np.split(self.pred, ends), strict=True)

    @property
    def size(self) -> int:
        return self.data.size

    def mae(self) -> float:
        """Mean absolute error over all values."""
        return self._mean(np.abs(self.pred - self.data))

    def rmse(self) -> float:
        """Root of the mean square error over all values."""
        return float(np.sqrt(self._mean((self.pred - self.data) ** 2)))

    def _mean(self, values: np.ndarray) -> float:
        if self.weight is None:
            return float(values.mean())
        total = self.weight.sum() * values.shape[1]
        return float((values * self.weight[:, None]).sum() / total) if total else 0.0


@dataclass
class Collector:
    """Gathers labels and predictions of the frames of one system."""

    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    weights: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, key: str, data: Any, pred: Any, n_components: int, weight: Any = None) -> None:
        """One frame of a quantity; n_components: numbers in a row. weight: one number a row."""
        entry = (np.reshape(data, (-1, n_components)), np.reshape(pred, (-1, n_components)))
        self.rows.setdefault(key, []).append(entry)
        if weight is not None:
            self.weights.setdefault(key, []).append(np.ravel(weight))

    def pairs(self) -> dict[str, Pairs]:
        result = {}
        for key, rows in self.rows.items():
            data, pred = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
            weight = np.concatenate(self.weights[key]) if key in self.weights else None
            result[key] = Pairs(data, pred, weight, [len(part) for part, _ in rows])
        return result


@dataclass(frozen=True)
class Quantity:
    """How a quantity is reported: the words of its lines with {} for MAE or RMSE, its unit, and its errors by name."""

    form: str
    unit: str = ""
    errors: tuple[str, ...] = ("MAE", "RMSE")
    width: int = 0  # of the words, where it is not that of the other lines


def lines_of(quantities: dict[str, Quantity], errors: dict[str, tuple[float, float]], width: int) -> list[str]:
    """The documented lines for {quantity: (MAE, RMSE)}; scripts look for the words, blanks included."""
    lines = []
    for key, quantity in quantities.items():
        if key not in errors:
            continue
        for name, value in zip(("MAE", "RMSE"), errors[key], strict=True):
            if name in quantity.errors:
                words = quantity.form.format(name).ljust(quantity.width or width)
                lines.append(f"{words}: {value:e} {quantity.unit}".rstrip())
    return lines
