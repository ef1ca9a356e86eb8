"""The loss of models with spins: forces on atoms and magnetic forces apart.

    fr  p mean (dF)^2 over all atoms      fm  p mean (dF_mag)^2 over the atoms of types that carry a spin
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepmd.data.graph import Batch
from deepmd.nn.spin_engine import SpinPrediction
from deepmd.train.losses.energy import TERMS, EnergyLoss


class SpinLoss(EnergyLoss):
    """See EnergyLoss; magnetic: whether each type carries a spin."""

    names = {
        **{k: TERMS[k] for k in ("e", "v", "ae", "pf")},
        "fr": ("force",),
        "fm": ("force_mag",),
    }

    def __init__(self, section: dict[str, Any], start_lr: float, magnetic: list[bool]):
        super().__init__(section, start_lr)
        self.magnetic = torch.tensor(magnetic)

    @property
    def needs_forces(self) -> bool:
        return any(k in self.terms for k in ("fr", "fm", "v", "pf"))

    def _term(self, k: str, prediction: SpinPrediction, batch: Batch) -> tuple[Tensor, Tensor]:
        if k != "fm":
            return super()._term("f" if k == "fr" else k, prediction, batch)
        chosen = self.magnetic[torch.from_numpy(batch.types.astype("int64"))]
        difference = prediction.force_mag[chosen] - torch.from_numpy(batch.labels["force_mag"])[chosen]
        return self._plain(difference if len(difference) else torch.zeros(1, dtype=torch.float64))
