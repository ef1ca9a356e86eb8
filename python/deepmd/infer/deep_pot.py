"""Energies, forces and virials from Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import ModelError
from deepmd.infer.deep_eval import DeepEval, refuse_extensions
from deepmd.infer.shapes import Frames


class DeepPot(DeepEval):
    """A potential. Energies in eV, lengths in Angstrom; virial = -dE/d(strain), row-major."""

    kind = "energy"
    other_kinds = ("masked", "pairwise_dprc")
    _second: Any = None  # what gives second derivatives, made when it is first asked

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        pbc: tuple[bool, bool, bool] | None = None,
        hessian: bool | None = None,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        """Evaluates frames.

        Parameters
        ----------
        coords
            Positions: (n_frames, 3 n_atoms), (n_frames, n_atoms, 3) or flat.
        cells
            Cell vectors as rows: (n_frames, 9), (n_frames, 3, 3), or None for open boundaries.
        atom_types
            Indices into the type map: (n_atoms), or (n_frames, n_atoms) with mixed_type. -1 marks atoms that only pad.
        atomic
            Also return the energies and virials of single atoms.
        fparam
            Frame parameters: n_frames x dim or dim numbers.
        aparam
            Atomic parameters: n_frames x n_atoms x dim, n_atoms x dim or dim numbers.
        mixed_type
            atom_types differs between frames.
        pbc
            Periodicity of each cell vector; with a cell, all three are periodic unless said otherwise.
        hessian
            Also return second derivatives of the energy. None: where the model was trained on them (`has_hessian`).

        Returns
        -------
        energy (n_frames, 1), force (n_frames, n_atoms, 3), virial (n_frames, 9); with atomic also
        atom_energy (n_frames, n_atoms, 1) and atom_virial (n_frames, n_atoms, 9). With hessian, last of all, d2E/dr dr
        (n_frames, 3 n_atoms, 3 n_atoms) in eV/A^2.
        """
        refuse_extensions(kwargs)
        frames = self.frames(coords, cells, atom_types, mixed_type, fparam, aparam)
        n_frames, n_atoms = frames.types.shape
        energy, virial = np.zeros((n_frames, 1)), np.zeros((n_frames, 9))
        force = np.zeros((n_frames, n_atoms, 3))
        atom_energy = np.zeros((n_frames, n_atoms, 1)) if atomic else None
        atom_virial = np.zeros((n_frames, n_atoms, 9)) if atomic else None
        for k, (result, real) in enumerate(self._evaluate(frames, atomic, pbc)):
            energy[k] = result["energy"]
            force[k, real] = result["forces"]
            virial[k] = np.ravel(result["virial"])
            if atomic:
                atom_energy[k, real, 0] = result["atom_energy"]
                atom_virial[k, real] = np.reshape(result["atom_virial"], (-1, 9))
        results = (energy, force, virial, atom_energy, atom_virial) if atomic else (energy, force, virial)
        wanted = self.has_hessian if hessian is None else hessian
        return (*results, self._second_derivatives(frames, pbc)) if wanted else results

    @property
    def has_hessian(self) -> bool:
        """Whether `eval` gives second derivatives without being asked, as the model was trained on them."""
        from deepmd.infer.second import is_trained_on

        return is_trained_on(self.get_model_def_script())

    def _second_derivatives(self, frames: Frames, pbc: Any) -> np.ndarray:
        """[n_frames, 3 n_atoms, 3 n_atoms], zero in the rows and columns of atoms that only pad."""
        from deepmd.infer.second import SecondDerivatives
        from deepmd.nn.model import deserialize

        if self._second is None:
            self._second = SecondDerivatives(deserialize(self.serialize()), self.core.kind, self.modifier_type)
        n_frames, n_atoms = frames.types.shape
        matrices = np.zeros((n_frames, n_atoms, 3, n_atoms, 3))
        for matrix, (arguments, real) in zip(matrices, frames, strict=True):
            n = int(real.sum())
            own = self._second(**arguments, pbc=pbc).reshape(n, 3, n, 3)
            matrix[np.ix_(real, range(3), real, range(3))] = own
        return matrices.reshape(n_frames, 3 * n_atoms, 3 * n_atoms)

    @property
    def modifier_type(self) -> str | None:
        """What is added to the model of short range, such as 'dipole_charge'; None for nothing."""
        return (self.metadata.get("modifier") or {}).get("type")

    def eval_descriptor(
        self, coords: Any, cells: Any, atom_types: Any, fparam: Any = None, aparam: Any = None, mixed_type: bool = False
    ) -> np.ndarray:
        """Descriptors of all atoms, (n_frames, n_atoms, dim); computed by the plain torch model."""
        import torch

        from deepmd.infer.shapes import arrange
        from deepmd.nn.frames import find_pairs
        from deepmd.nn.model import deserialize

        frames = arrange(coords, cells, atom_types, mixed_type)
        descriptor = getattr(deserialize(self.serialize()), "descriptor", None)
        if descriptor is None:
            raise ModelError(f"{self.model_path}: got a model of several parts, expected one with a descriptor")
        rows = []
        for arguments, real in frames:
            pairs = find_pairs(arguments["positions"], arguments["cell"], self.get_rcut())
            types = torch.from_numpy(np.ascontiguousarray(arguments["types"]))
            arrays = (torch.from_numpy(a) for a in (pairs.vectors, pairs.centers, pairs.neighbors))
            with torch.no_grad():
                values = descriptor(*arrays, types, len(types))[0].double().numpy()
            row = np.zeros((len(real), values.shape[1]))
            row[real] = values
            rows.append(row)
        return np.stack(rows)
