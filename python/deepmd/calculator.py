"""The ASE calculator: ``atoms.calc = DP("graph.pth")``."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from deepmd.errors import InputError
from deepmd.infer.deep_pot import DeepPot

DEFAULT_SKIN = 1.0  # Angstrom; a list built for rcut + skin serves until an atom has moved by half of it


def voigt_stress(virial: np.ndarray, volume: float) -> np.ndarray:
    """ASE's stress, (xx, yy, zz, yz, xz, xy) in eV/A^3, from the virial [3, 3] in eV: -(W + W^T) / 2V."""
    stress = -0.5 * (virial + virial.T) / volume
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def whole_cell(atoms: Atoms) -> np.ndarray:
    """The cell [3, 3], right-handed, open axes without a vector filled in; raises InputError for periodic ones."""
    missing = [axis for axis in range(3) if atoms.pbc[axis] and not atoms.cell[axis].any()]
    if missing:
        names = ", ".join("abc"[axis] for axis in missing)
        raise InputError(
            f"the atoms are periodic along {names}, and the cell has no such vector; set the cell or put pbc to False"
        )
    cell = np.asarray(atoms.cell.complete())
    return cell if np.linalg.det(cell) >= 0 else -cell  # the same lattice


class DP(Calculator):
    """Deep Potential calculator.

    Parameters
    ----------
    model
        File of a frozen model (checkpoints and .dp files work too), or an open `DeepPot`.
    label
        Name of the calculator, as ASE uses it.
    type_dict
        Element name -> type index of the model. Without it the model's type map tells.
    neighbor_list, nlist_backend
        Accepted for compatibility; the core's own list is used.
    head
        Branch of a multi-task checkpoint.
    skin
        Length in Angstrom by which the neighbour list reaches beyond the cutoff, so that it can be used again.
    path, precision
        How the model is evaluated: "auto", "fused", "cuda" or "script", and "float64" or "mixed"; see `DeepEval`.

    ``atoms.info["fparam"]`` and ``atoms.info["aparam"]`` carry the parameters of models that take some. Each axis is
    periodic as ``atoms.pbc`` says.
    """

    name = "DP"
    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "virial", "stress"]

    def __init__(
        self,
        model: str | os.PathLike | DeepPot,
        label: str = "DP",
        type_dict: dict[str, int] | None = None,
        neighbor_list: Any = None,
        head: str | None = None,
        nlist_backend: str = "auto",
        skin: float = DEFAULT_SKIN,
        path: str | None = None,
        precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(label=label, **kwargs)
        self.dp = model if isinstance(model, DeepPot) else DeepPot(model, head=head, path=path, precision=precision)
        self.type_dict = type_dict or {name: k for k, name in enumerate(self.dp.get_type_map())}
        self.skin = skin
        self._neighbors: Any = None
        self._parameters_used: dict[str, np.ndarray] = {}  # of the results that are kept

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_neighbors": None}  # a list is cheap to build and cannot be copied

    def types_of(self, atoms: Atoms) -> np.ndarray:
        """Model type of each atom [n_atoms]."""
        symbols = atoms.get_chemical_symbols()
        unknown = sorted(set(symbols) - set(self.type_dict))
        if unknown:
            known = ", ".join(self.type_dict)
            raise InputError(f"the atoms hold {', '.join(unknown)}, which the model does not know; it knows {known}")
        return np.array([self.type_dict[symbol] for symbol in symbols], dtype=np.int64)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE itself does not look into ``atoms.info``."""
        changes = super().check_state(atoms, tol=tol)
        now, used = self._parameters(atoms), self._parameters_used
        same = now.keys() == used.keys() and all(np.array_equal(now[name], used[name]) for name in now)
        if self.atoms is not None and not same:
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | tuple[str, ...] = ("energy", "forces", "virial"),
        system_changes: list[str] | tuple[str, ...] = tuple(all_changes),
    ) -> None:
        """Fills ``self.results``: energies in eV, forces in eV/A, virial [3, 3] in eV, stress (Voigt) in eV/A^3."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        has_volume = atoms.pbc.any() and atoms.cell.rank == 3
        if "stress" in properties and not has_volume:
            raise PropertyNotImplementedError("stress needs a periodic cell with a volume; these atoms have none")
        result = self._evaluate(atoms, atomic="energies" in properties)
        self.results = {
            "energy": result["energy"],
            "free_energy": result["energy"],
            "forces": result["forces"],
            "virial": result["virial"],
        }
        if "atom_energy" in result:
            self.results["energies"] = result["atom_energy"]
        if has_volume:
            self.results["stress"] = voigt_stress(result["virial"], atoms.get_volume())

    def _evaluate(self, atoms: Atoms, atomic: bool) -> dict[str, Any]:
        from deepmd.core import Neighbors

        if self._neighbors is None:
            self._neighbors = Neighbors(self.dp.get_rcut(), self.skin)
        periodic = bool(atoms.pbc.any())
        parameters = self._parameters(atoms)
        result = self.dp.evaluate_frame(
            atoms.positions,
            self.types_of(atoms),
            whole_cell(atoms) if periodic else None,
            pbc=[int(flag) for flag in atoms.pbc] if periodic else None,
            neighbors=self._neighbors,
            atomic=atomic,
            **parameters,
        )
        self._parameters_used = {name: value.copy() for name, value in parameters.items()}
        return result

    def _parameters(self, atoms: Atoms) -> dict[str, np.ndarray]:
        """fparam [dim] and aparam [n_atoms, dim] from ``atoms.info``, where the model takes them."""
        found = {}
        for name, dim, n_rows in (
            ("fparam", self.dp.get_dim_fparam(), 1),
            ("aparam", self.dp.get_dim_aparam(), len(atoms)),
        ):
            value = atoms.info.get(name)
            if dim == 0:
                continue
            if value is None:
                if name == "fparam" and self.dp.has_default_fparam():
                    continue
                raise InputError(f"the model takes {dim} {name}; set atoms.info['{name}']")
            value = np.asarray(value, dtype=float)
            if value.size not in (dim, n_rows * dim):
                raise InputError(f"atoms.info['{name}'] holds {value.size} numbers, expected {n_rows} x {dim}")
            rows = np.broadcast_to(value.reshape(-1, dim), (n_rows, dim))
            found[name] = rows[0] if name == "fparam" else rows
        return found
