"""`dp check`: what is in the data and what is wrong with it; the same checks run before a training starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from deepmd.data.expand import expand, open_path
from deepmd.data.inspection import Histograms, Inspection, SystemReport
from deepmd.data.neighbor_stat import spread_frames
from deepmd.data.system import System
from deepmd.errors import DataError

START_FRAMES = 20_000
"""Frames in which distances are searched before a training; `dp check` looks at all."""


@dataclass
class Report:
    """Findings about all systems; `faults` must be mended, `warnings` are worth a look."""

    systems: list[SystemReport] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    histograms: Histograms | None = field(default=None, repr=False)

    @property
    def faults(self) -> list[str]:
        """Everything that forbids training on the data, each naming its file and frame."""
        return self.unreadable + [fault for system in self.systems for fault in system.faults]

    @property
    def warnings(self) -> list[str]:
        """Unusual values that may be right."""
        return [warning for system in self.systems for warning in system.warnings]

    def raise_for_faults(self) -> None:
        """A DataError with the first fault and the number of the others, if there is any."""
        faults = self.faults
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise DataError(faults[0] + more)

    def to_dict(self) -> dict:
        """Plain numbers, lists and text for a JSON file."""
        systems = [asdict(system) for system in self.systems]
        return {"systems": systems, "unreadable": self.unreadable, "n_faults": len(self.faults)}

    def text(self) -> str:
        """The report as people read it."""
        lines = [line for system in self.systems for line in _system_lines(system)]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults]
        frames = sum(system.n_frames for system in self.systems)
        total = f"{len(self.systems)} system(s), {frames} frames"
        return "\n".join([*lines, f"{total}: {len(self.faults)} fault(s), {len(self.warnings)} warning(s)"])


def check_systems(
    systems: Sequence[System],
    max_frames: int | None = START_FRAMES,
    strict: bool = True,
    histograms: bool = False,
) -> Report:
    """Check all values, types, cells and distances of the systems.

    Distances and sizes of forces are looked at in about `max_frames` frames (None: all), shared among the systems by
    size and spread evenly in each; everything else covers all frames. With `strict`, the first fault is raised as a
    DataError; otherwise the report lists all of them.
    """
    chosen = spread_frames(systems, max_frames)
    report = Report(histograms=Histograms() if histograms else None)
    with tqdm(total=len(systems), desc="checking data", unit="system", disable=None, delay=2.0) as bar:
        for system, frames in zip(systems, chosen, strict=True):
            report.systems.append(Inspection(system, frames, report.histograms).run())
            bar.update()
    if strict:
        report.raise_for_faults()
    return report


def main(args: Any) -> int:
    """`dp check DATA... [--report FILE.json] [--plot FILE.png]`; a fault is an error after the report is printed.

    A training input among DATA is checked as `dp train` does it, and then its data.
    """
    systems, unreadable = _open_all(args.systems, getattr(args, "type_map", None))
    plot = getattr(args, "plot", None)
    report = check_systems(systems, max_frames=None, strict=False, histograms=bool(plot))
    report.unreadable = unreadable
    print(report.text())
    if getattr(args, "report", None):
        with open(args.report, "w", encoding="utf-8") as handle:
            json.dump(report.to_dict(), handle, indent=2)
    if plot and report.histograms is not None:
        from deepmd.data.check_plot import draw

        draw(report.histograms, plot)
    report.raise_for_faults()
    return 0


def _open_all(paths: Sequence[str], type_map: Sequence[str] | None) -> tuple[list[System], list[str]]:
    """The systems that open, and the words for those that do not."""
    systems: list[System] = []
    unreadable: list[str] = []
    for element, names, patterns in _elements(paths, type_map):
        try:
            found = expand(element, patterns)
        except DataError as error:
            unreadable.append(str(error))
            continue
        for path in found:
            try:
                systems.extend(open_path(path, names))
            except DataError as error:
                unreadable.append(str(error))
    return systems, unreadable


def _elements(paths: Sequence[str], type_map: Sequence[str] | None) -> Iterator[tuple[str, Any, Any]]:
    """What to search, by which names of types and which patterns; a training input stands for its data."""
    for path in paths:
        if path.endswith((".json", ".yaml", ".yml")):
            yield from _elements_of_input(path)
        else:
            yield path, type_map, None


def _elements_of_input(path: str) -> Iterator[tuple[str, Any, Any]]:
    from deepmd import config
    from deepmd.config.multi_task import tasks_of

    full = config.normalise(config.upgrade(config.load_input(path))[0])
    for one in tasks_of(full).values() if config.is_multi_task(full) else [full]:
        for section in (one["training"].get("training_data"), one["training"].get("validation_data")):
            systems = section["systems"] if section else []
            for element in [systems] if isinstance(systems, str) else systems:
                yield element, one["model"].get("type_map"), section.get("rglob_patterns")


def _system_lines(system: SystemReport) -> list[str]:
    elements = " ".join(f"{name}:{count}" for name, count in system.elements.items())
    head = f"{system.name}: {system.n_frames} frames of {system.n_atoms} atoms"
    parts = [elements] if elements and not system.mixed else []
    parts += ["mixed types"] if system.mixed else []
    parts.append("periodic" if system.periodic else "open boundaries")
    if system.density:
        parts.append(f"{_range(system.density, '.3g')} g/cm3")
    lines = [f"{head} ({', '.join(parts)})"]
    if system.distances:
        nearest = "  ".join(f"{pair} {found['distance']:.3f}" for pair, found in system.distances.items())
        some = "" if system.frames_looked_at == system.n_frames else f" in {system.frames_looked_at} frames"
        lines.append(f"  shortest distances{some}, A: {nearest}")
    if system.energy_per_atom:
        lines.append(f"  energy per atom, eV: {_range(system.energy_per_atom, '.4f')}")
    if system.force_largest is not None:
        lines.append(f"  forces, eV/A: largest {system.force_largest:.3f}, rms {system.force_rms:.3f} a component")
    pressure = f", pressure {_range(system.pressure, '.2f')} GPa" if system.pressure else ""
    lines.append(f"  virial: {system.virial}{pressure}")
    return lines


def _range(ends: tuple[float, float], form: str) -> str:
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low} to {high}"
