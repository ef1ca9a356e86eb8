"""Losses of tensors, densities of states and properties: mean squares of frame values and of atomic values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deepmd.data.graph import Batch
from deepmd.nn.plain import Output
from deepmd.train.losses.prefactor import Term, active_terms, tensor_of

TENSOR_LABELS = {"dipole": ("dipole", "atomic_dipole"), "polar": ("polarizability", "atomic_polarizability")}
"""Label of a frame and of an atom for each kind of tensor."""


class OutputLoss:
    """What the losses of outputs other than the energy share: no forces, and terms whose labels may be absent."""

    needs_forces = False
    needs_hessian = False
    terms: dict[str, Term]
    start_lr: float

    def _sum(self, errors: dict[str, Tensor | None], lr: float) -> tuple[Tensor, dict[str, float]]:
        """errors: mean square of each term, None where the label is absent."""
        total = torch.zeros((), dtype=torch.float64)
        report = {}
        for k, error in errors.items():
            report[k] = math.nan if error is None else math.sqrt(float(error.detach()))
            if error is not None:
                total = total + self.terms[k].weight(lr / self.start_lr) * error
        return total, report


class TensorLoss(OutputLoss):
    """pref * mean (global error)^2 + pref_atomic * mean (atomic error)^2 over the components.

    With `enable_atomic_weight` the atomic error of an atom is multiplied by its weight of atomic_weight.npy. Atomic
    errors count the atoms of the selected types only. Reported global errors are divided by the number of atoms.
    """

    def __init__(self, section: dict[str, Any], start_lr: float, output: dict[str, Any]):
        self.start_lr = start_lr
        self.name = output["name"]
        self.selected = output.get("sel_type")
        self.label, self.atom_label = TENSOR_LABELS[self.name]
        pairs = {"global": float(section.get("pref", 0)), "local": float(section.get("pref_atomic", 0))}
        self.terms = {k: Term(value, value) for k, value in pairs.items() if value != 0}
        self.weighted = bool(section.get("enable_atomic_weight", False))

    @property
    def labels(self) -> tuple[str, ...]:
        names = {"global": self.label, "local": self.atom_label}
        return tuple(names[k] for k in self.terms) + (("atomic_weight",) if self.weighted else ())

    widths: dict[str, int] = {}

    @property
    def reported(self) -> list[str]:
        return ["rmse", *sorted(f"rmse_{k}_{self.name}" for k in self.terms)]

    def __call__(self, prediction: Output, batch: Batch, lr: float) -> tuple[Tensor, dict[str, float]]:
        errors: dict[str, Tensor | None] = {}
        for k in self.terms:
            errors[k] = self._atomic(prediction, batch) if k == "local" else self._global(prediction, batch)
        total, report = self._sum(errors, lr)
        if "global" in report:
            report["global"] /= float(batch.atoms_per_frame.mean())
        named = {f"rmse_{k}_{self.name}": value for k, value in report.items()}
        return total, {"rmse": math.sqrt(float(total.detach())), **{k: named[k] for k in self.reported[1:]}}

    def _global(self, prediction: Output, batch: Batch) -> Tensor | None:
        if not batch.found[self.label]:
            return None
        label = tensor_of(batch.labels[self.label]).reshape(batch.n_frames, -1)
        return ((prediction.total - label) ** 2).mean()

    def _atomic(self, prediction: Output, batch: Batch) -> Tensor | None:
        if not batch.found[self.atom_label]:
            return None
        difference = prediction.atomic - tensor_of(batch.labels[self.atom_label]).reshape(len(batch.types), -1)
        if self.weighted:
            difference = difference * tensor_of(batch.labels["atomic_weight"]).reshape(-1, 1)
        if self.selected is not None:
            chosen = torch.isin(tensor_of(batch.types), torch.tensor(self.selected, dtype=torch.int32))
            difference = difference[chosen]
        return (difference**2).mean() if difference.numel() else None


class DosLoss(OutputLoss):
    """Mean squares of the density of states and of its running sum, of frames (dos, cdf) and of atoms (ados, acdf)."""

    names = {"dos": "rmse_global_dos", "cdf": "rmse_global_cdf", "ados": "rmse_local_dos", "acdf": "rmse_local_cdf"}

    def __init__(self, section: dict[str, Any], start_lr: float, output: dict[str, Any]):
        self.start_lr = start_lr
        self.width = int(output["width"])
        self.terms = active_terms(section, self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys("atom_dos" if k in ("ados", "acdf") else "dos" for k in self.terms))

    @property
    def widths(self) -> dict[str, int]:
        return dict.fromkeys(self.labels, self.width)

    @property
    def reported(self) -> list[str]:
        return ["rmse", *sorted(self.names[k] for k in self.terms)]

    def __call__(self, prediction: Output, batch: Batch, lr: float) -> tuple[Tensor, dict[str, float]]:
        errors: dict[str, Tensor | None] = {}
        for k in self.terms:
            atomic = k in ("ados", "acdf")
            key = "atom_dos" if atomic else "dos"
            if not batch.found[key]:
                errors[k] = None
                continue
            difference = (prediction.atomic if atomic else prediction.total) - tensor_of(batch.labels[key])
            errors[k] = ((torch.cumsum(difference, dim=1) if "cdf" in k else difference) ** 2).mean()
        total, report = self._sum(errors, lr)
        for k in ("dos", "cdf"):
            if k in report:
                report[k] /= float(batch.atoms_per_frame.mean())
        named = {self.names[k]: value for k, value in report.items()}
        return total, {"rmse": math.sqrt(float(total.detach())), **{k: named[k] for k in self.reported[1:]}}


class PropertyLoss(OutputLoss):
    """Sum over frames and components of a function of the error in units of the data's spread.

    Extensive properties are divided by the number of atoms first. `metric` names the reported errors, which are means
    in the unit of the label. smooth_mae is |x| - beta/2 beyond beta and x^2 / (2 beta) below.
    """

    def __init__(self, section: dict[str, Any], model: Any):
        output = model.facts().output
        self.model = model
        self.name = output["name"]
        self.width = int(output["width"])
        self.intensive = output["reduce"] == "mean"
        self.kind = section.get("loss_func", "smooth_mae")
        self.metric = list(section.get("metric", ["mae"]))
        self.beta = float(section.get("beta", 1.0))

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def widths(self) -> dict[str, int]:
        return {self.name: self.width}

    @property
    def reported(self) -> list[str]:
        return ["rmse", *sorted(dict.fromkeys(k for k in self.metric if k != "rmse"))]

    def __call__(self, prediction: Output, batch: Batch, lr: float) -> tuple[Tensor, dict[str, float]]:
        del lr
        label = tensor_of(batch.labels[self.name]).reshape(batch.n_frames, -1)
        predicted = prediction.total
        if not self.intensive:
            n = tensor_of(batch.atoms_per_frame).unsqueeze(1)
            label, predicted = label / n, predicted / n
        if self.kind == "mape":
            loss = relative(predicted, label)
        else:
            difference = (predicted - label) / self.model.out_std[0]
            one = self.kind == "rmse"
            loss = torch.sqrt((difference**2).mean()) if one else self._size(difference, self.kind).sum()
        plain = (predicted - label).detach()
        report = {k: float(relative(predicted, label) if k == "mape" else self._mean(plain, k)) for k in self.metric}
        report["rmse"] = float(torch.sqrt((plain**2).mean())) if "rmse" in self.metric else math.sqrt(
            max(float(loss.detach()), 0.0)
        )  # fmt: skip
        return loss, {k: report[k] for k in self.reported}

    def _size(self, difference: Tensor, kind: str) -> Tensor:
        size = difference.abs()
        if kind == "mse":
            return size**2
        if kind == "mae":
            return size
        return torch.where(size < self.beta, 0.5 * size**2 / self.beta, size - 0.5 * self.beta)

    def _mean(self, difference: Tensor, kind: str) -> Tensor:
        mean = self._size(difference, "mse" if kind == "rmse" else kind).mean()
        return mean.sqrt() if kind == "rmse" else mean


def relative(predicted: Tensor, label: Tensor) -> Tensor:
    """Mean relative error, guarded against labels of zero."""
    return ((label - predicted) / (label + 1e-3)).abs().mean()
