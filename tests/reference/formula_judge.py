"""The judge of every descriptor: padded definitions, energies by loops, derivatives by the complex step.

f(x + ih) = f(x) + ih f'(x) + O(h^2) for analytic f, so Im f / h is the derivative to all digits with h = 1e-30.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from reference import formula_attention, formula_dpa2, formula_dpa3, formula_local, formula_tpe
from reference.dp_numpy import VARIABLES, neighbors
from reference.padded import network, norm

STEP = 1e-30
LOCAL: dict[str, Callable] = {
    "se_e2_a": formula_local.se_e2_a,
    "se_r": formula_local.se_r,
    "se_e3": formula_local.se_e3,
    "se_e3_tebd": formula_local.se_e3_tebd,
    "se_a_tpe": formula_tpe.se_a_tpe,
    "dpa1": formula_attention.dpa1,
    "se_atten_v2": formula_attention.se_atten_v2,
}
WITH_MESSAGES: dict[str, Callable] = {"dpa2": formula_dpa2.dpa2, "dpa3": formula_dpa3.dpa3}


def describe(tree: dict, types: np.ndarray, around: list[list]) -> np.ndarray:
    """Descriptors of all atoms; around[i]: (j, t_j, vector) within the cutoff."""
    if tree["type"] == "hybrid":
        return np.hstack([describe(part, types, around) for part in tree["list"]])
    if tree["type"] in WITH_MESSAGES:
        return WITH_MESSAGES[tree["type"]](tree, types, around)
    near = [[entry for entry in one if norm(entry[2]).real < tree["rcut"]] for one in around]
    return np.array([LOCAL[tree["type"]](tree, int(t), one) for t, one in zip(types, near, strict=True)])


class FormulaJudge:
    """Energies, forces and virial of a tree with the energy fitting (no parameters, no vacuum term)."""

    def __init__(self, tree: dict, rcut: float):
        self.tree = tree["model"] if "model" in tree else tree
        self.rcut = rcut
        pairs = {tuple(pair) for pair in self.tree.get("pair_exclude_types") or []}
        self.absent = pairs | {pair[::-1] for pair in pairs}

    def atom_energy(self, types: np.ndarray, around: list[list]) -> np.ndarray:
        d = describe(self.tree["descriptor"], types, around)
        fitting, bias = self.tree["fitting"], np.asarray(self.tree[VARIABLES]["out_bias"])[0, :, 0]
        nets = fitting["nets"]["networks"]
        energy = [network(nets[0 if fitting["mixed_types"] else t], d[i])[0] for i, t in enumerate(types)]
        return np.array(energy) + bias[types]

    def around(self, positions, types, cell, pbc) -> list[list]:
        found = neighbors(np.asarray(positions, dtype=float), cell, pbc, self.rcut)
        return [
            [(j, int(types[j]), v.astype(complex)) for j, v in one if (int(types[i]), int(types[j])) not in self.absent]
            for i, one in enumerate(found)
        ]

    def evaluate(self, positions, types, cell=None, pbc=None, atoms: int = 0) -> dict[str, np.ndarray]:
        """Atomic energies, the virial, and the forces on the first `atoms` atoms."""
        around = self.around(positions, types, cell, pbc)
        forces, virial = np.zeros((atoms, 3)), np.zeros((3, 3))
        for k in range(atoms):
            for a in range(3):
                push = STEP * 1j * np.eye(3)[a]
                moved = [[(j, t, v + push * ((j == k) - (i == k))) for j, t, v in one] for i, one in enumerate(around)]
                forces[k, a] = -self.atom_energy(types, moved).sum().imag / STEP
        for a in range(3):
            for b in range(3):
                strained = [[(j, t, v + STEP * 1j * v[a] * np.eye(3)[b]) for j, t, v in one] for one in around]
                virial[a, b] = -self.atom_energy(types, strained).sum().imag / STEP
        return {"atom_energy": self.atom_energy(types, around).real, "forces": forces, "virial": virial}
