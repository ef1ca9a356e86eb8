"""What atomic tensors share in Python: values of atoms or of frames, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.deep_eval import DeepEval, refuse_extensions


class DeepTensor(DeepEval):
    """A model of atomic tensors; `DeepDipole` and `DeepPolar` say which. Units are those of the labels."""

    @property
    def output_tensor_name(self) -> str:
        return str(self.kind)

    def get_sel_type(self) -> list[int]:
        """Types whose atoms carry the tensor."""
        return list(self.metadata["output"]["sel_type"])

    @property
    def width(self) -> int:
        """Components of the tensor."""
        return int(self.metadata["output"]["width"])

    def output_dim(self) -> int:
        """Components of the tensor."""
        return self.width

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = True,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        **kwargs: Any,
    ) -> np.ndarray:
        """Tensors of the atoms (n_frames, n_atoms, width), zero for types that carry none; or, with atomic=False, of
        the frames (n_frames, width). The arguments are those of `DeepPot.eval`; matrices are row-major.
        """
        refuse_extensions(kwargs)
        frames = self.frames(coords, cells, atom_types, mixed_type, fparam, aparam)
        n_frames, n_atoms = frames.types.shape
        atoms, totals = np.zeros((n_frames, n_atoms, self.width)), np.zeros((n_frames, self.width))
        for k, (result, real) in enumerate(self._evaluate(frames, False)):
            atoms[k, real], totals[k] = result["atom_output"], result["output"]
        return atoms if atomic else totals

    def eval_full(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        """Tensors of the frames and the derivatives of each component.

        Returns
        -------
        tensor (n_frames, width), force (n_frames, width, n_atoms, 3) = -d(tensor)/d(position), virial
        (n_frames, width, 9); with atomic also the tensors of the atoms (n_frames, n_atoms, width) and their virials
        (n_frames, width, n_atoms, 9).
        """
        refuse_extensions(kwargs)
        frames = self.frames(coords, cells, atom_types, mixed_type, fparam, aparam)
        n_frames, n_atoms = frames.types.shape
        w = self.width
        tensor, virial = np.zeros((n_frames, w)), np.zeros((n_frames, w, 9))
        force = np.zeros((n_frames, w, n_atoms, 3))
        atoms, atom_virial = np.zeros((n_frames, n_atoms, w)), np.zeros((n_frames, w, n_atoms, 9) if atomic else 0)
        for k, (arguments, real) in enumerate(frames):
            result = self.evaluate_frame(**arguments, atomic=atomic, derivatives=True)
            tensor[k], virial[k] = result["output"], result["virial"].reshape(w, 9)
            force[k][:, real] = result["forces"]
            atoms[k, real] = result["atom_output"]
            if atomic:
                atom_virial[k][:, real] = result["atom_virial"].reshape(w, -1, 9)
        return (tensor, force, virial, atoms, atom_virial) if atomic else (tensor, force, virial)
