"""The frames on which a compressed model is measured, and the measurement."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepmd import model_file
from deepmd.errors import DataError

log = logging.getLogger(__name__)
N_PERTURBED = 8  # frames made of each stored frame where there are no data
PERTURBATION = 0.1  # Angstrom


@dataclass
class Frames:
    """Inputs of `Model.evaluate`, and where they come from."""

    inputs: list[dict[str, Any]]
    source: str

    def split(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Every other frame to choose by, the others to judge by; a single frame serves both."""
        return self.inputs[::2], self.inputs[1::2] or self.inputs

    def shortest(self, rcut: float) -> float:
        """Shortest distance between two atoms, Angstrom; rcut if there is no pair within it."""
        from deepmd.nn.frames import find_pairs

        shortest = rcut
        for frame in self.inputs:
            pairs = find_pairs(frame["positions"], frame["cell"], rcut)
            shortest = min([shortest, *np.linalg.norm(pairs.vectors, axis=1)])
        return float(shortest)


def unseen_pairs(frames: Frames, type_map: list[str], rcut: float) -> list[str]:
    """Pairs of types that are no neighbours in any frame, so that nothing is measured of them."""
    from deepmd.nn.frames import find_pairs

    seen = np.zeros((len(type_map), len(type_map)), dtype=bool)
    for frame in frames.inputs:
        pairs = find_pairs(frame["positions"], frame["cell"], rcut)
        types = np.asarray(frame["types"])
        seen[types[pairs.centers], types[pairs.neighbors]] = True
    return [f"{type_map[i]}-{type_map[j]}" for i, j in np.argwhere(np.triu(~(seen | seen.T)))]


@dataclass
class Errors:
    """Differences between two models."""

    force_max: float = 0.0  # eV/Angstrom, of a component
    force_rms: float = 0.0
    energy_per_atom_max: float = 0.0  # eV
    frames: int = 0

    def merged(self, other: Errors) -> Errors:
        """Both sets of frames together."""
        n = self.frames + other.frames
        square = (self.force_rms**2 * self.frames + other.force_rms**2 * other.frames) / max(n, 1)
        return Errors(
            max(self.force_max, other.force_max),
            float(np.sqrt(square)),
            max(self.energy_per_atom_max, other.energy_per_atom_max),
            n,
        )


@dataclass
class Yardstick:
    """Frames with the answers of the model that is to be compressed."""

    frames: list[dict[str, Any]]
    answers: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, frames: list[dict[str, Any]], model: Any) -> Yardstick:
        return cls(frames, [model.evaluate(**frame) for frame in frames])

    def measure(self, model: Any) -> Errors:
        """The errors of a `deepmd.core.Model` against the answers."""
        force, energy = [], []
        for frame, expected in zip(self.frames, self.answers, strict=True):
            got = model.evaluate(**frame)
            force.append((got["forces"] - expected["forces"]).ravel())
            energy.append(abs(got["energy"] - expected["energy"]) / max(len(frame["types"]), 1))
        rms = float(np.sqrt(np.mean([np.mean(values**2) for values in force])))
        largest = max(float(np.abs(values).max()) for values in force)
        return Errors(largest, rms, max(energy), len(force))


def gather(frozen: model_file.FrozenModel, data: list[str], script: dict[str, Any] | None, most: int) -> Frames:
    """At most `most` frames: from `data`, else from the data of the training script where they are found, else made.

    Validation data are preferred to training data.
    """
    if data:
        return Frames(from_systems(frozen.metadata, data, most), f"data {' '.join(data)}")
    training = ((script or {}).get("training") or {}) if isinstance(script, dict) else {}
    for part in ("validation_data", "training_data"):
        section = training.get(part) or {}
        systems = section.get("systems")
        systems = [systems] if isinstance(systems, str) else systems or []
        found = [path for path in systems if Path(path.partition("#")[0]).exists()]
        if found:
            try:
                return Frames(from_systems(frozen.metadata, found, most), part.replace("_", " "))
            except DataError as error:
                log.warning("the %s cannot be read (%s)", part.replace("_", " "), error)
    log.warning(
        "no data are found to measure on: the frames stored in the file and perturbations of them are used; name data "
        "of the systems that the model is meant for with --data"
    )
    return Frames(perturbed(frozen, most), "stored frames and their perturbations")


class _Asked:
    """What `from_data.iterate` asks of a model, answered from the metadata."""

    extra_inputs: tuple[str, ...] = ()

    def __init__(self, metadata: dict[str, Any]):
        self.metadata = metadata

    def get_dim_fparam(self) -> int:
        return self.metadata["dim_fparam"]

    def get_dim_aparam(self) -> int:
        return self.metadata["dim_aparam"]

    def has_default_fparam(self) -> bool:
        return self.metadata["default_fparam"] is not None

    def get_sel_type(self) -> list[int]:
        return []  # energies have no selection of types


def from_systems(metadata: dict[str, Any], paths: Iterable[str], most: int) -> list[dict[str, Any]]:
    """Frames spread evenly over the data systems."""
    from deepmd.data import load_systems
    from deepmd.infer.from_data import iterate

    systems = [system for path in paths for system in load_systems([path], metadata["type_map"])]
    share = max(1, most // max(len(systems), 1))
    frames = []
    for system in systems:
        indices = np.unique(np.linspace(0, system.n_frames - 1, min(share, system.n_frames)).round().astype(int))
        for frame in iterate(system, _Asked(metadata), indices=indices):
            frames.append({"positions": frame.positions, "types": frame.types, "cell": frame.cell, **frame.parameters})
    if not frames:
        raise DataError("the data hold no frames to measure on, expected one at least")
    return frames[:most]


def perturbed(frozen: model_file.FrozenModel, most: int) -> list[dict[str, Any]]:
    """The frames of the self-test, each followed by copies whose atoms are displaced at random."""
    generator = np.random.default_rng(7)
    frames = []
    for k in range(frozen.metadata["selftest"]["n_frames"]):
        stored = {key[len(f"{k}.") :]: value for key, value in frozen.selftest.items() if key.startswith(f"{k}.")}
        frame = {key: stored.get(key) for key in ("positions", "types", "cell", "fparam", "aparam")}
        for copy in range(1 + N_PERTURBED):
            shift = generator.normal(0.0, PERTURBATION, stored["positions"].shape) if copy else 0.0
            frames.append({**frame, "positions": stored["positions"] + shift})
    return frames[:most] if most < len(frames) else frames
