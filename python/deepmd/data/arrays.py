"""Arrays of frames on disk or in memory behind one small face: shape, and rows by frame index."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from deepmd.errors import DataError

_OPEN_ARRAYS = 4096  # kept open at once; a process may have 65530 memory maps on a usual kernel
_SMALL = 1 << 14  # bytes up to which a file is read instead of mapped
_HEADER_BYTES = 1 << 16  # longest header that is read


class FrameArray(Protocol):
    """One quantity of one set."""

    where: str
    shape: tuple[int, ...]

    def rows(self, frames: np.ndarray | slice | None, n_frames: int) -> np.ndarray:
        """Values of the frames (None: all; a slice may give a view) as [n, width], in the type they are stored in."""
        ...


def checked_dtype(dtype: np.dtype, where: str) -> np.dtype:
    """The dtype if it holds plain real numbers; refuses pickled objects, text, records and complex numbers."""
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled Python objects, expected plain numbers; they are not opened because that could run "
            "code: write the array again as float64"
        )
    if dtype.kind not in "fiub":
        raise DataError(
            f"{where} holds values of type {dtype}, expected real numbers; write the array again as float64"
        )
    return dtype


class NpyArray:
    """A `.npy` file: the header is read at once, the values are memory-mapped when asked for.

    path: what messages call it. file: where it is, also after the process has gone to another folder.
    """

    def __init__(self, path: str, file: str | None = None):
        self.where = path
        self._file = os.path.abspath(path) if file is None else file
        self._stamp = file_stamp(self._file)
        self.shape, self._fortran, self._dtype, self._offset = _read_header(self._file, path)

    def rows(self, frames: np.ndarray | slice | None, n_frames: int) -> np.ndarray:
        values = _open_array(self._file, self._stamp, self.shape, self._fortran, self._dtype, self._offset)
        flat = values.reshape(n_frames, -1)
        return flat if frames is None else flat[frames]


class MemoryArray:
    """An array already in memory (raw text, extxyz)."""

    def __init__(self, values: np.ndarray, where: str):
        checked_dtype(values.dtype, where)
        self.where = where
        self.shape = values.shape
        self._values = values

    def rows(self, frames: np.ndarray | slice | None, n_frames: int) -> np.ndarray:
        flat = self._values.reshape(n_frames, -1)
        return flat if frames is None else flat[frames]


class Hdf5Array:
    """A data set of an HDF5 file, read in slices."""

    def __init__(self, dataset, where: str):
        checked_dtype(dataset.dtype, where)
        self.where = where
        self.shape = tuple(dataset.shape)
        self._dataset = dataset

    def rows(self, frames: np.ndarray | slice | None, n_frames: int) -> np.ndarray:
        if frames is None or not self.shape or self.shape[0] != n_frames:
            flat = np.asarray(self._dataset[()]).reshape(n_frames, -1)
            return flat if frames is None else flat[frames]
        if isinstance(frames, slice):
            block = np.asarray(self._dataset[frames])
            return block.reshape(len(block), -1)
        if len(frames) == 0:
            return np.asarray(self._dataset[0:0]).reshape(0, int(np.prod(self.shape[1:])))
        # HDF5 wants rising indices without repeats; a slice is far faster than a list where frames lie close together.
        first, last = int(frames.min()), int(frames.max())
        if last - first < 4 * len(frames):
            return np.asarray(self._dataset[first : last + 1]).reshape(last - first + 1, -1)[frames - first]
        unique, inverse = np.unique(frames, return_inverse=True)
        return np.asarray(self._dataset[unique]).reshape(len(unique), -1)[inverse]


def file_stamp(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced or written again; zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return (0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_header(file: str, path: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    try:
        with open(file, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            start = handle.read(12)
            length = int.from_bytes(start[8:10] if start[6:7] == b"\x01" else start[8:12], "little")
            start += handle.read(max(0, min(length, _HEADER_BYTES) - (2 if start[6:7] == b"\x01" else 0)))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend its permissions") from None
    if size == 0:
        raise DataError(f"{path} is an empty file, expected a NumPy array; write it again")
    try:
        shape, fortran, dtype, offset = _parse_header(start)
    except Exception as error:  # NumPy's parser raises many kinds for damaged bytes, of the tokenizer among others
        raise DataError(
            f"{path} is not a NumPy .npy file ({_first_line(error)}); write it again with numpy.save"
        ) from None
    checked_dtype(dtype, path)
    expected = offset + math.prod(shape) * dtype.itemsize
    if size < expected:
        raise DataError(f"{path} is truncated: {size} bytes, expected {expected} for shape {shape}; copy it again")
    return shape, fortran, dtype, offset


@lru_cache(maxsize=1024)
def _parse_header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Most files of a data set begin with one of few headers, and to parse one costs more than to read it."""
    handle = io.BytesIO(start)
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(handle)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype, handle.tell()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


@lru_cache(maxsize=_OPEN_ARRAYS)
def _open_array(
    path: str, stamp: tuple[int, ...], shape: tuple[int, ...], fortran: bool, dtype: np.dtype, offset: int
) -> np.ndarray:
    """The values of a file: small ones read, large ones mapped, which costs more to set up than a short read."""
    del stamp  # a file that was written again since is another one
    count = math.prod(shape)
    order = "F" if fortran else "C"
    try:
        if count * dtype.itemsize <= _SMALL:
            values = np.fromfile(path, dtype=dtype, count=count, offset=offset).reshape(shape, order=order)
        else:
            values = np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} could be opened before but not now ({_first_line(error)}); data must not change"
        ) from None
    return np.ascontiguousarray(values) if fortran else values


def forget_arrays() -> None:
    """Close the arrays that are kept open; files may then be replaced."""
    _open_array.cache_clear()


def read_numbers(path: str, rows: Sequence[str] | None = None) -> np.ndarray:
    """A raw text file, one frame a line, as [n_frames, width]; errors name the line."""
    lines = rows if rows is not None else _lines(path)
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{path} holds no numbers, expected one frame a line; write it again")
    try:
        return np.loadtxt(lines, dtype=np.float64, ndmin=2)
    except ValueError:
        raise DataError(_bad_line(path, lines)) from None


def _bad_line(path: str, lines: Sequence[str]) -> str:
    width = len(lines[0].split())
    for number, line in enumerate(lines):
        words = line.split()
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"{path}, frame {number}: '{word[:40]}' is not a number; write one frame of numbers a line"
        if len(words) != width:
            return f"{path}, frame {number}: {len(words)} numbers, expected {width} as in frame 0; write the line again"
    return f"{path} cannot be read as numbers, expected one frame of numbers a line; write it again"


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text, expected one frame of numbers a line; write it again") from None
