"""Frozen models of spins, evaluated by their scripted module in this process."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError
from deepmd.infer.scripted import ScriptedModel


class ScriptedSpin(ScriptedModel):
    """An open frozen file of kind 'spin'."""

    def evaluate(
        self,
        positions: Any,
        types: Any,
        cell: Any = None,
        *,
        spin: Any = None,
        pbc: Any = None,
        fparam: Any = None,
        aparam: Any = None,
        atomic: bool = False,
    ) -> dict[str, np.ndarray]:
        """positions and spin [n, 3], types [n], cell [3, 3] or None.

        Returns energy, forces, force_mag [n, 3], virial [3, 3]; with `atomic` also atom_energy, atom_virial.
        """
        from deepmd.nn.frames import evaluate, find_pairs

        positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        types = np.asarray(types, dtype=np.int64)
        spin = self.checked(spin, types)
        fparam = self.default_fparam if fparam is None and self.dim_fparam else fparam
        pairs = find_pairs(positions, cell, self.rcut, pbc)
        result = evaluate(self._module, pairs, types, fparam, aparam, spin, atomic)
        result["energy"] = float(result["energy"][0])
        return result

    def checked(self, spin: Any, types: np.ndarray) -> np.ndarray:
        """The spins [n, 3]. Raises InputError where the model has none for them or was made for shorter ones."""
        if spin is None:
            raise InputError("the model needs the spins of the atoms and got none; give spin, 3 numbers an atom")
        spin = np.asarray(spin, dtype=np.float64).reshape(-1, 3)
        if len(spin) != len(types):
            raise InputError(f"spin has {3 * len(spin)} numbers, expected 3 x {len(types)} atoms")
        scale = np.asarray(self.output["virtual_scale"])[types]
        length, reach = np.linalg.norm(spin, axis=1), float(self.output["reach"])
        if (length * scale > reach).any():
            worst = int((length * scale).argmax())
            raise InputError(
                f"the spin of atom {worst} is {length[worst]:g} mu_B long, expected at most {reach / scale[worst]:g}, "
                "which the model was made for; train it on data with such spins"
            )
        return spin
