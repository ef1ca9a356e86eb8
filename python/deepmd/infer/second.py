"""Second derivatives of the energy by positions, differentiated twice through the formulas of the plain model."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError

NOTE = "hessian"
"""Under this name `info` of a model's section says that the model was trained on second derivatives."""
KINDS = ("energy", "masked", "pairwise_dprc")


def is_trained_on(section: dict[str, Any]) -> bool:
    """Whether a model of this section gives second derivatives without being asked; `hessian_mode` is DeePMD-kit's."""
    return bool((section.get("info") or {}).get(NOTE) or section.get("hessian_mode"))


def note(section: dict[str, Any]) -> None:
    """Says in a model's section that it was trained on second derivatives (in place)."""
    section["info"] = {**(section.get("info") or {}), NOTE: True}


def forget(section: dict[str, Any]) -> None:
    """Takes that back, where a model is trained anew without them (in place)."""
    if NOTE in (section.get("info") or {}):
        section["info"] = {key: value for key, value in section["info"].items() if key != NOTE}


class SecondDerivatives:
    """Calls give d2E/dr dr [3 n, 3 n] of a frame, eV/A^2, in the order x, y, z of the first atom, of the second ...

    model: a torch model of one of `KINDS`. Raises InputError for what has no second derivatives here.
    """

    def __init__(self, model: Any, kind: str, modifier: str | None):
        if kind not in KINDS or modifier:
            what = f"with the modifier '{modifier}'" if modifier else f"that predict '{kind}'"
            raise InputError(f"hessian: models {what} give no second derivatives; leave hessian out")
        self.model = model.eval()

    def __call__(
        self, positions: Any, types: Any, cell: Any = None, pbc: Any = None, fparam: Any = None, aparam: Any = None
    ) -> np.ndarray:
        """positions [n, 3], types [n], cell [3, 3] or None; fparam [dim], aparam [n, dim]."""
        import torch

        from deepmd.nn.frames import arguments, find_pairs
        from deepmd.nn.plain import hessian

        facts, n = self.model.facts(), len(types)
        fparam = facts.default_fparam if fparam is None and facts.dim_fparam else fparam
        pairs = find_pairs(np.asarray(positions, dtype=np.float64).reshape(-1, 3), cell, facts.rcut, pbc)
        vectors, *rest = arguments(pairs, np.asarray(types), fparam, aparam)
        centers, neighbors = rest[:2]
        moved = torch.zeros(n, 3, dtype=torch.float64, requires_grad=True)
        energy = self.model.atom_energy(vectors + moved[neighbors] - moved[centers], *rest).sum()
        if not energy.requires_grad:
            return np.zeros((3 * n, 3 * n))
        forces = -torch.autograd.grad(energy, moved, create_graph=True, materialize_grads=True)[0]
        frame = torch.zeros(n, dtype=torch.int64)
        return hessian(forces, moved, frame, 1, False)[0].numpy()
