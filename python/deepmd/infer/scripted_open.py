"""Frozen models of open frames with absent atoms, evaluated by their scripted module in this process."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError
from deepmd.infer.scripted import ScriptedModel


class ScriptedOpen(ScriptedModel):
    """An open frozen file of kind 'masked'."""

    def evaluate(
        self,
        positions: Any,
        types: Any,
        cell: Any = None,
        *,
        pbc: Any = None,
        fparam: Any = None,
        aparam: Any = None,
        atomic: bool = False,
    ) -> dict[str, Any]:
        """positions [n, 3], types [n]; aparam [n, 1]: 1 for atoms that are there, 0 for others.

        Returns energy, forces, virial, atom_energy and, with `atomic`, atom_virial.
        """
        from deepmd.nn.frames import evaluate, find_pairs

        if cell is not None:
            raise InputError("the model has no cutoff and takes open frames only, and got a cell; leave the cell out")
        if aparam is None:
            raise InputError("the model needs aparam, 1 for atoms that are there and 0 for others, and got none")
        del pbc
        positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        types = np.asarray(types, dtype=np.int64)
        fparam = self.default_fparam if fparam is None and self.dim_fparam else fparam
        result = evaluate(self._module, find_pairs(positions, None, self.rcut), types, fparam, aparam, None, atomic)
        return {**result, "energy": float(result["energy"][0])}
