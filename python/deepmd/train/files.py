"""Small files that a training run leaves beside its checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepmd.errors import InputError, TrainingError


def checkpoint_prefix(section: dict[str, Any]) -> Path:
    """Folder and first part of the names of checkpoints; section: normalised `training`."""
    return Path(section.get("save_dir") or ".") / section["save_ckpt"]


@contextlib.contextmanager
def sole_writer(prefix: Path) -> Iterator[None]:
    """Refuses to train where another process writes checkpoints of the same names, as `mpirun -n 4 dp train` would."""
    path = prefix.with_name(f".{prefix.name}.lock")
    handle = _lock(path, prefix)
    try:
        yield
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _lock(path: Path, prefix: Path) -> int | None:
    """The locked file, None where there are no locks. A process that is killed gives its lock back."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return None  # writing the first checkpoint will say what is wrong with the folder
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"dp train: another process is writing the checkpoints {prefix}-*.pt, expected none; wait for its end or "
            "train in another folder (several processes train one model by torchrun, not by mpirun or srun)"
        ) from None
    except OSError:
        os.close(handle)
        return None
    return handle


def write_json(path: str | Path, value: dict[str, Any]) -> None:
    """Writes indented JSON. Raises TrainingError naming the file when the disk is full or the folder read-only."""
    try:
        Path(path).write_text(json.dumps(value, indent=4) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot write the file: {error.strerror or error}; free space or change the folder"
        ) from error
