"""Polarisabilities from Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.deep_tensor import DeepTensor


class DeepPolar(DeepTensor):
    """Atomic polarisabilities, nine components row by row; see `DeepTensor`."""

    kind = "polar"


class DeepGlobalPolar(DeepPolar):
    """The polarisability of the frame: `eval` gives (n_frames, 9) unless atomic tensors are asked for."""

    kind = None

    def eval(self, coords: Any, cells: Any, atom_types: Any, atomic: bool = False, **kwargs: Any) -> np.ndarray:
        return super().eval(coords, cells, atom_types, atomic, **kwargs)
