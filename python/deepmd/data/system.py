"""A system: frames that share the number of atoms, read lazily from whatever holds them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import numpy as np

from deepmd import keys as vocabulary
from deepmd.data import shapes, sources
from deepmd.data.arrays import FrameArray
from deepmd.data.type_names import TypeNames
from deepmd.errors import DataError
from deepmd.keys import Field


class System:
    """Frames of equal atom count with their labels.

    `types` are indices into `type_map` in file order. Arrays are read when asked for; energies and everything else
    come out as float64, whatever the file holds.
    """

    def __init__(self, source: sources.Source, type_map: Sequence[str] | None = None):
        self.name = source.where
        self.sets = source.sets
        self.mixed = any("real_atom_types" in chunk.stems for chunk in self.sets)
        names = TypeNames(source, type_map, self.mixed)
        self.type_map = names.type_map
        self._to_model = names.to_model
        self._own_names = names.own
        self._types = names.types
        self.n_atoms = len(names.types)
        self.periodic = not source.nopbc
        self._widths: dict[str, int] = {}
        self._fills: dict[str, np.ndarray] = {}
        self._selected: np.ndarray | None = None
        self._sound: set[tuple[str, int]] = set()  # (field, set) whose shape has been checked
        sizes = [shapes.coordinate_frames(chunk, self.n_atoms) for chunk in self.sets]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._copies: np.ndarray | None = None
        self._copies = self._frame_copies()
        self.n_frames = int(self._starts[-1]) if self._copies is None else len(self._copies)

    @classmethod
    def open(cls, path: str, type_map: Sequence[str] | None = None) -> System:
        """The system at a folder or `file.hdf5#/group`."""
        if path.partition("#")[0].endswith(sources.HDF5_SUFFIXES) and not os.path.isdir(path):
            return cls(sources.open_hdf5(path), type_map)
        return cls(sources.open_folder(path), type_map)

    def __repr__(self) -> str:
        return f"System({self.name!r}, {self.n_frames} frames of {self.n_atoms} atoms)"

    @property
    def types(self) -> np.ndarray:
        """Model type of each atom [n_atoms], int64, in file order; mixed systems have `frame_types` instead."""
        if self.mixed:
            raise DataError(f"{self.name} is mixed data, its types change with the frame; use frame_types(frames)")
        return self._types

    def frame_types(self, frames: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Model types of the frames [n_frames, n_atoms], int64; -1 is a virtual atom that only pads."""
        indices = self._indices(frames)
        if not self.mixed:
            return np.repeat(self._types[None], len(indices), axis=0)
        raw = self._gather(vocabulary.FIELDS["types"], indices)[0].astype(np.int64)
        bad = (raw < -1) | (raw >= len(self._to_model))
        if not bad.any():
            mapped = np.where(raw < 0, -1, self._to_model[raw])
            bad = (mapped < 0) & (raw >= 0)
            if not bad.any():
                return mapped
        row, atom = np.argwhere(bad)[0]
        raise DataError(self._type_fault(int(indices[row]), int(atom), int(raw[row, atom])))

    def keys(self) -> list[str]:
        """Names of the fields that at least one set holds, geometry included."""
        stems = set().union(*(chunk.stems for chunk in self.sets))
        return sorted({vocabulary.canonical(stem) for stem in stems})

    def has(self, key: str) -> bool:
        """Whether at least one set holds the field."""
        return any(self._stem(chunk, vocabulary.field(key)) for chunk in self.sets)

    def sets_without(self, key: str) -> list[str]:
        """The sets that do not hold the field."""
        return [chunk.where for chunk in self.sets if self._stem(chunk, vocabulary.field(key)) is None]

    def width(self, key: str) -> int:
        """Open dimension of a field (fparam, dos, a property ...): as required, else as in the file; 0 if absent."""
        field = vocabulary.field(key)
        if field.name in self._widths:
            return self._widths[field.name]
        if not field.open:
            return 0
        for index, chunk in enumerate(self.sets):
            stem = self._stem(chunk, field)
            if stem:
                array = chunk.array(stem)
                self._check_shape(field, array, index)
                return shapes.size(array) // (self._set_size(index) * field.width(self.n_atoms))
        return 0

    def require(
        self,
        *must: str,
        fills: dict[str, Sequence[float]] | None = None,
        selected: Sequence[int] | None = None,
        **widths: int,
    ) -> None:
        """Say what the model needs, so that faults are found before the first step.

        `must` names fields that every set has to hold. `widths` gives the open dimension of a field (fparam=2); a width
        above 0 makes the field a must unless `fills` has its default values. `selected` are the model types of which
        files of atomic tensors may hold the atoms alone.
        """
        self._sound.clear()
        if selected is not None:
            self._selected = np.asarray(selected, dtype=np.int64)
        for key, values in (fills or {}).items():
            self._fills[vocabulary.canonical(key)] = np.asarray(values, dtype=np.float64).reshape(-1)
        for key, width in widths.items():
            if width > 0:
                self._require_width(vocabulary.field(key), width)
        for key in must:
            self._require_present(vocabulary.field(key))

    def frames(self, indices: Sequence[int] | np.ndarray | None = None, keys: Iterable[str] | None = None) -> dict:
        """Arrays of the frames (None: all), in file order of atoms.

        positions [n_frames, n_atoms, 3], cell [n_frames, 3, 3] or None, types [n_frames, n_atoms] always; besides, each
        field of `keys` in its shape and `find_<field>` [n_frames] bool, False where the default was filled in. Without
        `keys`: the usual labels and every parameter that a set holds or the model requires.
        """
        rows = self._indices(indices)
        data = {"positions": self._geometry("positions", rows), "types": self.frame_types(rows)}
        data["cell"] = self._geometry("cell", rows) if self.periodic else None
        for key in self._default_keys() if keys is None else keys:
            field = vocabulary.field(key)
            if field.name not in vocabulary.GEOMETRY:
                data[field.name], data["find_" + field.name] = self._gather(field, rows)
        return data

    def locate(self, frame: int) -> tuple[str, int]:
        """The set that holds a frame and the frame's number within it, for messages."""
        actual = int(frame if self._copies is None else self._copies[frame])
        index = int(np.searchsorted(self._starts, actual, side="right")) - 1
        return self.sets[index].where, self.sets[index].number(actual - int(self._starts[index]))

    def file_of(self, key: str, frame: int) -> str:
        """`file, frame k` of a field, for messages."""
        field = vocabulary.field(key)
        where, number = self.locate(frame)
        chunk = next(chunk for chunk in self.sets if chunk.where == where)
        stem = self._stem(chunk, field)
        return f"{chunk.array(stem).where if stem else where}, frame {number}"

    def read(self, key: str, indices: Sequence[int] | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One field of the frames with frames first, and where it was found [n_frames] bool."""
        return self._gather(vocabulary.field(key), self._indices(indices))

    def fields_of(self, index: int) -> list[Field]:
        """Fields that set `index` has or must have; files of names outside the vocabulary only if they are required."""
        names = {vocabulary.canonical(stem) for stem in self.sets[index].stems}
        names &= set(vocabulary.FIELDS) | set(self._widths)
        needed = {"cell"} if self.periodic else set()
        return [vocabulary.field(name) for name in sorted(names - {"cell"} | needed)]

    def array(self, field: Field, index: int) -> tuple[FrameArray, int]:
        """The stored array of a field of `fields_of(index)` after the check of its shape, and its number of frames."""
        array = self._array(field, index)
        if array is None:
            raise DataError(f"{self.sets[index].where} has no {field.stem}.npy, which was asked for; add it")
        return array, self._set_size(index)

    def check_shapes(self) -> None:
        """Open every array of a known field: a wrong width or frame count, a damaged or pickled file is refused."""
        for index in range(len(self.sets)):
            for field in self.fields_of(index):
                self.array(field, index)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _indices(self, frames: Sequence[int] | np.ndarray | None) -> np.ndarray:
        if frames is None:
            return np.arange(self.n_frames)
        indices = np.atleast_1d(np.asarray(frames, dtype=np.int64))
        if len(indices) and (indices.min() < 0 or indices.max() >= self.n_frames):
            raise DataError(f"{self.name} has frames 0 to {self.n_frames - 1}, got {indices.min()} to {indices.max()}")
        return indices

    def _gather(self, field: Field, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        actual = indices if self._copies is None else self._copies[indices]
        shape = self._shape(field)
        if len(self.sets) == 1:
            return self._from_set(field, 0, actual, shape)
        owner = np.searchsorted(self._starts, actual, side="right") - 1
        values = np.empty((len(indices), *shape), dtype=np.int64 if field.integer else np.float64)
        found = np.zeros(len(indices), dtype=bool)
        for index in np.unique(owner):
            mine = np.flatnonzero(owner == index)
            values[mine], found[mine] = self._from_set(field, int(index), actual[mine], shape)
        return values, found

    def _from_set(
        self, field: Field, index: int, actual: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        array = self._array(field, index)
        dtype = np.int64 if field.integer else np.float64
        if array is None:
            values = np.empty((len(actual), *shape), dtype=dtype)
            values[:] = self._fill(field, shape)
            return values, np.zeros(len(actual), dtype=bool)
        rows = array.rows(actual - self._starts[index], self._set_size(index))
        return self._shaped(field, rows, shape).astype(dtype, copy=False), np.ones(len(actual), dtype=bool)

    def _geometry(self, key: str, rows: np.ndarray) -> np.ndarray:
        return self._gather(vocabulary.FIELDS[key], rows)[0]

    def _default_keys(self) -> list[str]:
        known = [key for key in self.keys() if key in vocabulary.FIELDS and key not in vocabulary.GEOMETRY]
        # A Hessian is too large to come unasked; selectable fields need require(selected=...) first.
        small = [key for key in known if key != "hessian" and not vocabulary.FIELDS[key].selectable]
        return list(dict.fromkeys([*vocabulary.USUAL_LABELS, *small, *self._widths]))

    def _shape(self, field: Field) -> tuple[int, ...]:
        width = self.width(field.name)
        return tuple(width if size < 0 else size for size in field.frame_shape(self.n_atoms))

    def _shaped(self, field: Field, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        if rows.shape[1] == size:
            return rows.reshape(len(rows), *shape)
        if self._selected is None:
            raise DataError(
                f"{self.name}: {field.stem} holds {rows.shape[1]} numbers a frame, expected {size} for all "
                f"{self.n_atoms} atoms; say by the selected types of the model which atoms it is for"
            )
        chosen = np.flatnonzero(np.isin(self._types, self._selected))
        whole = np.zeros((len(rows), *shape))
        whole[:, chosen] = rows.reshape(len(rows), len(chosen), *shape[1:])
        return whole

    def _fill(self, field: Field, shape: tuple[int, ...]) -> np.ndarray | float:
        values = self._fills.get(field.name)
        return field.default if values is None else np.broadcast_to(values, shape)

    # -- checking ------------------------------------------------------------------------------------------------------

    def _set_size(self, index: int) -> int:
        return int(self._starts[index + 1] - self._starts[index])

    def _stem(self, chunk: sources.FrameSet, field: Field) -> str | None:
        return next((stem for stem in field.stems if stem in chunk.stems), None)

    def _array(self, field: Field, index: int) -> FrameArray | None:
        chunk = self.sets[index]
        stem = self._stem(chunk, field)
        if stem is None:
            shapes.refuse_missing(field, chunk)
            return None
        array = chunk.array(stem)
        if (field.name, index) not in self._sound:
            self._check_shape(field, array, index)
            self._sound.add((field.name, index))
        return array

    def _check_shape(self, field: Field, array: FrameArray, index: int) -> None:
        chosen = None if self._selected is None else int(np.isin(self._types, self._selected).sum())
        expected = shapes.Expected(self._set_size(index), self.n_atoms, self._widths.get(field.name, 0), chosen)
        shapes.check(field, array, expected)

    def _require_width(self, field: Field, width: int) -> None:
        self._widths[field.name] = width
        if field.name not in self._fills:
            self._require_present(field)
        for index, chunk in enumerate(self.sets):
            stem = self._stem(chunk, field)
            if stem:
                self._check_shape(field, chunk.array(stem), index)

    def _require_present(self, field: Field) -> None:
        for chunk in self.sets:
            if self._stem(chunk, field) is None:
                raise DataError(f"{chunk.where} has no {field.stem}.npy, which this model needs in every set; add it")

    def _frame_copies(self) -> np.ndarray | None:
        if not self.has("numb_copy"):
            return None
        copies = self._gather(vocabulary.FIELDS["numb_copy"], np.arange(int(self._starts[-1])))[0]
        if copies.min() < 0 or copies.sum() == 0:
            raise DataError(f"{self.name}: numb_copy.npy has {copies.min()} at its lowest, expected counts from 0 on")
        return np.repeat(np.arange(len(copies)), copies)

    def _type_fault(self, frame: int, atom: int, value: int) -> str:
        where = self.file_of("types", frame)
        if value < -1 or value >= len(self._own_names):
            return (
                f"{where}, atom {atom}: type {value}, expected -1 to {len(self._own_names) - 1} as type_map.raw allows"
            )
        name = self._own_names[value]
        return f"{where}, atom {atom}: element {name} is not in the model's type_map {self.type_map}; add it there"
