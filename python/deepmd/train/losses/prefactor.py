"""Prefactors that follow the learning rate, and the means that losses are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One term of a loss: prefactors at the start and at the limit of vanishing learning rate."""

    start: float
    limit: float

    @property
    def active(self) -> bool:
        return self.start != 0.0 or self.limit != 0.0

    def weight(self, ratio: float) -> float:
        """ratio: present learning rate over the starting one."""
        return self.limit + (self.start - self.limit) * ratio


def active_terms(section: dict[str, Any], names: Any) -> dict[str, Term]:
    """The terms of a loss section whose prefactors are not both zero."""
    terms = {k: Term(float(section.get(f"start_pref_{k}", 0)), float(section.get(f"limit_pref_{k}", 0))) for k in names}
    return {k: term for k, term in terms.items() if term.active}


def tensor_of(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def huber(difference: Tensor, delta: float) -> Tensor:
    """Mean of x^2 / 2 for |x| <= delta, delta (|x| - delta / 2) beyond."""
    size = difference.abs()
    return torch.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).mean()
