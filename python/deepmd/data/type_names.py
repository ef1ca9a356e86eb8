"""From the integers of type.raw to the types of the model, by element name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepmd.data.sources import Source
from deepmd.errors import DataError


class TypeNames:
    """The type map of one system: `types` [n_atoms] in model indices, and how the file's integers map to them."""

    def __init__(self, source: Source, type_map: Sequence[str] | None, mixed: bool):
        self._where = source.where
        raw = self._integers(source.type_text)
        self.own = self._names(source.type_map_text)
        if mixed and self.own is None:
            raise DataError(
                f"{self._where} is mixed data without type_map.raw, expected the names of its types; add it"
            )
        if self.own is None:
            self.own = list(type_map) if type_map else [f"Type_{k}" for k in range(int(raw.max()) + 1)]
        self.type_map = list(type_map) if type_map else list(self.own)
        index = {name: k for k, name in enumerate(self.type_map)}
        self.to_model = np.array([index.get(name, -1) for name in self.own], dtype=np.int64)
        if mixed:
            self.types = np.zeros(len(raw), dtype=np.int64)
            return
        self._check(raw)
        self.types = self.to_model[raw]

    def _integers(self, text: str) -> np.ndarray:
        values = []
        for atom, word in enumerate(text.split()):
            try:
                values.append(int(word))
            except ValueError:
                message = f"{self._where}/type.raw, atom {atom}: '{word[:40]}' is not an integer, expected a type index"
                raise DataError(message + " from 0 on; put names into type_map.raw") from None
        if not values:
            raise DataError(f"{self._where}/type.raw is empty, expected one integer an atom; write it again")
        return np.array(values, dtype=np.int64)

    def _names(self, text: str | None) -> list[str] | None:
        if text is None:
            return None
        names = text.split()
        if not names:
            raise DataError(
                f"{self._where}/type_map.raw is empty, expected one name a type; write it again or remove it"
            )
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise DataError(f"{self._where}/type_map.raw names {double} twice, expected each name once; mend it")
        return names

    def _check(self, raw: np.ndarray) -> None:
        bad = np.flatnonzero((raw < 0) | (raw >= len(self.own)))
        if len(bad):
            atom = int(bad[0])
            raise DataError(
                f"{self._where}/type.raw, atom {atom}: type {raw[atom]}, expected 0 to "
                f"{len(self.own) - 1} because the type "
                f"map is {self.own}; mend type.raw or the map"
            )
        unknown = np.flatnonzero(self.to_model[raw] < 0)
        if len(unknown):
            atom = int(unknown[0])
            raise DataError(
                f"{self._where}/type_map.raw: element {self.own[raw[atom]]} (atom {atom}) is not "
                "in the model's type_map "
                f"{self.type_map}; add it there or leave the system out"
            )
