"""Checkpoints: written whole (temporary file, fsync, rename), sealed with a checksum, read without running code.

A checkpoint holds weights, optimiser, step, samplers, random state and the input, so that a run that was killed goes
on to the same final weights.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from deepmd import model_file
from deepmd.errors import ModelError, TrainingError
from deepmd.nn.model import build
from deepmd.nn.modifier import DipoleCharge, modifier_of

FORMAT = "deepmd-checkpoint"
FORMAT_VERSION = 1
TRAILER = f"{FORMAT}-{FORMAT_VERSION} sha256:".encode()
POINTER = "checkpoint"  # text file that names the newest checkpoint


def save(prefix: str | Path, payload: dict[str, Any], keep: int) -> Path:
    """Writes `<prefix>-<step>.pt`, points `<prefix>.pt` and `checkpoint` at it, removes all but the newest `keep`.

    Raises TrainingError, with what stood there untouched, when the file cannot be written.
    """
    prefix = Path(prefix)
    path = prefix.with_name(f"{prefix.name}-{payload['step']}.pt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, payload)
        name_newest(prefix.name, path)
        if path.parent != Path() and not path.is_absolute():  # for `dp freeze` where the training was started
            model_file.write_whole(POINTER, f"{path}\n".encode())
    except (OSError, ModelError) as error:
        raise TrainingError(f"checkpoint not saved: {error}") from error
    if keep >= 1:
        for old in family(prefix)[:-keep]:
            if old != path:
                old.unlink(missing_ok=True)
    return path


def write(path: Path, payload: dict[str, Any]) -> None:
    """Writes one checkpoint file, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({**payload, "format": FORMAT, "format_version": FORMAT_VERSION}, buffer)
    model_file.write_whole(path, model_file.seal(buffer.getvalue(), TRAILER))


def name_newest(name: str, path: Path) -> None:
    """Points `<name>.pt` and `checkpoint` in the folder of a checkpoint at it."""
    model_file.point(path.with_name(f"{name}.pt"), path.name)
    model_file.write_whole(path.parent / POINTER, f"{path.name}\n".encode())


def family(prefix: Path) -> list[Path]:
    """The checkpoints of a prefix, oldest first."""
    pattern = re.compile(re.escape(prefix.name) + r"-(\d+)\.pt")
    return sorted((p for p in prefix.parent.glob("*.pt") if pattern.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.rpartition("-")[2])


def set_aside(prefix: str | Path, after: int = -1, others: Sequence[Path] = ()) -> Path | None:
    """Moves checkpoints of later steps than `after`, which another run has left in the way, into a new folder.

    `others` are files that go along. The folder is one to freeze or restart from. None: there was nothing to move.
    """
    prefix = Path(prefix)
    stale = [path for path in family(prefix) if step_of(path) > after]
    if not stale:
        return None
    folder = next(f for k in itertools.count(1) if not (f := prefix.with_name(f"{prefix.name}.earlier-{k}")).exists())
    try:
        folder.mkdir()
        for path in (*stale, *(path for path in others if path.is_file())):
            path.rename(folder / path.name)
        name_newest(prefix.name, folder / stale[-1].name)
        prefix.with_name(f"{prefix.name}.pt").unlink(missing_ok=True)
        (prefix.parent / POINTER).unlink(missing_ok=True)
        if left := family(prefix):
            name_newest(prefix.name, left[-1])
    except (OSError, ModelError) as error:
        raise TrainingError(f"{folder}: cannot move the checkpoints of an earlier run there: {error}") from error
    return folder


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file from a folder (its `checkpoint` file decides), a file, or a name without `.pt`."""
    path = Path(path)
    if path.is_dir():
        pointer = path / POINTER
        if not pointer.exists():
            raise ModelError(
                f"{path}: got a folder without the file 'checkpoint'; give the .pt file itself or train first"
            )
        named = path / pointer.read_text(encoding="utf-8").strip()
        return named if named.exists() else path / named.name  # the folder may have been moved
    if path.exists():
        return path
    with_suffix = path.with_name(path.name + ".pt")
    if with_suffix.exists():
        return with_suffix
    raise ModelError(
        f"{path}: there is no such checkpoint; expected a .pt file or a folder that dp train wrote", "DP_ERROR_FILE"
    )


def load(path: str | Path) -> dict[str, Any]:
    """The payload of a checkpoint; no code in the file is run. Raises ModelError in words for any other file."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the checkpoint: {error.strerror or error}", "DP_ERROR_FILE") from error
    start = len(content) - len(TRAILER) - model_file.N_DIGITS
    if start < 0 or content[start : start + len(TRAILER)] != TRAILER:
        if model_file.TRAILER in content[-200:]:
            raise ModelError(
                f"{path}: this is a frozen model, expected a checkpoint; use --init-frz-model", "DP_ERROR_FORMAT"
            )
        raise ModelError(f"{path}: this is no checkpoint of this program, or it is cut short; expected a .pt file that "
                         "dp train wrote (dp convert-backend reads DeePMD-kit's)", "DP_ERROR_FORMAT")  # fmt: skip
    if hashlib.sha256(content[: -model_file.N_DIGITS]).hexdigest().encode() != content[-model_file.N_DIGITS :]:
        others = [p.name for p in path.parent.glob("*-*.pt") if p != path]
        raise ModelError(f"{path}: the checkpoint is damaged (its checksum does not match); use another one "
                         f"({', '.join(sorted(others)) or 'there is none beside it'})", "DP_ERROR_DAMAGED")  # fmt: skip
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def model_of(payload: dict[str, Any]) -> Any:
    """The model that a payload describes, weights and statistics included."""
    model = build(json.loads(payload["model_section"]))
    model.load_state_dict(payload["model"])
    model.min_pair_distance = payload.get("min_pair_distance")
    if payload.get("modifier") is not None:
        content = payload["modifier"].numpy().tobytes()
        model.modifier = DipoleCharge(model.section["modifier"], model.type_map, content)
    return model


def modifier_bytes(model: Any) -> torch.Tensor | None:
    """The file that a model's modifier needs, as it travels in checkpoints."""
    modifier = modifier_of(model)
    return None if modifier is None else torch.frombuffer(bytearray(modifier.content), dtype=torch.uint8)


def task_of(payload: dict[str, Any], head: str | None, path: str | Path) -> dict[str, Any]:
    """The payload of one task: of `head` where there are several. Raises ModelError in words for any other head."""
    tasks = payload.get("tasks")
    if tasks is None:
        if head:
            raise ModelError(f"{path}: got the head '{head}', but the model has a single task; leave it out")
        return payload
    if head not in tasks:
        got = f"the head '{head}'" if head else "no head"
        raise ModelError(f"{path}: got {got}, expected one of its tasks {', '.join(tasks)}; name it with --head")
    return {**payload, **tasks[head]}


def load_model(path: str | Path, head: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Model and payload (with the training input under `input`, step under `step`); head: which of several tasks."""
    payload = task_of(load(path), head, path)
    payload["input"] = json.loads(payload["input"]) if payload.get("input") else None
    return model_of(payload), payload
