"""What `dp test` measures of models with spins."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.infer.from_data import DataFrame
from deepmd.measure.energy import DETAILS, EnergyMeasure
from deepmd.measure.pairs import Collector, Pairs, Quantity


class SpinMeasure(EnergyMeasure):
    """Models of kind 'spin'."""

    quantities = {
        **{key: EnergyMeasure.quantities[key] for key in ("energy", "energy_per_atom")},
        "force": Quantity("Force atom {}", "eV/Å", width=20),
        "force_mag": Quantity("Force spin {}", "eV/uB", width=20),
        **{key: EnergyMeasure.quantities[key] for key in ("virial", "virial_per_atom", "stress", "atom_energy")},
    }
    details = {
        **{key: value for key, value in DETAILS.items() if key not in ("force", "hessian")},
        "force": (".fr.out", ["fx", "fy", "fz"]),
        "force_mag": (".fm.out", ["fmx", "fmy", "fmz"]),
    }
    plotted = ("energy_per_atom", "force", "virial_per_atom")

    def labels(self, model: Any, atomic: bool) -> tuple[str, ...]:
        labels = ("energy", "force", "force_mag", "virial")
        return labels + (("atom_ener",) if atomic else ())

    def measure(self, model: Any, frame: DataFrame, atomic: bool, collector: Collector) -> None:
        """One frame; magnetic forces of the atoms of types that carry a spin."""
        predicted = frame.evaluate(model, atomic)
        self.compare(frame, predicted[:4] if atomic else predicted[:3], atomic, collector)
        if "force_mag" in frame.labels:
            chosen = np.ravel(predicted[-1][0])
            collector.add("force_mag", frame.labels["force_mag"][chosen], predicted[-2][0][chosen], 3)

    def remark(self, result: dict[str, Pairs], n_atoms: int) -> str:
        return ""
