"""The energy loss: energies, forces, virials and what is derived from them, with scheduled prefactors.

Prefactors follow the learning rate: p(t) = p_limit + (p_start - p_limit) lr(t) / lr(0). Per batch, with N real atoms:
    energy  p_e mean_frames (dE)^2 / N          virial  p_v mean (dW)^2 / N
    force   p_f mean (dF)^2                     atomic energy  p_ae mean (dE_i)^2
    prefactored force  p_pf mean(atom_pref (dF)^2)
    generalised force  p_gf mean (dQ)^2, Q_k = sum_i F_i . dr_i/dq_k      hessian  p_h mean (dH)^2
A term counts only where its label exists. `loss_func: mae` replaces squares by absolute values per atom, `use_huber`
by the Huber function of per-atom energies and virials and of force components.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deepmd.data.graph import LABELS, Batch
from deepmd.nn.plain import Prediction
from deepmd.train.losses.prefactor import active_terms, huber

TERMS = {
    "e": ("energy",),
    "f": ("force",),
    "v": ("virial",),
    "ae": ("atom_ener",),
    "pf": ("force", "atom_pref"),
    "gf": ("force", "drdq"),
    "h": ("hessian",),
}
"""Short name of each term and the labels that it needs."""
BY_ATOM = ("f", "ae", "pf")
"""Means over atoms, or their components."""


class EnergyLoss:
    """Loss and reported errors of a batch.

    section: normalised `loss` section. start_lr: learning rate that the prefactors are measured by.
    """

    names = TERMS

    def __init__(self, section: dict[str, Any], start_lr: float):
        self.start_lr = start_lr
        if section.get("use_default_pf"):  # batches carry 1 where the data hold no atom_pref
            self.names = {**self.names, "pf": ("force",)}
        self.terms = active_terms(section, self.names)
        self.n_coordinates = int(section.get("numb_generalized_coord", 0))
        self.relative_f = section.get("relative_f")
        self.weighted_energy = bool(section.get("enable_atom_ener_coeff", False))
        self.mae = section.get("loss_func", "mse") == "mae"
        delta = section.get("huber_delta", 0.01)
        deltas = delta if isinstance(delta, (list, tuple)) else [delta] * 3
        self.huber = dict(zip("efv", deltas, strict=True)) if section.get("use_huber", False) else None
        self.intensive = bool(section.get("intensive_ener_virial", False))
        self.force_norm = bool(section.get("f_use_norm", False))

    @property
    def needs_forces(self) -> bool:
        return any(k in self.terms for k in ("f", "v", "pf", "gf", "h"))

    @property
    def needs_hessian(self) -> bool:
        return "h" in self.terms

    @property
    def labels(self) -> tuple[str, ...]:
        """Fields that the batches have to carry."""
        return tuple(dict.fromkeys([*LABELS, *(name for k in self.terms for name in self.names[k])]))

    @property
    def widths(self) -> dict[str, int]:
        """Open dimensions of the labels."""
        return {"drdq": self.n_coordinates} if "gf" in self.terms else {}

    @property
    def reported(self) -> list[str]:
        """Names of the reported quantities, in the order of lcurve.out."""
        kind = "mae" if self.mae else "rmse"
        return ["rmse", *sorted(f"{kind}_{k}" for k in self.terms)]

    def __call__(self, prediction: Prediction, batch: Batch, lr: float) -> tuple[Tensor, dict[str, float]]:
        """The loss (scalar) and the reported errors; a quantity without label is reported as nan."""
        total, report = self.tensors(prediction, batch, lr)
        numbers = {k: float(value) for k, value in report.items()}
        return total, {k: value if math.isfinite(value) else math.nan for k, value in numbers.items()}

    def tensors(self, prediction: Prediction, batch: Batch, lr: float | Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The same with reported errors that stay where they are computed; nothing here waits for a device."""
        total = torch.zeros((), dtype=torch.float64, device=prediction.energy.device)
        report: dict[str, Any] = {}
        kind, ratio = "mae" if self.mae else "rmse", lr / self.start_lr
        for k, term in self.terms.items():
            if not all(batch.found[name] for name in self.names[k]):
                report[f"{kind}_{k}"] = math.nan
                continue
            loss, error = self._term(k, prediction, batch)
            if k in BY_ATOM and batch.padding is not None:  # atoms that are not there added nothing
                loss, error = batch.padding * loss, (batch.padding if self.mae else batch.padding.sqrt()) * error
            total = total + term.weight(ratio) * loss
            report[f"{kind}_{k}"] = error
        report["rmse"] = total.detach().clamp(min=0.0).sqrt()
        return total, {k: report[k] for k in self.reported}

    def _term(self, k: str, prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
        label, n = batch.tensor(TERMS[k][0]), batch.tensor("atoms_per_frame")
        if k == "e":
            return self._extensive(self._energy(prediction, batch) - label.reshape(-1), n, "e")
        if k == "v":
            difference = prediction.virial.reshape(-1, 9) - label.reshape(-1, 9)
            return self._extensive(difference, n.unsqueeze(1), "v")
        if k == "ae":
            difference = prediction.atom_energy - label.reshape(-1)
            return self._plain(difference)
        if k == "h":
            return self._plain(prediction.hessian - label)
        difference = prediction.forces - label
        if k == "gf":
            return self._plain(self._generalised(difference, batch))
        if self.relative_f is not None:
            difference = difference / (torch.linalg.vector_norm(label, dim=1, keepdim=True) + float(self.relative_f))
        if k == "pf":
            weight = batch.tensor("atom_pref").reshape(-1, 1)
            error = difference.abs() if self.mae else difference**2
            loss = (weight * error).mean()
            return loss, loss.detach() if self.mae else loss.detach().sqrt()
        if self.huber is not None and not self.mae:
            return huber(difference, self.huber["f"]), (difference.detach() ** 2).mean().sqrt()
        if self.force_norm:
            norms = torch.sqrt((difference**2).sum(dim=1) + 1e-30)
            return norms.mean(), (
                difference.detach().abs().mean() if self.mae else (difference.detach() ** 2).mean().sqrt()
            )
        return self._plain(difference)

    def _energy(self, prediction: Prediction, batch: Batch) -> Tensor:
        if not self.weighted_energy:
            return prediction.energy
        weight = torch.from_numpy(batch.labels["atom_ener_coeff"]).reshape(-1)
        frame = torch.from_numpy(batch.frame).to(torch.int64)
        return torch.zeros(batch.n_frames, dtype=torch.float64).index_add(0, frame, weight * prediction.atom_energy)

    def _generalised(self, forces: Tensor, batch: Batch) -> Tensor:
        """Forces [n_atoms, 3] along the generalised coordinates, [n_frames, n_coordinates]."""
        along = (torch.from_numpy(batch.labels["drdq"]) * forces.unsqueeze(2)).sum(dim=1)
        frame = torch.from_numpy(batch.frame).to(torch.int64)
        return torch.zeros(batch.n_frames, along.shape[1], dtype=torch.float64).index_add(0, frame, along)

    def _plain(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        loss = difference.abs().mean() if self.mae else (difference**2).mean()
        return loss, loss.detach() if self.mae else loss.detach().sqrt()

    def _extensive(self, difference: Tensor, n: Tensor, k: str) -> tuple[Tensor, Tensor]:
        """Energies and virials: one factor 1/N in the loss (1/N^2 if intensive), errors reported per atom."""
        per_atom = difference / n
        if self.mae:
            loss = per_atom.abs().mean()
            return loss, loss.detach()
        error = (per_atom.detach() ** 2).mean().sqrt()
        if self.huber is not None:
            return huber(per_atom, self.huber[k]), error
        return ((per_atom**2).mean() if self.intensive else (per_atom * difference).mean()), error

