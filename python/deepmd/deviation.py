"""The disagreement of an ensemble of models, frame by frame: the numbers of ``model_devi.out``.

With F_i^k the force of model k on atom i and <> the mean over the models (population statistics):

    devi_f(i) = sqrt( < |F_i^k - <F_i>|^2 > ),   devi_v(ab) = std_k W_ab / N,   devi_e = std_k E / N

max, min and mean of devi_f over the atoms; max, min and root mean square of devi_v over the nine components. With
reference data the reference stands in the place of the mean (``real_error``).
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
    relative_v: float | None = None  # divide the virial deviations by (norm of the mean virial + this level, eV/atom)


@dataclass
class Labels:
    """Energies [n_models, n_frames], forces [n_models, n_frames, n_atoms, 3], virials [n_models, n_frames, 9]."""

    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray


def spread(values: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    """Root mean square over the models (axis 0) of the distance from the reference, or from the models' mean."""
    center = values.mean(axis=0) if reference is None else reference
    return np.sqrt(((values - center) ** 2).mean(axis=0))


def force_deviation(
    force: np.ndarray, reference: np.ndarray | None = None, relative: float | None = None
) -> np.ndarray:
    """devi_f [n_frames, n_atoms] from forces [n_models, n_frames, n_atoms, 3]; reference [n_frames, n_atoms, 3]."""
    deviation = np.linalg.norm(spread(force, reference), axis=-1)
    if relative is not None:
        scale = np.linalg.norm(force.mean(axis=0) if reference is None else reference, axis=-1)
        deviation = deviation / (scale + relative)
    return deviation


def virial_deviation(
    virial: np.ndarray, reference: np.ndarray | None = None, relative: float | None = None
) -> np.ndarray:
    """devi_v [n_frames, 9] from virials per atom [n_models, n_frames, 9] and a reference [n_frames, 9].

    The relative form divides by the Frobenius norm of the mean virial of the frame.
    """
    deviation = spread(virial, reference)
    if relative is not None:
        scale = np.linalg.norm(virial.mean(axis=0) if reference is None else reference, axis=-1)
        deviation = deviation / (scale[:, None] + relative)
    return deviation


def deviation_columns(predicted: Labels, reference: Labels | None = None, options: Options | None = None) -> np.ndarray:
    """The seven columns, and those of the atoms if asked for: [n_frames, 7 (+ n_atoms)].

    reference: the same arrays without the axis of the models.
    """
    options = options or Options()
    n_atoms = predicted.force.shape[2]
    true = reference or Labels(None, None, None)
    per_atom = force_deviation(predicted.force, true.force, options.relative)
    true_virial = None if true.virial is None else true.virial / n_atoms
    components = virial_deviation(predicted.virial / n_atoms, true_virial, options.relative_v)
    columns = [
        components.max(axis=1), components.min(axis=1), np.sqrt((components**2).mean(axis=1)),
        per_atom.max(axis=1), per_atom.min(axis=1), per_atom.mean(axis=1),
        spread(predicted.energy, true.energy) / n_atoms,
    ]  # fmt: skip
    table = np.stack(columns, axis=1)
    return np.hstack([table, per_atom]) if options.atomic else table


def predict(models: Sequence[Any], coord: Any, box: Any, atype: Any, **kwargs: Any) -> Labels:
    """What each `DeepPot` of ``models`` says of the frames."""
    results = [model.eval(coord, box, atype, **kwargs) for model in models]
    energy, force, virial = (np.stack([result[k] for result in results]) for k in range(3))
    return Labels(energy[:, :, 0], force, virial)


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
        At least two models with the same type map.
    fname
        Also append the table to this file.
    frequency
        Number of steps between the frames: the first column is the frame's number times this.
    real_data
        Reference labels "energy" (n_frames), "force" (n_frames, n_atoms, 3), "virial" (n_frames, 9): deviations are
        then distances from these instead of from the mean of the models.
    atomic
        Add one column per atom.
    relative, relative_v
        Levels that make force and virial deviations relative.

    Returns
    -------
    (n_frames, 8 or 8 + n_atoms): step, max_devi_v, min_devi_v, avg_devi_v (eV/atom), max_devi_f, min_devi_f, avg_devi_f
    (eV/A), devi_e (eV/atom), and with atomic the force deviation of each atom.
    """
    check_type_maps(models)
    predicted = predict(models, coord, box, atype, mixed_type=mixed_type, fparam=fparam, aparam=aparam)
    reference = None
    if real_data is not None:
        shapes = (predicted.energy.shape[1:], predicted.force.shape[1:], predicted.virial.shape[1:])
        keys = ("energy", "force", "virial")
        reference = Labels(*(np.reshape(real_data[key], s) for key, s in zip(keys, shapes, strict=True)))
    columns = deviation_columns(predicted, reference, Options(atomic, relative, relative_v))
    table = np.column_stack([np.arange(len(columns)) * frequency, columns])
    if fname is not None:
        write_table(fname, table)
    return table


def check_type_maps(models: Sequence[Any]) -> None:
    """Raises where models number the elements differently."""
    maps = [model.get_type_map() for model in models]
    for k, other in enumerate(maps):
        if other != maps[0]:
            raise InputError(
                f"the models disagree about the type map: model 0 has {' '.join(maps[0])}, model {k} has "
                f"{' '.join(other)}; train them with the same type_map"
            )


def header_line(n_atoms: int = 0) -> str:
    """The names of the columns as they stand in the file (without the comment sign)."""
    line = f"{'step':10s}" + "".join(f"{name:19s}" for name in COLUMNS)
    return line + (f"{f'atm_devi_f({n_atoms})':19s}" if n_atoms else "")


def write_table(path: str, table: np.ndarray, system: str | None = None) -> None:
    """Appends one block to a file: the system's name if there is one, the names of the columns, the rows."""
    n_atoms = table.shape[1] - 1 - len(COLUMNS)
    header = header_line(n_atoms) if system is None else f"{system}\n{header_line(n_atoms)}"
    formats = ["%12d"] + ["%19.6e"] * (table.shape[1] - 1)
    with open(path, "ab") as file:
        np.savetxt(file, table, fmt=formats, delimiter="", header=header)


def main(args: argparse.Namespace) -> None:
    """``dp model-devi``: the deviation of several models on all frames of the systems below a folder."""
    from deepmd.data import load_systems
    from deepmd.infer.deep_pot import DeepPot

    names = list(args.models or DEFAULT_MODELS)
    models = [DeepPot(name) for name in names]
    if len(models) < 2 and not args.real_error:
        raise InputError(f"dp model-devi got {len(models)} model, expected at least two; give them after -m")
    check_type_maps(models)
    options = Options(args.atomic, args.relative, args.relative_v)
    systems = load_systems(args.system, type_map=models[0].get_type_map())
    for system in _with_progress(systems):
        columns = system_deviation(system, models, args.real_error, options)
        table = np.column_stack([np.arange(len(columns)) * args.frequency, columns])
        write_table(args.output, table, str(system.name))
        log.info("%s: %d frames, largest force deviation %.3e", system.name, len(table), table[:, 4].max())
    log.info("model deviations of %d systems written to %s", len(systems), args.output)


def system_deviation(system: Any, models: Sequence[Any], real_error: bool, options: Options) -> np.ndarray:
    """Columns of one system, frame by frame: padding atoms of mixed data are left out."""
    from deepmd.infer.from_data import iterate

    rows = []
    for frame in iterate(system, models[0], LABELS if real_error else ()):
        predicted = predict(models, frame.positions, frame.cell, frame.types, **frame.parameters)
        rows.append(deviation_columns(predicted, _reference(system, frame) if real_error else None, options))
        if rows[-1].shape != rows[0].shape:
            raise InputError(f"{system.name} holds frames with different numbers of atoms; leave --atomic out for them")
    return np.concatenate(rows)


def _reference(system: Any, frame: DataFrame) -> Labels:
    """Labels of one frame; open boundaries have no virial, so its deviation is nan there."""
    labels = frame.labels
    if frame.cell is None:
        labels = {"virial": np.full(9, np.nan), **labels}
    missing = [key for key in LABELS if key not in labels]
    if missing:
        raise InputError(f"{system.name} lacks {', '.join(missing)}; --real_error compares with these labels")
    return Labels(labels["energy"].reshape(1), labels["force"][None], labels["virial"].reshape(1, 9))


def _with_progress(systems: Sequence[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(systems, unit="system", disable=None, leave=False)
