"""Losses, one class per `loss/type`.

A loss has `labels` (fields that batches carry), `widths` (open dimensions of those), `needs_forces`, `needs_hessian`,
`reported` (columns of lcurve.out), and is called with a prediction, a batch and the learning rate.
"""

from __future__ import annotations

from typing import Any

from deepmd.errors import InputError
from deepmd.train.losses.energy import EnergyLoss
from deepmd.train.losses.outputs import DosLoss, PropertyLoss, TensorLoss
from deepmd.train.losses.spin import SpinLoss

__all__ = ["DosLoss", "EnergyLoss", "PropertyLoss", "SpinLoss", "TensorLoss", "make_loss"]

OF_KIND = {
    **{"energy": "ener", "masked": "ener", "pairwise_dprc": "ener", "spin": "ener_spin"},
    **{"dipole": "tensor", "polar": "tensor", "dos": "dos", "property": "property"},
}


def make_loss(section: dict[str, Any], start_lr: float, model: Any) -> Any:
    """The loss that fits what the model predicts; another one is refused in words."""
    facts = model.facts()
    kind, wanted = section.get("type", "ener"), OF_KIND[facts.kind]
    if kind != wanted:
        raise InputError(
            f"loss/type: got {kind!r}, expected {wanted!r}, as the model predicts '{facts.kind}'; change loss/type or "
            "model/fitting_net/type"
        )
    if kind == "ener":
        return EnergyLoss(section, start_lr)
    if kind == "ener_spin":
        return SpinLoss(section, start_lr, facts.output["use_spin"])
    if kind == "tensor":
        return TensorLoss(section, start_lr, facts.output)
    if kind == "dos":
        return DosLoss(section, start_lr, facts.output)
    return PropertyLoss(section, model)
