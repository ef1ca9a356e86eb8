"""Frozen models of quantum atoms and fragments (pairwise_dprc), evaluated by their scripted module in this process."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError
from deepmd.infer.scripted import ScriptedModel


class ScriptedFragments(ScriptedModel):
    """An open frozen file of kind 'pairwise_dprc'."""

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
        neighbors: Any = None,
    ) -> dict[str, Any]:
        """positions [n, 3], types [n]; aparam [n, 1]: 0 for quantum atoms, the number of its fragment for others.

        Returns energy, forces, virial, atom_energy and, with `atomic`, atom_virial.
        """
        from deepmd.nn.frames import evaluate, find_pairs

        del fparam, neighbors  # a list of its own is built for each call
        if aparam is None:
            raise InputError(
                "the model needs aparam, 0 for quantum atoms and the number of its fragment for others, and got none"
            )
        positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        types = np.asarray(types, dtype=np.int64)
        pairs = find_pairs(positions, cell, self.rcut, pbc)
        result = evaluate(self._module, pairs, types, None, aparam, None, atomic)
        return {**result, "energy": float(result["energy"][0])}
