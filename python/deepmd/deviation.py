"""The disagreement of an ensemble of models, frame by frame: the numbers of ``model_devi.out``.

With F_i^k the force of model k on atom i and <> the mean over the models (population statistics):

    devi_f(i) = sqrt( < |F_i^k - <F_i>|^2 > ),   devi_v(ab) = std_k W_ab / N,   devi_e = std_k E / N

max, min and mean of devi_f over the atoms; max, min and root mean square of devi_v over the nine components. Relative
forms: devi_f(i) / (|<F_i>| + level), devi_v(ab) / (|<W_ab>| / N + level). With reference data the reference stands in
the place of the mean (``real_error``). The core computes all of it, here as in LAMMPS.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmd.errors import InputError

if TYPE_CHECKING:
    from deepmd.infer.from_data import DataFrame

log = logging.getLogger(__name__)

COLUMNS = ("max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f", "devi_e")
LABELS = ("energy", "force", "virial")
DEFAULT_MODELS = ("graph.000", "graph.001", "graph.002", "graph.003")


@dataclass
class Options:
    """How deviations are expressed."""

    atomic: bool = False  # one more column per atom
    relative: float | None = None  # divide the force deviation of an atom by (its mean force + this level, eV/A)
    relative_v: float | None = None  # divide that of a virial component by (its mean + this level, eV/atom)


@dataclass
class Labels:
    """Energies [n_models, n_frames], forces [n_models, n_frames, n_atoms, 3], virials [n_models, n_frames, 9]."""

    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray | None


def deviation_columns(predicted: Labels, reference: Labels | None = None, options: Options | None = None) -> np.ndarray:
    """The seven columns, and those of the atoms if asked for: [n_frames, 7 (+ n_atoms)].

    reference: the same arrays without the axis of the models; a virial of None is unknown, and its columns are nan.
    """
    rows = []
    for m in range(predicted.force.shape[1]):
        true = None
        if reference is not None:
            virial = None if reference.virial is None else reference.virial[m]
            true = Labels(reference.energy[m], reference.force[m], virial)
        frame = Labels(predicted.energy[:, m], predicted.force[:, m], predicted.virial[:, m])
        rows.append(frame_columns(frame, true, options))
    return np.array(rows)


def frame_columns(predicted: Labels, reference: Labels | None = None, options: Options | None = None) -> np.ndarray:
    """The columns of one frame: arrays as in `Labels`, without the axis of the frames."""
    from deepmd import core

    options = options or Options()
    levels = {"relative": options.relative, "relative_v": options.relative_v}
    virials, true = predicted.virial, {}
    if reference is not None:
        true = {"true_forces": reference.force, "true_energy": reference.energy, "true_virial": reference.virial}
        virials = None if reference.virial is None else virials
    columns, atoms = core.deviation(predicted.force, virials, predicted.energy, **true, **levels)
    return np.concatenate([columns, atoms]) if options.atomic else columns


class Committee:
    """Several `DeepPot` models that answer together: one neighbour list and one check for all of them.

    Types and parameters are those of the first model; models that list the same elements in another order are mapped,
    and models that do not fit together are refused in words.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        from deepmd.core import Ensemble

        self.models = list(models)
        if not self.models:
            raise InputError("the list of models is empty, expected at least one DeepPot")
        self._ensemble = Ensemble([model.core for model in self.models])

    def __len__(self) -> int:
        return len(self.models)

    @property
    def first(self) -> Any:
        """The model whose types and parameters count."""
        return self.models[0]

    def predict(self, positions: Any, types: Any, cell: Any = None, **parameters: Any) -> Labels:
        """One frame: energies [n_models], forces [n_models, n_atoms, 3], virials [n_models, 9]."""
        result = self._ensemble.evaluate(positions, types, cell, **parameters)
        return Labels(result["energies"], result["forces"], result["virials"].reshape(len(self), 9))


def calc_model_devi(
    coord: np.ndarray,
    box: np.ndarray | None,
    atype: np.ndarray,
    models: list[Any],
    fname: str | None = None,
    frequency: int = 1,
    mixed_type: bool = False,
    fparam: np.ndarray | None = None,
    aparam: np.ndarray | None = None,
    real_data: dict[str, np.ndarray] | None = None,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
) -> np.ndarray:
    """Deviation of `DeepPot` models on frames.

    Parameters
    ----------
    coord, box, atype
        Frames as `DeepPot.eval` takes them; box None for open boundaries.
    models
        At least two models of the same elements (atype counts in the order of the first) and parameters.
    fname
        Also append the table to this file.
    frequency
        Number of steps between the frames: the first column is the frame's number times this.
    real_data
        Reference labels "energy" (n_frames), "force" (n_frames, n_atoms, 3), "virial" (n_frames, 9): deviations are
        then distances from these instead of from the mean of the models.
    mixed_type, fparam, aparam
        As in `DeepPot.eval`; atoms of type -1 only pad and count nowhere.
    atomic
        Add one column per atom (nan for those that pad).
    relative, relative_v
        Levels that make force and virial deviations relative.

    Returns
    -------
    (n_frames, 8 or 8 + n_atoms): step, max_devi_v, min_devi_v, avg_devi_v (eV/atom), max_devi_f, min_devi_f, avg_devi_f
    (eV/A), devi_e (eV/atom), and with atomic the force deviation of each atom.
    """
    committee = Committee(models)
    frames = committee.first.frames(coord, box, atype, mixed_type, fparam, aparam)
    options, rows = Options(atomic, relative, relative_v), []
    for m, (arguments, real) in enumerate(frames):
        reference = None if real_data is None else _real(real_data, m, frames, real)
        columns = frame_columns(committee.predict(**arguments), reference, options)
        rows.append(_spread_atoms(columns, np.flatnonzero(real), len(real)) if atomic else columns)
    table = np.column_stack([np.arange(len(rows)) * frequency, np.array(rows)])
    if fname is not None:
        write_table(fname, table)
    return table


def _real(data: dict[str, np.ndarray], m: int, frames: Any, real: np.ndarray) -> Labels:
    """Labels of frame m of ``real_data`` for its real atoms; without cells there may be no virial."""
    n_frames = len(frames)
    sizes = {"energy": n_frames, "force": 3 * n_frames * len(real), "virial": 9 * n_frames}
    if frames.cells is None and data.get("virial") is None:
        del sizes["virial"]
    for key, size in sizes.items():
        if data.get(key) is None or np.size(data[key]) != size:
            got = "is absent" if data.get(key) is None else f"has {np.size(data[key])} numbers"
            raise InputError(f"real_data: '{key}' {got}, expected {size} numbers for {n_frames} frames")
    force = np.reshape(data["force"], (n_frames, -1, 3))[m][real]
    virial = np.reshape(data["virial"], (n_frames, 9))[m] if "virial" in sizes else None
    return Labels(np.reshape(data["energy"], n_frames)[m], force, virial)


def _spread_atoms(columns: np.ndarray, places: np.ndarray, n_atoms: int) -> np.ndarray:
    """The columns of a frame with those of its atoms at their places among ``n_atoms``; nan for padding."""
    row = np.full(len(COLUMNS) + n_atoms, np.nan)
    row[: len(COLUMNS)] = columns[: len(COLUMNS)]
    row[len(COLUMNS) + places] = columns[len(COLUMNS) :]
    return row


def header_line(n_atoms: int = 0) -> str:
    """The names of the columns as they stand in the file (without the comment sign)."""
    line = f"{'step':10s}" + "".join(f"{name:19s}" for name in COLUMNS)
    return line + (f"{f'atm_devi_f({n_atoms})':19s}" if n_atoms else "")


def write_table(path: str, table: np.ndarray, system: str | None = None) -> None:
    """Appends one block to a file: the system's name if there is one, the names of the columns, the rows."""
    n_atoms = table.shape[1] - 1 - len(COLUMNS)
    header = header_line(n_atoms) if system is None else f"{system}\n{header_line(n_atoms)}"
    formats = ["%12d"] + ["%19.6e"] * (table.shape[1] - 1)
    with open(path, "a", encoding="utf-8") as file:
        np.savetxt(file, table, fmt=formats, delimiter="", header=header)


def main(args: argparse.Namespace) -> None:
    """``dp model-devi``: the deviation of several models on all frames of the systems below a folder."""
    from deepmd.data import load_systems
    from deepmd.infer.deep_pot import DeepPot

    names = list(args.models or DEFAULT_MODELS)
    committee = Committee([DeepPot(name) for name in names])
    if len(committee) < 2 and not args.real_error:
        raise InputError("dp model-devi got 1 model, expected at least two; give them after -m")
    options = Options(args.atomic, args.relative, args.relative_v)
    systems = load_systems(args.system, type_map=committee.first.get_type_map())
    for system in _with_progress(systems):
        columns = system_deviation(system, committee, args.real_error, options)
        table = np.column_stack([np.arange(len(columns)) * args.frequency, columns])
        write_table(args.output, table, str(system.name))
        log.info("%s: %d frames, largest force deviation %.3e", system.name, len(table), table[:, 4].max())
    log.info("model deviations of %d systems written to %s", len(systems), args.output)


def system_deviation(system: Any, committee: Committee, real_error: bool, options: Options) -> np.ndarray:
    """Columns of one system, frame by frame: padding atoms of mixed data are left out (nan in the atoms' columns)."""
    from deepmd.infer.from_data import iterate

    rows = []
    for frame in iterate(system, committee.first, LABELS if real_error else ()):
        predicted = committee.predict(frame.positions, frame.types, frame.cell, **frame.parameters)
        rows.append(frame_columns(predicted, _reference(system, frame) if real_error else None, options))
    n_atoms = max(len(row) for row in rows) - len(COLUMNS)
    return np.array([_spread_atoms(row, np.arange(len(row) - len(COLUMNS)), n_atoms) for row in rows])


def _reference(system: Any, frame: DataFrame) -> Labels:
    """Labels of one frame; open boundaries have no virial, so its deviation is nan there."""
    needed = LABELS[:2] if frame.cell is None else LABELS
    missing = [key for key in needed if key not in frame.labels]
    if missing:
        raise InputError(f"{system.name} lacks {', '.join(missing)}; --real_error compares with these labels")
    virial = frame.labels.get("virial")
    return Labels(frame.labels["energy"], frame.labels["force"], virial)


def _with_progress(systems: Sequence[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(systems, unit="system", disable=None, leave=False)
