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
SPIN_COLUMNS = (*COLUMNS[:3], "max_devi_fr", "min_devi_fr", "avg_devi_fr", "max_devi_fm", "min_devi_fm", "avg_devi_fm",
                "devi_e")  # fmt: skip
"""Of models with spins: forces, and magnetic forces of the atoms that carry a spin (eV per Bohr magneton)."""
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
    force_mag: np.ndarray | None = None  # with spins: of the atoms that carry one, like the forces


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
    if predicted.force_mag is not None:
        true = {} if reference is None else {"true_forces": reference.force_mag}
        magnetic, _ = core.deviation(predicted.force_mag, relative=options.relative, **true)
        columns = np.concatenate([columns[:6], magnetic[3:6], columns[6:]])
    return np.concatenate([columns, atoms]) if options.atomic else columns


class Committee:
    """Several `DeepPot` models that answer together: one neighbour list and one check for all of them.

    Models that the core does not run (`DeepSpin`, which needs `spin` as a parameter, and others by their script) answer
    one after the other, each with a list of its own.

    Types and parameters are those of the first model; models that list the same elements in another order are mapped,
    and models that do not fit together are refused in words.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        from deepmd.core import Ensemble
        from deepmd.infer.opening import SCRIPTED_KINDS

        self.models = list(models)
        if not self.models:
            raise InputError("the list of models is empty, expected at least one DeepPot")
        self.has_spins = self.models[0].has_spin
        self.columns = SPIN_COLUMNS if self.has_spins else COLUMNS
        cores = [model.core for model in self.models]
        self._scripted = any(core.kind in SCRIPTED_KINDS for core in cores)
        if self._scripted:
            check_same_types(self.models)
            return
        self._modifiers = [getattr(core, "modifier", None) for core in cores]
        self._ensemble = Ensemble([getattr(core, "short_range", core) for core in cores])

    def __len__(self) -> int:
        return len(self.models)

    @property
    def first(self) -> Any:
        """The model whose types and parameters count."""
        return self.models[0]

    def predict(self, positions: Any, types: Any, cell: Any = None, **parameters: Any) -> Labels:
        """One frame: energies [n_models], forces [n_models, n_atoms, 3], virials [n_models, 9]."""
        if self._scripted:
            return self._predict_one_by_one(positions, types, cell, parameters)
        result = self._ensemble.evaluate(positions, types, cell, **parameters)
        predicted = Labels(result["energies"], result["forces"], result["virials"].reshape(len(self), 9))
        for k, modifier in enumerate(self._modifiers):
            if modifier is not None:
                own = np.array([modifier.type_map.index(name) for name in self.first.get_type_map()])
                added = modifier.evaluate(np.asarray(positions), own[np.asarray(types)], cell, parameters.get("pbc"))
                predicted.energy[k] += added["energy"]
                predicted.force[k] += added["forces"]
                predicted.virial[k] += np.ravel(added["virial"])
        return predicted


    def _predict_one_by_one(self, positions: Any, types: Any, cell: Any, parameters: dict[str, Any]) -> Labels:
        found = [model.evaluate_frame(positions, types, cell, **parameters) for model in self.models]
        magnetic = self.magnetic(types) if self.has_spins else None
        return Labels(
            np.array([one["energy"] for one in found]),
            np.stack([one["forces"] for one in found]),
            np.stack([np.ravel(one["virial"]) for one in found]),
            None if magnetic is None else np.stack([one["force_mag"][magnetic] for one in found]),
        )

    def magnetic(self, types: Any) -> np.ndarray:
        """Which atoms carry a spin [n_atoms] bool."""
        return np.asarray(self.first.use_spin, dtype=bool)[np.asarray(types)]


def check_same_types(models: Sequence[Any]) -> None:
    """Refuses models that do not fit together, where the core does not look at them."""
    first = models[0]
    for model in models[1:]:
        for what, ours, theirs in (
            ("type_map", first.get_type_map(), model.get_type_map()),
            ("kind", first.core.kind, model.core.kind),
            ("use_spin", getattr(first, "use_spin", None), getattr(model, "use_spin", None)),
        ):
            if ours != theirs:
                raise InputError(
                    f"{model.model_path}: its {what} is {theirs}, expected {ours} as in {first.model_path}; use models "
                    "of the same types in the same order"
                )


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
    spin: np.ndarray | None = None,
) -> np.ndarray:
    """Deviation of `DeepPot` or `DeepSpin` models on frames.

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
    spin
        For models of spins, as in `DeepSpin.eval`; real_data then needs "force_mag" too.

    Returns
    -------
    (n_frames, 8 or 8 + n_atoms): step, max_devi_v, min_devi_v, avg_devi_v (eV/atom), max_devi_f, min_devi_f, avg_devi_f
    (eV/A), devi_e (eV/atom), and with atomic the force deviation of each atom. With spins the forces are called fr, and
    max, min and avg_devi_fm of the magnetic forces (eV per Bohr magneton) stand before devi_e.
    """
    from deepmd.infer.deep_spin import spread_spins

    committee = Committee(models)
    frames = committee.first.frames(coord, box, atype, mixed_type, fparam, aparam)
    options, rows = Options(atomic, relative, relative_v), []
    spins = spread_spins(spin, *frames.types.shape) if committee.has_spins else None
    for m, (arguments, real) in enumerate(frames):
        reference = None if real_data is None else _real(real_data, m, frames, real)
        if spins is not None:
            arguments["spin"] = spins[m][real]
        if spins is not None and reference is not None:
            magnetic = np.flatnonzero(real)[committee.magnetic(arguments["types"])]
            reference.force_mag = np.reshape(real_data["force_mag"], (len(frames), -1, 3))[m][magnetic]
        columns = frame_columns(committee.predict(**arguments), reference, options)
        rows.append(_spread_atoms(columns, np.flatnonzero(real), len(real)) if atomic else columns)
    table = np.column_stack([np.arange(len(rows)) * frequency, np.array(rows)])
    if fname is not None:
        write_table(fname, table, names=committee.columns)
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
    n = len(columns) - len(places)
    row = np.full(n + n_atoms, np.nan)
    row[:n] = columns[:n]
    row[n + places] = columns[n:]
    return row


def header_line(n_atoms: int = 0, names: Sequence[str] = COLUMNS) -> str:
    """The names of the columns as they stand in the file (without the comment sign)."""
    line = f"{'step':10s}" + "".join(f"{name:19s}" for name in names)
    return line + (f"{f'atm_devi_f({n_atoms})':19s}" if n_atoms else "")


def write_table(path: str, table: np.ndarray, system: str | None = None, names: Sequence[str] = COLUMNS) -> None:
    """Appends one block to a file: the system's name if there is one, the names of the columns, the rows."""
    line = header_line(table.shape[1] - 1 - len(names), names)
    header = line if system is None else f"{system}\n{line}"
    formats = ["%12d"] + ["%19.6e"] * (table.shape[1] - 1)
    with open(path, "a", encoding="utf-8") as file:
        np.savetxt(file, table, fmt=formats, delimiter="", header=header)


def main(args: argparse.Namespace) -> None:
    """``dp model-devi``: the deviation of several models on all frames of the systems below a folder."""
    from deepmd.data import load_systems
    from deepmd.infer.deep_eval import model_kind
    from deepmd.infer.deep_pot import DeepPot
    from deepmd.infer.deep_spin import DeepSpin

    names = list(args.models or DEFAULT_MODELS)
    door = DeepSpin if model_kind(names[0]) == "spin" else DeepPot
    committee = Committee([door(name) for name in names])
    if len(committee) < 2 and not args.real_error:
        raise InputError("dp model-devi got 1 model, expected at least two; give them after -m")
    options = Options(args.atomic, args.relative, args.relative_v)
    systems = load_systems(args.system, type_map=committee.first.get_type_map())
    for system in _with_progress(systems):
        columns = system_deviation(system, committee, args.real_error, options)
        table = np.column_stack([np.arange(len(columns)) * args.frequency, columns])
        write_table(args.output, table, str(system.name), committee.columns)
        log.info("%s: %d frames, largest force deviation %.3e", system.name, len(table), table[:, 4].max())
    log.info("model deviations of %d systems written to %s", len(systems), args.output)


def system_deviation(system: Any, committee: Committee, real_error: bool, options: Options) -> np.ndarray:
    """Columns of one system, frame by frame: padding atoms of mixed data are left out (nan in the atoms' columns)."""
    from deepmd.infer.from_data import iterate

    rows = []
    labels = (*LABELS, *(("force_mag",) if committee.has_spins else ()))
    for frame in iterate(system, committee.first, labels if real_error else ()):
        predicted = committee.predict(frame.positions, frame.types, frame.cell, **frame.parameters)
        rows.append(frame_columns(predicted, _reference(system, frame, committee) if real_error else None, options))
    n = len(committee.columns)
    n_atoms = max(len(row) for row in rows) - n
    return np.array([_spread_atoms(row, np.arange(len(row) - n), n_atoms) for row in rows])


def _reference(system: Any, frame: DataFrame, committee: Committee) -> Labels:
    """Labels of one frame; open boundaries have no virial, so its deviation is nan there."""
    needed = (*(LABELS[:2] if frame.cell is None else LABELS), *(("force_mag",) if committee.has_spins else ()))
    missing = [key for key in needed if key not in frame.labels]
    if missing:
        raise InputError(f"{system.name} lacks {', '.join(missing)}; --real_error compares with these labels")
    virial = frame.labels.get("virial")
    magnetic = frame.labels["force_mag"][committee.magnetic(frame.types)] if committee.has_spins else None
    return Labels(frame.labels["energy"], frame.labels["force"], virial, magnetic)


def _with_progress(systems: Sequence[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(systems, unit="system", disable=None, leave=False)
