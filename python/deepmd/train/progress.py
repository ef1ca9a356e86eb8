"""What a running training tells: lcurve.out, log lines, a progress line with the time that remains."""

from __future__ import annotations

import datetime
import logging
import math
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from deepmd.errors import TrainingError
from deepmd.log import rank

log = logging.getLogger(__name__)


class LearningCurve:
    """lcurve.out: step, each quantity for validation and training, learning rate.

    groups: names of columns; those of a group stand close together. restart: the step to go on from, or None; rows of
    later steps, written by a run that was cut off after its last checkpoint, are dropped.
    """

    def __init__(self, path: str | Path, groups: list[list[str]], restart: int | None = None):
        self.path = Path(path)
        self.groups = groups
        self._header_due = True
        kept = ""
        try:
            if restart is not None and self.path.exists():
                lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                kept = "".join(line for line in lines if self._stays(line, restart))
            self.path.write_text(kept)
        except OSError as error:
            raise self._unwritable(error) from error

    @staticmethod
    def _stays(line: str, restart: int) -> bool:
        """Whether a row belongs to the steps before a restart; the last row of a run that was cut off may be half."""
        step = (line.split() or [""])[0]
        return line.endswith("\n") and (line.startswith("#") or (step.isdigit() and int(step) <= restart))

    def _unwritable(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"{self.path}: cannot write the learning curve: {error.strerror or error}; free space or change "
            "training/disp_file"
        )

    def header(self) -> str:
        columns = "".join("   " + " ".join(f"{name:>11}" for name in group) for group in self.groups)
        end = "   " + f"{'lr':<8}\n# nan: the data hold no label for that quantity\n"
        return "# " + f"{'step':<5}" + columns + end

    def write(self, step: int, values: dict[str, float], lr: float) -> None:
        """values: by the names of the columns."""
        line = self.header() if self._header_due else ""
        self._header_due = False
        line += f"{step:7d}"
        for group in self.groups:
            line += "   " + " ".join(f"{values.get(name, math.nan):11.2e}" for name in group)
        line += f"   {lr:8.1e}\n"
        try:
            with open(self.path, "a") as file:
                file.write(line)
        except OSError as error:
            raise self._unwritable(error) from error


def column_groups(quantities: list[str], validation: bool, task: str = "") -> list[list[str]]:
    """The columns of one task: each quantity for validation, if there is some, and for training."""
    end = f"_{task}" if task else ""
    return [[f"{k}_{part}{end}" for part in (("val", "trn") if validation else ("trn",))] for k in quantities]


def column_values(training: dict[str, float], validation: dict[str, float] | None, task: str = "") -> dict[str, float]:
    """What stands in the columns of `column_groups`."""
    end = f"_{task}" if task else ""
    values = {f"{k}_trn{end}": value for k, value in training.items()}
    return values | {f"{k}_val{end}": value for k, value in (validation or {}).items()}


class Progress:
    """Log lines at every display step, and a progress line on a terminal."""

    def __init__(self, start: int, total: int, times: bool = True):
        self._times = times
        self.start, self.total = start, total
        self._began = self._last = time.monotonic()
        self._last_step = start
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and rank() == 0
        self._line = tqdm(
            total=total, initial=start, unit="step", dynamic_ncols=True, disable=not terminal, leave=False
        )

    def advance(self) -> None:
        self._line.update(1)

    def display(
        self, step: int, training: dict[str, float], validation: dict[str, float] | None, lr: float, task: str = ""
    ) -> None:
        """The errors of one task."""
        begin = f"Batch {step:7d}: {task}_" if task else f"Batch {step:7d}: "
        with_lr = ", ".join(f"{k} = {v:8.2e}" for k, v in training.items()) + f", lr = {lr:8.2e}"
        self._say(f"{begin}trn: {with_lr}")
        if validation is not None:
            self._say(f"{begin}val: " + ", ".join(f"{k} = {v:8.2e}" for k, v in validation.items()))

    def display_time(self, step: int) -> None:
        """Time since the last such line, and when the end is due."""
        if not self._times:
            return
        now = time.monotonic()
        per_step = (now - self._last) / max(step - self._last_step, 1)
        left = datetime.timedelta(seconds=int((self.total - step) * (now - self._began) / max(step - self.start, 1)))
        finish = (datetime.datetime.now() + left).strftime("%Y-%m-%d %H:%M")
        self._say(
            f"Batch {step:7d}: total wall time = {now - self._last:.2f} s ({1000 * per_step:.1f} ms a step), "
            f"eta = {left} at {finish}"
        )
        self._last, self._last_step = now, step

    def _say(self, text: str) -> None:
        if not self._line.disable:
            self._line.clear()
        log.info(text)

    def close(self) -> float:
        """Ends the line; returns the wall time in seconds."""
        self._line.close()
        return time.monotonic() - self._began
