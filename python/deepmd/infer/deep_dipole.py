"""Dipoles from Python."""

from __future__ import annotations

from deepmd.infer.deep_tensor import DeepTensor


class DeepDipole(DeepTensor):
    """Atomic dipoles, three components; see `DeepTensor`."""

    kind = "dipole"
