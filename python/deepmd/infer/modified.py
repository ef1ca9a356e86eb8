"""Frozen potentials with a modifier: what the core says of the model of short range, and what the modifier adds."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from deepmd.errors import InputError, ModelError
from deepmd.model_file import FrozenModel, frame_of
from deepmd.nn.modifier import SELFTEST_TOLERANCE


class ModifiedModel:
    """An open frozen file whose metadata name a modifier. Asked like `deepmd.core.Model`.

    Raises ModelError if a self-test fails: that of the model, of the dipole model inside, or of both together.
    """

    def __init__(self, file: str | os.PathLike, frozen: FrozenModel, run_selftest: bool = True, **choice: str | None):
        from deepmd.core import Model

        self._file = file
        self.short_range = Model(str(file), run_selftest=run_selftest, **frozen.part, **choice)
        self.modifier = frozen.open_modifier()
        self._proof, self._frame = frozen.metadata["modifier"]["selftest"], frame_of(frozen.selftest, 0)
        if run_selftest:
            self._prove()

    def __getattr__(self, name: str) -> Any:
        if name == "short_range":
            raise AttributeError(name)
        return getattr(self.short_range, name)

    @property
    def path_description(self) -> str:
        return f"{self.short_range.path_description}; and the modifier {self.modifier.describe()}"

    def selftest(self) -> float:
        """Largest difference from what is stored in the file."""
        return max(self.short_range.selftest(), self._prove())

    def _prove(self) -> float:
        worst = self.modifier.deviation_from(self._proof, self._frame)
        if not worst <= SELFTEST_TOLERANCE:
            raise ModelError(
                f"{self._file}: the self-test of its modifier differs by {worst:.1e}, "
                f"allowed {SELFTEST_TOLERANCE:.1e}; this machine or this version of torch computes something else; "
                "freeze the model anew here",
                "DP_ERROR_SELFTEST",
            )
        return worst

    def evaluate(
        self, positions: Any, types: Any, cell: Any = None, *, pbc: Any = None, atomic: bool = False, **options: Any
    ) -> dict[str, Any]:
        """energy, forces [n, 3] and virial [3, 3]; options: fparam, aparam, neighbors."""
        if atomic:
            raise InputError(
                f"the model has the modifier '{self.modifier.section['type']}', which gives no energies of single "
                "atoms; leave atomic out"
            )
        result = self.short_range.evaluate(positions, types, cell, pbc=pbc, **options)
        added = self.modifier.evaluate(np.asarray(positions), np.asarray(types), cell, pbc)
        return {**result, **{key: result[key] + added[key] for key in ("energy", "forces", "virial")}}
