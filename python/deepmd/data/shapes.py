"""What shape the arrays of a set must have, and the words for those that have another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepmd.data.arrays import FrameArray
from deepmd.data.sources import FrameSet
from deepmd.errors import DataError
from deepmd.keys import Field


@dataclass(frozen=True)
class Expected:
    """What is known before an array is opened: frames of the set, atoms, open width (0: free), selected atoms."""

    n_frames: int
    n_atoms: int
    width: int = 0
    n_selected: int | None = None


def size(array: FrameArray) -> int:
    """Number of values in the array."""
    return math.prod(array.shape)


def coordinate_frames(chunk: FrameSet, n_atoms: int) -> int:
    """Number of frames of a set as its positions tell; a one-dimensional array is one frame."""
    if "coord" not in chunk.stems:
        raise DataError(f"{chunk.where} has no coord.npy, expected positions of every frame; add it or remove the set")
    array = chunk.array("coord")
    if not array.shape or size(array) == 0:
        raise DataError(f"{array.where} has no frames (shape {array.shape}); write the set again or remove it")
    frames = 1 if len(array.shape) == 1 else array.shape[0]
    if size(array) != frames * 3 * n_atoms:
        raise DataError(
            f"{array.where} has {size(array) // frames} numbers a frame from frame 0 on, expected "
            f"{3 * n_atoms} for the "
            f"{n_atoms} atoms of type.raw; make the two agree"
        )
    return frames


def check(field: Field, array: FrameArray, expected: Expected) -> None:
    """Refuse an array that does not hold the field for the frames and atoms of its set."""
    per_frame = field.width(expected.n_atoms, expected.width or 1)
    whole = expected.n_frames * per_frame
    total = size(array)
    # Some published sets hold all frames in one row; anything else must have frames first.
    frames_first = len(array.shape) == 1 or array.shape[:1] in ((expected.n_frames,), (1,))
    free = field.open and not expected.width
    if frames_first and total and (total == whole or (free and total % whole == 0)):
        return
    if frames_first and field.selectable:
        per_atom = per_frame // expected.n_atoms
        if expected.n_selected is None and total < whole and total % (expected.n_frames * per_atom) == 0:
            return
        if expected.n_selected and total == expected.n_frames * per_atom * expected.n_selected:
            return
    raise DataError(_words(field, array, expected, per_frame))


def refuse_missing(field: Field, chunk: FrameSet) -> None:
    """Refuse a set without the geometry that its frames need."""
    if field.name == "cell":
        raise DataError(
            f"{chunk.where} has no box.npy, expected one cell a frame; add it, or an empty file "
            "nopbc beside type.raw for "
            "open boundaries"
        )
    if field.name == "types":
        raise DataError(f"{chunk.where} has no real_atom_types.npy, expected one as in the other sets; add it")


def _words(field: Field, array: FrameArray, expected: Expected, per_frame: int) -> str:
    held = array.shape[0] if array.shape else 0
    total = size(array)
    if len(array.shape) == 1 and field.shape and total % expected.n_frames and total % per_frame == 0:
        held = total // per_frame
    if held not in (expected.n_frames, 1) or total == 0:
        first = min(held, expected.n_frames)
        return (
            f"{array.where} has {held if total else 0} frames, expected {expected.n_frames} as "
            f"coord has (frame {first} is "
            "the first without partner); write the set again"
        )
    return (
        f"{array.where} has {total // max(held, 1)} numbers a frame from frame 0 on, expected "
        f"{per_frame} for {field.name} of "
        f"{expected.n_atoms} atoms; write the array again"
    )
