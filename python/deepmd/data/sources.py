"""Where a system lives: a folder of npy sets, a folder of raw text, an HDF5 group, or frames in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from deepmd.data.arrays import FrameArray, Hdf5Array, MemoryArray, NpyArray, file_stamp, read_numbers
from deepmd.errors import DataError

HDF5_SUFFIXES = (".hdf5", ".h5")
_NOT_LABELS = {"type", "type_map"}


@dataclass
class FrameSet:
    """One chunk of frames: where it is, and which arrays it has (by file stem)."""

    where: str
    stems: frozenset[str]
    open: Callable[[str], FrameArray] = field(repr=False)
    numbers: Sequence[int] | None = None
    _cache: dict = field(default_factory=dict, repr=False)

    def array(self, stem: str) -> FrameArray:
        """The array of a stem in `stems`; its header is read once."""
        if stem not in self._cache:
            self._cache[stem] = self.open(stem)
        return self._cache[stem]

    def number(self, frame: int) -> int:
        """What a frame of this set is called in messages: its number in the file that it came from."""
        return frame if self.numbers is None else self.numbers[frame]


@dataclass
class Source:
    """A system as found: texts of type.raw and type_map.raw, the nopbc mark, and its sets in order of name."""

    where: str
    type_text: str
    type_map_text: str | None
    nopbc: bool
    sets: list[FrameSet]


def open_folder(path: str) -> Source:
    """A folder with type.raw and either `set.*` folders of npy files or raw text files."""
    names = listing(path)
    if "type.raw" not in names:
        raise DataError(f"{path} has no type.raw, expected a data system; give the folder that holds type.raw")
    set_names = sorted(name for name in names if name.startswith("set.") and os.path.isdir(os.path.join(path, name)))
    sets = [_npy_set(os.path.join(path, name)) for name in set_names]
    if not sets and "coord.raw" in names:
        sets = [_raw_set(path, names)]
    if not sets:
        raise DataError(
            f"{path} has neither set.* folders nor coord.raw, expected frames there; write a set or remove it"
        )
    type_map = _text(os.path.join(path, "type_map.raw")) if "type_map.raw" in names else None
    return Source(path, _text(os.path.join(path, "type.raw")), type_map, "nopbc" in names, sets)


def open_hdf5(path: str) -> Source:
    """The group that `file.hdf5#/group` names; the root where no group is given."""
    file_name, _, group_name = path.partition("#")
    handle = hdf5_file(file_name)
    group = handle.get(group_name or "/")
    if group is None or not hasattr(group, "keys"):
        raise DataError(f"{path}: the file has no group '{group_name}'; list the groups with h5ls")
    if "type.raw" not in group:
        raise DataError(f"{path} has no type.raw, expected a data system; give the group that holds type.raw")
    set_names = sorted(name for name in group if name.startswith("set."))
    base = path if "#" in path else path + "#/"
    sets = [_hdf5_set(group[name], f"{base.rstrip('/')}/{name}") for name in set_names]
    if not sets:
        raise DataError(f"{path} has no set.* groups, expected frames there; write a set or remove it")
    type_map = _hdf5_text(group["type_map.raw"]) if "type_map.raw" in group else None
    return Source(path, _hdf5_text(group["type.raw"]), type_map, "nopbc" in group, sets)


def memory_set(where: str, arrays: dict[str, np.ndarray], numbers: Sequence[int] | None = None) -> FrameSet:
    """A set whose arrays (by file stem) are already in memory."""
    held = {stem: MemoryArray(np.asarray(values), f"{where} ({stem})") for stem, values in arrays.items()}
    return FrameSet(where, frozenset(held), held.__getitem__, numbers)


def hdf5_file(path: str):
    """An open HDF5 file, read-only, shared by all systems in it."""
    if not os.path.isfile(path):
        raise DataError(f"{path} does not exist, expected an HDF5 file; mend the path in `systems`")
    try:
        return _open_hdf5(os.path.abspath(path), file_stamp(path))
    except OSError:
        raise DataError(f"{path} is not a readable HDF5 file; it may be truncated: copy it again") from None


@lru_cache(maxsize=64)
def _open_hdf5(path: str, stamp: tuple[int, ...]):
    import h5py

    del stamp  # a file that was written again since is another one
    return h5py.File(path, "r")


def listing(path: str) -> set[str]:
    """Names in a folder."""
    try:
        return set(os.listdir(path))
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error.strerror}); mend the path or its permissions") from None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text; write it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend its permissions") from None


def _npy_set(path: str) -> FrameSet:
    stems = frozenset(name[:-4] for name in listing(path) if name.endswith(".npy"))
    folder = os.path.abspath(path)
    return FrameSet(path, stems, lambda stem: NpyArray(*(os.path.join(at, stem + ".npy") for at in (path, folder))))


def _raw_set(path: str, names: set[str]) -> FrameSet:
    stems = frozenset(name[:-4] for name in names if name.endswith(".raw")) - _NOT_LABELS

    def open_raw(stem: str) -> MemoryArray:
        name = os.path.join(path, stem + ".raw")
        return MemoryArray(read_numbers(name), name)

    return FrameSet(path, stems, open_raw)


def _hdf5_set(group, where: str) -> FrameSet:
    if not hasattr(group, "keys"):
        raise DataError(f"{where} is a data set, expected a group that holds coord.npy; write the file again")
    stems = frozenset(name[:-4] for name in group if name.endswith(".npy"))
    return FrameSet(where, stems, lambda stem: Hdf5Array(group[stem + ".npy"], f"{where}/{stem}.npy"))


def _hdf5_text(dataset) -> str:
    values = np.atleast_1d(np.asarray(dataset[()]))
    words = [value.decode() if isinstance(value, bytes) else str(value) for value in values.ravel()]
    return " ".join(words)
