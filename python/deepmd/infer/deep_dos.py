"""Densities of states from Python."""

from __future__ import annotations

from deepmd.infer.deep_scalars import DeepScalars


class DeepDOS(DeepScalars):
    """Densities of states on the energy grid of the training data; see `DeepScalars`."""

    kind = "dos"

    def get_numb_dos(self) -> int:
        """Points of the energy grid."""
        return self.width

    @property
    def numb_dos(self) -> int:
        return self.width
