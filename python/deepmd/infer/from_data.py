"""Frames of a data system in the form in which models take them: one at a time, without padding atoms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepmd.errors import DataError
from deepmd.keys import field as field_of


@dataclass
class DataFrame:
    """One frame: what a model needs and the labels that the data hold."""

    positions: np.ndarray  # [n_atoms, 3]
    types: np.ndarray  # [n_atoms]
    cell: np.ndarray | None  # [3, 3]
    parameters: dict[str, np.ndarray] = field(default_factory=dict)  # fparam [dim], aparam [n_atoms, dim]
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # only those that are there

    def evaluate(self, model: Any, atomic: bool = False, **options: Any) -> tuple[np.ndarray, ...]:
        """What ``DeepPot.eval`` returns for this frame (arrays with one frame)."""
        return model.eval(self.positions, self.cell, self.types, atomic=atomic, **self.parameters, **options)


def require_parameters(system: Any, model: Any) -> tuple[str, ...]:
    """Tells a system which parameters the model takes, so that missing ones are refused; returns their names."""
    widths = {"fparam": model.get_dim_fparam(), "aparam": model.get_dim_aparam()}
    widths = {name: width for name, width in widths.items() if width}
    optional = "fparam" in widths and model.has_default_fparam()
    fills = {"fparam": model.metadata["default_fparam"]} if optional else None
    system.require(fills=fills, **widths)
    for name in model.extra_inputs:
        lacking = [] if may_lack(model, name) else system.sets_without(name)
        if lacking:
            raise DataError(f"{lacking[0]}: there is no {name}.npy, which the model needs; add the file")
    return (*widths, *model.extra_inputs)


def may_lack(model: Any, name: str) -> bool:
    """Whether data without a field that the model takes count as data with zeros."""
    return bool((model.get_model_def_script().get(name) or {}).get("allow_missing_label", False))


def iterate(
    system: Any, model: Any, labels: Iterable[str] = (), indices: Iterable[int] | None = None
) -> Iterator[DataFrame]:
    """The frames of ``system`` with the named labels."""
    parameters = require_parameters(system, model)
    if model.get_sel_type():
        system.require(selected=model.get_sel_type())
    labels = tuple(label for label in labels if system.has(label))
    for k in range(system.n_frames) if indices is None else indices:
        data = system.frames([k], (*labels, *parameters))
        real = data["types"][0] >= 0

        def pick(key: str, data: dict = data, real: np.ndarray = real) -> np.ndarray:
            value = data[key][0]
            if key == "hessian":
                both = np.repeat(real, 3)
                return value[both][:, both]
            return value[real] if field_of(key).per_atom else value

        yield DataFrame(
            data["positions"][0][real],
            data["types"][0][real],
            None if data["cell"] is None else data["cell"][0],
            {key: pick(key) for key in parameters},
            {key: pick(key) for key in labels if data[f"find_{key}"][0]},
        )
