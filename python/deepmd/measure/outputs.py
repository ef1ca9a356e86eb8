"""What `dp test` measures of tensors, densities of states and properties."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.from_data import DataFrame
from deepmd.measure.pairs import Collector, Pairs, Quantity, detail_path


class TensorMeasure:
    """Dipoles and polarisabilities: of frames, or with `-a` (or where the data hold nothing else) of atoms."""

    plotted = ("total", "atomic")
    footer = "The unit of error is the same as the unit of provided label."

    def __init__(self, word: str, label: str, columns: list[str]):
        self.label, self.columns = label, columns
        self.label_width = len(word) + 13
        form = word + "  {}"
        self.quantities = {
            "total": Quantity(form, "", ("RMSE",)),
            "total_per_sqrt": Quantity(form + "/sqrtN", "", ("RMSE",)),
            "total_per_atom": Quantity(form + "/N", "", ("RMSE",)),
            "atomic": Quantity(form, "", ("RMSE",)),
        }

    def labels(self, model: Any, atomic: bool) -> tuple[str, ...]:
        """Fields to read from the data."""
        del model, atomic
        return (self.label, f"atomic_{self.label}")

    def measure(self, model: Any, frame: DataFrame, atomic: bool, collector: Collector) -> None:
        """One frame."""
        n, label = len(frame.types), frame.labels.get(self.label)
        of_atoms = frame.labels.get(f"atomic_{self.label}")
        if of_atoms is not None and (atomic or label is None):
            values = model.eval(frame.positions, frame.cell, frame.types, atomic=True, **frame.parameters)[0]
            chosen = np.isin(frame.types, model.get_sel_type())
            collector.add("atomic", np.reshape(of_atoms, values.shape)[chosen], values[chosen], len(self.columns))
        elif label is not None:
            value = model.eval(frame.positions, frame.cell, frame.types, atomic=False, **frame.parameters)[0]
            label = np.ravel(label)
            for key, size in (("total", 1.0), ("total_per_sqrt", np.sqrt(n)), ("total_per_atom", float(n))):
                collector.add(key, label / size, value / size, len(self.columns))

    def remark(self, result: dict[str, Pairs], n_atoms: int) -> str:
        del result, n_atoms
        return ""

    def write_details(self, prefix: str, system: str, result: dict[str, Pairs], number: int) -> None:
        """One file for each system: a row for each frame, or for each atom."""
        pairs = result.get("total") or result["atomic"]
        path = detail_path(prefix, f".out.{number}" if number else ".out")
        names = " ".join(f"{kind}_{c}" for kind in ("data", "pred") for c in self.columns)
        np.savetxt(path, np.hstack([pairs.data, pairs.pred]), header=f"{system}: {names}", encoding="utf-8")


class ScalarsMeasure:
    """Densities of states and properties: of frames, and with `-a` of atoms."""

    plotted = ("total", "atomic")
    footer = ""

    def __init__(self, word: str, stem: str, unit: str):
        self.word, self.stem = word, stem
        self.label_width = 19 if word == "DOS" else 24
        per_atom = {"total_per_atom": Quantity(word + " {}/Natoms", unit)} if word == "DOS" else {}
        self.quantities = {
            "total": Quantity(word + " {}", unit),
            **per_atom,
            "atomic": Quantity(f"Atomic {word} {{}}", unit),
        }

    def names(self, model: Any) -> tuple[str, str]:
        """Label of a frame and of an atom."""
        name = model.metadata["output"]["name"]
        return name, f"atom_{name}"

    def labels(self, model: Any, atomic: bool) -> tuple[str, ...]:
        """Fields to read from the data."""
        name, of_atoms = self.names(model)
        return (name, of_atoms) if atomic else (name,)

    def measure(self, model: Any, frame: DataFrame, atomic: bool, collector: Collector) -> None:
        """One frame."""
        name, of_atoms = self.names(model)
        n = len(frame.types)
        predicted = model.eval(frame.positions, frame.cell, frame.types, atomic=atomic, **frame.parameters)
        if name in frame.labels:
            label, value = np.ravel(frame.labels[name]), predicted[0][0]
            collector.add("total", label, value, len(value))
            if "total_per_atom" in self.quantities:
                collector.add("total_per_atom", label / n, value / n, len(value))
        if atomic and of_atoms in frame.labels:
            collector.add("atomic", frame.labels[of_atoms], predicted[1][0], model.width)

    def remark(self, result: dict[str, Pairs], n_atoms: int) -> str:
        del result, n_atoms
        return ""

    def write_details(self, prefix: str, system: str, result: dict[str, Pairs], number: int) -> None:
        """One file for each frame, two columns."""
        for key, stem in (("total", self.stem), ("atomic", f"a{self.stem}")):
            if key not in result:
                continue
            later = f".{number}" if number else ""
            for frame, (data, pred) in enumerate(result[key].frames()):
                path = detail_path(prefix, f".{stem}.out{later}.{frame}")
                header = f"{system} - {frame}: data_{stem} pred_{stem}"
                np.savetxt(path, np.stack([data.ravel(), pred.ravel()], axis=1), header=header, encoding="utf-8")
