"""One system under the loupe: what it holds, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from deepmd.data import virial_hint
from deepmd.data.distances import pair_finder
from deepmd.data.elements import density, expected_distance
from deepmd.data.finite import first_bad
from deepmd.data.neighbor_stat import evenly, real_frames
from deepmd.data.system import System
from deepmd.errors import DataError
from deepmd.keys import FIELDS

OVERLAP = 0.1
"""Two atoms nearer than this (A) are refused: no first-principles frame has them, and 1/r explodes."""

_REACH = 3.0  # A; pairs beyond it are not looked at
_BLOCK_BYTES = 16 << 20
_VIRIAL_FRAMES = 400
_LARGE_FORCE = 50.0  # eV/A
_COARSE_ENERGY = 1e-6  # eV per atom
_EV_PER_A3_IN_GPA = 160.21766208
BINS = np.linspace(0.0, _REACH, 151)
FORCE_BINS = np.logspace(-4, 4, 161)


@dataclass
class SystemReport:
    """What `dp check` says about one system. Lengths in A, energies in eV, pressures in GPa."""

    name: str
    n_frames: int
    n_atoms: int
    periodic: bool
    mixed: bool
    elements: dict[str, int] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    density: tuple[float, float] | None = None
    distances: dict[str, dict] = field(default_factory=dict)
    frames_looked_at: int = 0
    energy_per_atom: tuple[float, float] | None = None
    force_largest: float | None = None
    force_rms: float | None = None
    pressure: tuple[float, float] | None = None
    virial: str = "absent"
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class Histograms:
    """Counts for the plots: distances by pair of elements, norms of forces, and energies per atom of each frame."""

    distances: dict[str, np.ndarray] = field(default_factory=dict)
    forces: np.ndarray = field(default_factory=lambda: np.zeros(len(FORCE_BINS) - 1, dtype=np.int64))
    energies: list[np.ndarray] = field(default_factory=list)


class Inspection:
    """Runs all checks on one system; `report` holds what was found.

    `frames` are those in which distances and sizes of forces are looked at.
    """

    def __init__(self, system: System, frames: np.ndarray, histograms: Histograms | None = None):
        self.system = system
        self.frames = frames
        self.histograms = histograms
        self.report = SystemReport(system.name, system.n_frames, system.n_atoms, system.periodic, system.mixed)

    def run(self) -> SystemReport:
        """All checks. Later ones need sound values, so they are left out after a fault."""
        self.report.labels = [key for key in self.system.keys() if key in FIELDS and key not in ("positions", "types")]
        for check in (self._values, self._types, self._cells, self._distances, self._labels):
            if not self.report.faults:
                try:
                    check()
                except DataError as error:
                    self.report.faults.append(str(error))
        return self.report

    def _values(self) -> None:
        for index in range(len(self.system.sets)):
            for kind in self.system.fields_of(index):
                try:
                    fault = first_bad(self.system, kind, index)
                except DataError as error:
                    fault = str(error)
                if fault:
                    self.report.faults.append(fault)

    def _types(self) -> None:
        names = np.array(self.system.type_map)
        if not self.system.mixed:
            kinds, counts = np.unique(self.system.types, return_counts=True)
            self.report.elements = dict(zip(names[kinds].tolist(), counts.tolist(), strict=True))
            return
        totals = np.zeros(len(names), dtype=np.int64)
        for part in _parts(self.system.n_frames, 4096):
            types = self.system.frame_types(part)
            empty = np.flatnonzero((types < 0).all(axis=1))
            if len(empty):
                where = self.system.file_of("types", int(part[empty[0]]))
                raise DataError(
                    f"{where}: all atoms are virtual (-1), expected at least one real atom; remove the frame"
                )
            totals += np.bincount(types[types >= 0], minlength=len(names))
        self.report.elements = {name: int(n) for name, n in zip(names.tolist(), totals, strict=True) if n}

    def _cells(self) -> None:
        if not self.system.periodic:
            return
        low, high = np.inf, -np.inf
        for part in _parts(self.system.n_frames, 4096):
            cells = self.system.read("cell", part)[0]
            volume = np.linalg.det(cells)
            flat = np.abs(volume) <= 1e-6 * np.prod(np.linalg.norm(cells, axis=2), axis=1)
            for bad, words in (
                (
                    flat,
                    "is singular (volume {:.3g} A^3), expected three independent vectors; give the right cell, or an "
                    "empty file nopbc for open boundaries",
                ),
                (
                    volume < 0,
                    "is left-handed (volume {:.3g} A^3), expected a right-handed one; turn the frame by negating "
                    "all three cell vectors",
                ),
            ):
                if bad.any():
                    row = int(np.argmax(bad))
                    where = self.system.file_of("cell", int(part[row]))
                    raise DataError(f"{where}: the cell " + words.format(volume[row]))
            low, high = min(low, volume.min()), max(high, volume.max())
        self.report.density = None if self.system.mixed else density(self.report.elements, low, high)

    def _distances(self) -> None:
        frames = self.frames
        self.report.frames_looked_at = len(frames)
        find = pair_finder(_REACH)
        names = np.array(self.system.type_map)
        n_types = len(names)
        closest: dict[int, tuple[float, int, int, int]] = {}
        for frame, positions, cell, types in real_frames(self.system, frames):
            i, j, vectors = find(positions, cell)
            if not len(i):
                continue
            r = np.sqrt(np.einsum("ka,ka->k", vectors, vectors))
            nearest = int(r.argmin())
            if r[nearest] < OVERLAP:
                where = self.system.file_of("positions", frame)
                raise DataError(
                    f"{where}: atoms {i[nearest]} and {j[nearest]} are {r[nearest]:.3g} A apart, expected more than "
                    f"{OVERLAP} A; remove the frame (positions must be in Angstrom)"
                )
            code = np.minimum(types[i], types[j]) * n_types + np.maximum(types[i], types[j])
            self._count(code, r, names)
            order = np.lexsort((r, code))
            first = order[np.unique(code[order], return_index=True)[1]]
            for k in first:
                if r[k] < closest.get(int(code[k]), (np.inf,))[0]:
                    closest[int(code[k])] = (float(r[k]), frame, int(i[k]), int(j[k]))
        self._tell_distances(closest, names)

    def _count(self, code: np.ndarray, r: np.ndarray, names: np.ndarray) -> None:
        if self.histograms is None:
            return
        for pair in np.unique(code):
            key = _pair_name(int(pair), names)
            counts = np.histogram(r[code == pair], BINS)[0]
            self.histograms.distances[key] = self.histograms.distances.get(key, 0) + counts

    def _tell_distances(self, closest: dict, names: np.ndarray) -> None:
        ratios = []
        for code, (distance, frame, i, j) in sorted(closest.items()):
            where = self.system.file_of("positions", frame)
            pair = _pair_name(code, names)
            self.report.distances[pair] = {"distance": distance, "atoms": [i, j], "where": where}
            usual = expected_distance(*pair.split("-", 1))
            if usual is not None:
                ratios.append(distance / usual)
                if distance < 0.5 * usual:
                    self.report.warnings.append(
                        f"{where}: {pair} distance of {distance:.3f} A (atoms {i} and {j}), a "
                        f"bond is about {usual:.2f} A; "
                        "positions must be in Angstrom"
                    )
        if ratios and min(ratios) > 1.4 and len(ratios) == len(closest):
            self.report.warnings.append(
                f"{self.system.name}: the shortest distances are {min(ratios):.1f} times a bond "
                "length; positions must be in "
                "Angstrom, not Bohr"
            )

    def _labels(self) -> None:
        if self.system.has("energy"):
            self._energies()
        if self.system.has("force"):
            self._forces()
        if self.system.has("virial"):
            self._virials()

    def _energies(self) -> None:
        energy, found = self.system.read("energy")
        atoms = np.full(len(energy), self.system.n_atoms)
        if self.system.mixed:
            atoms = (self.system.frame_types() >= 0).sum(axis=1)
        each = (energy / atoms)[found]
        if not len(each):
            return
        self.report.energy_per_atom = (float(each.min()), float(each.max()))
        if len(each) > 1 and not each.any():
            self.report.warnings.append(
                f"{self.system.name}: all energies are zero; remove energy.npy if there are none"
            )
        spacing = np.spacing(np.abs(energy[found]).max().astype(np.float32)) / atoms[found].min()
        if spacing > _COARSE_ENERGY and (energy[found].astype(np.float32) == energy[found]).all():
            self.report.warnings.append(
                f"{self.system.name}: energies were written in single precision, which rounds them to {spacing:.0e} eV "
                "per atom; write them as float64"
            )
        if np.ptp(each) > 10 and not self.system.mixed:
            row = int(np.flatnonzero(found)[np.abs(each - np.median(each)).argmax()])
            self.report.warnings.append(
                f"{self.system.file_of('energy', row)}: {energy[row] / atoms[row]:.3f} eV per atom, the median is "
                f"{np.median(each):.3f}; one of them may be another unit or a failed calculation"
            )
        if self.histograms is not None:
            self.histograms.energies.append(each)

    def _forces(self) -> None:
        largest, total, count = (0.0, 0), 0.0, 0
        frames = self.frames
        step = max(1, _BLOCK_BYTES // (24 * self.system.n_atoms))
        for rows in _parts(len(frames), step):
            part = frames[rows]
            force, found = self.system.read("force", part)
            norms = np.linalg.norm(force[found], axis=2)
            if norms.size:
                row = int(norms.max(axis=1).argmax())
                largest = max(largest, (float(norms.max()), int(part[found][row])))
                total, count = total + float((norms**2).sum()), count + norms.size
                if self.histograms is not None:
                    self.histograms.forces += np.histogram(norms, FORCE_BINS)[0]
        self.report.force_largest = largest[0]
        self.report.force_rms = float(np.sqrt(total / max(3 * count, 1)))
        if largest[0] > _LARGE_FORCE:
            where = self.system.file_of("force", largest[1])
            self.report.warnings.append(f"{where}: a force of {largest[0]:.1f} eV/A; forces must be in eV/A")
        if largest[0] == 0 and self.system.n_atoms > 1:
            self.report.warnings.append(f"{self.system.name}: all forces are zero; remove force.npy if there are none")

    def _virials(self) -> None:
        frames = evenly(self.system.n_frames, _VIRIAL_FRAMES)
        virial, found = self.system.read("virial", frames)
        frames, virial = frames[found], virial[found]
        if not len(frames):
            return
        self.report.virial = virial_hint.sign(self.system, frames, virial)
        if self.report.virial == virial_hint.REVERSED:
            self.report.warnings.append(
                f"{self.system.name}: the virial seems to have the wrong sign; it must be "
                "-dE/d(strain), the negative of "
                "stress times volume"
            )
        if self.system.periodic:
            volume = np.linalg.det(self.system.read("cell", frames)[0])
            pressure = np.trace(virial, axis1=1, axis2=2) / (3 * volume) * _EV_PER_A3_IN_GPA
            self.report.pressure = (float(pressure.min()), float(pressure.max()))
        skew = np.abs(virial - virial.transpose(0, 2, 1)).max()
        if skew > 1e-2 * max(np.abs(virial).max(), 1e-12):
            self.report.warnings.append(f"{self.system.name}: virials are not symmetric (by {skew:.3g} eV)")


def _parts(n_frames: int, step: int) -> Iterator[np.ndarray]:
    for start in range(0, n_frames, step):
        yield np.arange(start, min(start + step, n_frames))


def _pair_name(code: int, names: np.ndarray) -> str:
    return "-".join(sorted((str(names[code // len(names)]), str(names[code % len(names)]))))
