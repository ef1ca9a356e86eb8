"""What `dp test` measures, by the kind of the model.

A measure has `quantities` (how each is reported), `labels(model, atomic)`, `measure(model, frame, atomic, collector)`
and `write_details(prefix, system, result, number)`.
"""

from __future__ import annotations

from typing import Any

from deepmd.measure.energy import COMPONENTS, EnergyMeasure
from deepmd.measure.outputs import ScalarsMeasure, TensorMeasure
from deepmd.measure.spin import SpinMeasure

MEASURES: dict[str, Any] = {
    "energy": EnergyMeasure(),
    "masked": EnergyMeasure(),
    "pairwise_dprc": EnergyMeasure(),
    "spin": SpinMeasure(),
    "dipole": TensorMeasure("Dipole", "dipole", list("xyz")),
    "polar": TensorMeasure("Polarizability", "polarizability", [f"p{ab}" for ab in COMPONENTS]),
    "dos": ScalarsMeasure("DOS", "dos", "Occupation/eV"),
    "property": ScalarsMeasure("PROPERTY", "property", "units"),
}
