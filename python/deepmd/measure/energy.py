"""What `dp test` measures of potentials: energies, forces, virials, stresses, second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.from_data import DataFrame
from deepmd.measure.pairs import Collector, Pairs, Quantity, detail_path

COMPONENTS = [a + b for a in "xyz" for b in "xyz"]

# Quantity -> suffix of its detail file and the names of its columns.
DETAILS = {
    "energy": (".e.out", ["e"]),
    "energy_per_atom": (".e_peratom.out", ["e"]),
    "force": (".f.out", ["fx", "fy", "fz"]),
    "virial": (".v.out", [f"v{ab}" for ab in COMPONENTS]),
    "virial_per_atom": (".v_peratom.out", [f"v{ab}" for ab in COMPONENTS]),
    "stress": (".s.out", [f"s{ab}" for ab in COMPONENTS]),
    "atom_energy": (".ae.out", ["e"]),
    "hessian": (".h.out", ["h"]),
}


class EnergyMeasure:
    """Models of kind 'energy'."""

    quantities = {
        "energy": Quantity("Energy {}", "eV"),
        "energy_per_atom": Quantity("Energy {}/Natoms", "eV"),
        "force": Quantity("Force  {}", "eV/Å"),
        "force_weighted": Quantity("Force weighted {}", "eV/Å"),
        "virial": Quantity("Virial {}", "eV"),
        "virial_per_atom": Quantity("Virial {}/Natoms", "eV"),
        "stress": Quantity("Stress {}", "eV/Å^3"),
        "atom_energy": Quantity("Atomic ener {}", "eV"),
        "hessian": Quantity("Hessian {}", "eV/Å^2"),
    }
    details = DETAILS
    label_width = 19
    plotted = ("energy_per_atom", "force", "virial_per_atom", "atom_energy")
    footer = ""

    def labels(self, model: Any, atomic: bool) -> tuple[str, ...]:
        """Fields to read from the data."""
        labels = ("energy", "force", "virial", "atom_pref")
        return labels + (("atom_ener",) if atomic else ()) + (("hessian",) if model.has_hessian else ())

    def measure(self, model: Any, frame: DataFrame, atomic: bool, collector: Collector) -> None:
        """One frame."""
        options = {"hessian": "hessian" in frame.labels} if model.has_hessian else {}
        self.compare(frame, frame.evaluate(model, atomic, **options), atomic, collector)

    def compare(self, frame: DataFrame, predicted: tuple[np.ndarray, ...], atomic: bool, collector: Collector) -> None:
        """Labels of a frame beside what `eval` gave."""
        labels, n_atoms = frame.labels, len(frame.types)
        energy, force, virial = (array[0] for array in predicted[:3])
        if "energy" in labels:
            collector.add("energy", labels["energy"], energy, 1)
            collector.add("energy_per_atom", labels["energy"] / n_atoms, energy / n_atoms, 1)
        if "force" in labels:
            collector.add("force", labels["force"], force, 3)
            if "atom_pref" in labels:
                collector.add("force_weighted", labels["force"], force, 3, labels["atom_pref"])
        if "virial" in labels and frame.cell is not None:
            volume = abs(np.linalg.det(frame.cell))
            collector.add("virial", labels["virial"], virial, 9)
            collector.add("virial_per_atom", labels["virial"] / n_atoms, virial / n_atoms, 9)
            collector.add("stress", -labels["virial"] / volume, -virial / volume, 9)
        if "atom_ener" in labels and atomic:
            collector.add("atom_energy", labels["atom_ener"], predicted[3][0], 1)
        if "hessian" in labels:
            collector.add("hessian", labels["hessian"], predicted[-1][0], 1)

    def remark(self, result: dict[str, Pairs], n_atoms: int) -> str:
        """Where the largest force error is; frames count from 0 among the tested ones."""
        if "force" not in result:
            return ""
        error = np.linalg.norm(result["force"].pred - result["force"].data, axis=1)
        row = int(error.argmax())
        where = f"tested frame {row // n_atoms}, atom {row % n_atoms}"
        return f"{'Force  max error':<{self.label_width}}: {error[row]:e} eV/Å ({where})"

    def write_details(self, prefix: str, system: str, result: dict[str, Pairs], number: int) -> None:
        """Appends labels and predictions to the detail files; the header names the first system only."""
        for key, (suffix, columns) in self.details.items():
            path = detail_path(prefix, suffix)
            if number == 0:
                path.unlink(missing_ok=True)  # of an earlier test; the first system may lack the quantity
            if key not in result:
                continue
            names = " ".join([f"data_{c}" for c in columns] + [f"pred_{c}" for c in columns])
            unit = " (eV/Å^3)" if key == "stress" else ""
            with open(path, "a", encoding="utf-8") as stream:
                header = f"{system}{unit}: {names}" if stream.tell() == 0 else ""
                np.savetxt(stream, np.hstack([result[key].data, result[key].pred]), header=header)
