"""What densities of states and properties share in Python: numbers of frames, and of their atoms."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.deep_eval import DeepEval, refuse_extensions


class DeepScalars(DeepEval):
    """A model of many numbers for each frame; `DeepDOS` and `DeepProperty` say which."""

    @property
    def width(self) -> int:
        """How many numbers a frame has."""
        return int(self.metadata["output"]["width"])

    def eval(
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
        """Values of the frames (n_frames, width) in a tuple, with atomic also those of the atoms
        (n_frames, n_atoms, width). The arguments are those of `DeepPot.eval`; units are those of the labels.
        """
        refuse_extensions(kwargs)
        frames = self.frames(coords, cells, atom_types, mixed_type, fparam, aparam)
        n_frames, n_atoms = frames.types.shape
        totals, atoms = np.zeros((n_frames, self.width)), np.zeros((n_frames, n_atoms, self.width))
        for k, (result, real) in enumerate(self._evaluate(frames, False)):
            totals[k], atoms[k, real] = result["output"], result["atom_output"]
        return (totals, atoms) if atomic else (totals,)
