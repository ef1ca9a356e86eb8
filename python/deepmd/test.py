"""``dp test``: the errors of a model on labelled data, system by system and averaged."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import DataError, InputError
from deepmd.infer.from_data import DataFrame, iterate

log = logging.getLogger(__name__)

LABELS = ("energy", "force", "virial", "atom_pref")

# Quantity -> how its lines start (scripts look for these words, blanks included) and its unit.
LINES = {
    "energy": ("Energy {}", "eV"),
    "energy_per_atom": ("Energy {}/Natoms", "eV"),
    "force": ("Force  {}", "eV/Å"),
    "force_weighted": ("Force weighted {}", "eV/Å"),
    "virial": ("Virial {}", "eV"),
    "virial_per_atom": ("Virial {}/Natoms", "eV"),
    "stress": ("Stress {}", "eV/Å^3"),
    "atom_energy": ("Atomic ener {}", "eV"),
}
LABEL_WIDTH = 19
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
}


@dataclass
class Pairs:
    """Labels and predictions of one quantity: [n_rows, n_components] each, and optional weights of the rows."""

    data: np.ndarray
    pred: np.ndarray
    weight: np.ndarray | None = None

    @property
    def size(self) -> int:
        return self.data.size

    def mae(self) -> float:
        """Mean absolute error over all values."""
        return self._mean(np.abs(self.pred - self.data))

    def rmse(self) -> float:
        """Root of the mean square error over all values."""
        return float(np.sqrt(self._mean((self.pred - self.data) ** 2)))

    def _mean(self, values: np.ndarray) -> float:
        if self.weight is None:
            return float(values.mean())
        total = self.weight.sum() * values.shape[1]
        return float((values * self.weight[:, None]).sum() / total) if total else 0.0


@dataclass
class Options:
    """What is tested and how."""

    n_frames: int = 0  # frames of each system, 0 for all
    shuffle: bool = False
    seed: int | None = None
    atomic: bool = False
    detail_prefix: str | None = None


@dataclass
class Collector:
    """Gathers labels and predictions of the frames of one system."""

    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    weights: list[np.ndarray] = field(default_factory=list)

    def add(self, key: str, data: Any, pred: Any, n_components: int) -> None:
        entry = (np.reshape(data, (-1, n_components)), np.reshape(pred, (-1, n_components)))
        self.rows.setdefault(key, []).append(entry)

    def add_frame(self, frame: DataFrame, predicted: tuple[np.ndarray, ...]) -> None:
        """predicted: what `DeepPot.eval` returned for this frame."""
        labels, n_atoms = frame.labels, len(frame.types)
        energy, force, virial = (array[0] for array in predicted[:3])
        if "energy" in labels:
            self.add("energy", labels["energy"], energy, 1)
            self.add("energy_per_atom", labels["energy"] / n_atoms, energy / n_atoms, 1)
        if "force" in labels:
            self.add("force", labels["force"], force, 3)
            if "atom_pref" in labels:
                self.add("force_weighted", labels["force"], force, 3)
                self.weights.append(np.ravel(labels["atom_pref"]))
        if "virial" in labels and frame.cell is not None:
            volume = abs(np.linalg.det(frame.cell))
            self.add("virial", labels["virial"], virial, 9)
            self.add("virial_per_atom", labels["virial"] / n_atoms, virial / n_atoms, 9)
            self.add("stress", -labels["virial"] / volume, -virial / volume, 9)
        if "atom_ener" in labels and len(predicted) > 3:
            self.add("atom_energy", labels["atom_ener"], predicted[3][0], 1)

    def pairs(self) -> dict[str, Pairs]:
        result = {}
        for key, rows in self.rows.items():
            data, pred = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
            result[key] = Pairs(data, pred, np.concatenate(self.weights) if key == "force_weighted" else None)
        return result


def test_system(model: Any, system: Any, options: Options) -> dict[str, Pairs]:
    """Labels and predictions of one system (or its first or random ``options.n_frames`` frames)."""
    from tqdm import tqdm

    indices = choose_frames(system.n_frames, options)
    labels = (*LABELS, "atom_ener") if options.atomic else LABELS
    collector = Collector()
    frames = iterate(system, model, labels, indices)
    for frame in tqdm(frames, total=len(indices), unit="frame", disable=None, leave=False):
        collector.add_frame(frame, frame.evaluate(model, options.atomic))
    return collector.pairs()


test_system.__test__ = False  # not a test of the test suite


def choose_frames(n_frames: int, options: Options) -> np.ndarray:
    """Which frames are tested, in ascending order."""
    n_chosen = min(options.n_frames, n_frames) if options.n_frames > 0 else n_frames
    if not options.shuffle:
        return np.arange(n_chosen)
    return np.sort(np.random.default_rng(options.seed).permutation(n_frames)[:n_chosen])


def metric_lines(errors: dict[str, tuple[float, float]]) -> list[str]:
    """The documented lines for {quantity: (MAE, RMSE)}."""
    lines = []
    for group in (("energy", "energy_per_atom"), ("force",), ("force_weighted",), ("virial", "virial_per_atom"),
                  ("stress",), ("atom_energy",)):  # fmt: skip
        for key in group:
            if key in errors:
                form, unit = LINES[key]
                for name, value in zip(("MAE", "RMSE"), errors[key], strict=True):
                    lines.append(f"{form.format(name):<{LABEL_WIDTH}}: {value:e} {unit}")
    return lines


def average(results: Sequence[dict[str, Pairs]]) -> dict[str, tuple[float, float]]:
    """Errors over all systems, weighted by the number of values: mean of MAE, root of the mean square of RMSE."""
    errors = {}
    for key in LINES:
        parts = [result[key] for result in results if key in result]
        if parts:
            sizes = np.array([part.size for part in parts], dtype=float)
            mae = np.average([part.mae() for part in parts], weights=sizes)
            errors[key] = (float(mae), float(np.sqrt(np.average([part.rmse() ** 2 for part in parts], weights=sizes))))
    return errors


def worst_force(pairs: Pairs, n_atoms: int) -> str:
    """Where the largest force error is; frames count from 0 among the tested ones."""
    error = np.linalg.norm(pairs.pred - pairs.data, axis=1)
    row = int(error.argmax())
    where = f"tested frame {row // n_atoms}, atom {row % n_atoms}"
    return f"{'Force  max error':<{LABEL_WIDTH}}: {error[row]:e} eV/Å ({where})"


def write_details(prefix: str, system: str, result: dict[str, Pairs], append: bool) -> None:
    """Appends labels and predictions to the detail files; the header names the first system only."""
    for key, (suffix, columns) in DETAILS.items():
        if key not in result:
            continue
        path = Path(prefix).with_suffix(suffix)
        names = " ".join([f"data_{c}" for c in columns] + [f"pred_{c}" for c in columns])
        unit = " (eV/Å^3)" if key == "stress" else ""
        with open(path, "a" if append else "w", encoding="utf-8") as stream:
            header = f"{system}{unit}: {names}" if stream.tell() == 0 else ""
            np.savetxt(stream, np.hstack([result[key].data, result[key].pred]), header=header)


def find_systems(args: argparse.Namespace, type_map: list[str]) -> list[Any]:
    """The systems that the command line names: -s, -f, --train-data or --valid-data."""
    from deepmd.data import load_systems

    for option, section in (("train_data", "training_data"), ("valid_data", "validation_data")):
        script = getattr(args, option, None)
        if script:
            return load_systems(*systems_of_script(Path(script), section, type_map))
    if getattr(args, "datafile", None):
        try:
            lines = Path(args.datafile).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{args.datafile}: cannot read the list of systems: {error.strerror}") from error
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise InputError(f"{args.datafile} lists no system; expected one path on each line")
        return load_systems(names, type_map)
    return load_systems(args.system, type_map)


def systems_of_script(script: Path, section: str, type_map: list[str]) -> tuple[Any, list[str], Any]:
    """Arguments of `load_systems` for a section of a training input; relative paths start at the input's folder."""
    try:
        data = json.loads(script.read_text(encoding="utf-8"))["training"][section]
        systems = data["systems"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise InputError(f"{script}: cannot find training/{section}/systems ({cause})") from error
    listed = [systems] if isinstance(systems, str) else systems
    paths = [str(script.parent / path) for path in listed]
    return (paths[0] if isinstance(systems, str) else paths), type_map, data.get("rglob_patterns")


def main(args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """The command. Returns {quantity: (MAE, RMSE)} over all systems."""
    from deepmd.infer import DeepEval

    model = DeepEval(args.model, head=getattr(args, "head", None))
    options = Options(
        getattr(args, "numb_test", 0) or 0, bool(getattr(args, "shuffle_test", False)),
        getattr(args, "rand_seed", None), bool(getattr(args, "atomic", False)), getattr(args, "detail_file", None),
    )  # fmt: skip
    systems = find_systems(args, model.get_type_map())
    results = []
    for k, system in enumerate(systems):
        n_frames = len(choose_frames(system.n_frames, options))
        log.info("# ---------------output of dp test--------------- ")
        log.info("# testing system : %s", system.name)
        result = test_system(model, system, options)
        if not result:
            raise DataError(f"{system.name} holds no label to compare with (energy, force, virial); leave it out")
        log.info("# number of test data : %d ", n_frames)
        for line in metric_lines({key: (pairs.mae(), pairs.rmse()) for key, pairs in result.items()}):
            log.info("%s", line)
        if "force" in result and not system.mixed:
            log.info("%s", worst_force(result["force"], system.n_atoms))
        log.info("# ----------------------------------------------- ")
        if options.detail_prefix:
            write_details(options.detail_prefix, str(system.name), result, append=k > 0)
        results.append(result)
    errors = average(results)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(systems))
    for line in metric_lines(errors):
        log.info("%s", line)
    log.info("# ----------------------------------------------- ")
    if getattr(args, "plot", None):
        draw(results, args.plot if isinstance(args.plot, str) else options.detail_prefix or "dp_test")
    return errors


def draw(results: Sequence[dict[str, Pairs]], prefix: str) -> None:
    """Parity plot of everything that was tested."""
    from deepmd.plots import parity

    merged = {}
    for key in ("energy_per_atom", "force", "virial_per_atom", "atom_energy"):
        parts = [result[key] for result in results if key in result]
        if parts:
            data, pred = ([getattr(part, name).ravel() for part in parts] for name in ("data", "pred"))
            merged[key] = (np.concatenate(data), np.concatenate(pred))
    path = Path(prefix) if Path(prefix).suffix in (".png", ".pdf", ".svg") else Path(prefix + ".parity.png")
    parity(merged, path)
    log.info("parity plot written to %s", path)
