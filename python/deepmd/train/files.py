"""Small files that a training run leaves beside its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deepmd.errors import TrainingError


def write_json(path: str | Path, value: dict[str, Any]) -> None:
    """Writes indented JSON. Raises TrainingError naming the file when the disk is full or the folder read-only."""
    try:
        Path(path).write_text(json.dumps(value, indent=4) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot write the file: {error.strerror or error}; free space or change the folder"
        ) from error
