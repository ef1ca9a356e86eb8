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

log = logging.getLogger(__name__)


class LearningCurve:
    """lcurve.out: step, each quantity for validation and training, learning rate.

    quantities: names in order. validation: whether there are validation columns. restart: the step to go on from, or
    None; rows of later steps, written by a run that was cut off after its last checkpoint, are dropped.
    """

    def __init__(self, path: str | Path, quantities: list[str], validation: bool, restart: int | None = None):
        self.path = Path(path)
        self.quantities = quantities
        self.validation = validation
        self._header_due = True
        if restart is None or not self.path.exists():
            self.path.write_text("")
            return
        kept = [
            line
            for line in self.path.read_text().splitlines()
            if line.startswith("#") or int(line.split()[0]) <= restart
        ]
        self.path.write_text("".join(line + "\n" for line in kept))

    def header(self) -> str:
        columns = "# " + f"{'step':<5}"
        for k in self.quantities:
            if self.validation:
                columns += "   " + f"{k + '_val':>11}" + " " + f"{k + '_trn':>11}"
            else:
                columns += "   " + f"{k + '_trn':>11}"
        return columns + "   " + f"{'lr':<8}\n# nan: the data hold no label for that quantity\n"

    def write(self, step: int, training: dict[str, float], validation: dict[str, float] | None, lr: float) -> None:
        line = self.header() if self._header_due else ""
        self._header_due = False
        line += f"{step:7d}"
        for k in self.quantities:
            line += "   "
            if self.validation:
                line += f"{(validation or {}).get(k, math.nan):11.2e} "
            line += f"{training.get(k, math.nan):11.2e}"
        line += f"   {lr:8.1e}\n"
        with open(self.path, "a") as file:
            file.write(line)


class Progress:
    """Log lines at every display step, and a progress line on a terminal."""

    def __init__(self, start: int, total: int, times: bool = True):
        self._times = times
        self.start, self.total = start, total
        self._began = self._last = time.monotonic()
        self._last_step = start
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._line = tqdm(
            total=total, initial=start, unit="step", dynamic_ncols=True, disable=not terminal, leave=False
        )

    def advance(self) -> None:
        self._line.update(1)

    def display(self, step: int, training: dict[str, float], validation: dict[str, float] | None, lr: float) -> None:
        now = time.monotonic()
        with_lr = ", ".join(f"{k} = {v:8.2e}" for k, v in training.items()) + f", lr = {lr:8.2e}"
        self._say(f"Batch {step:7d}: trn: {with_lr}")
        if validation is not None:
            self._say(f"Batch {step:7d}: val: " + ", ".join(f"{k} = {v:8.2e}" for k, v in validation.items()))
        if not self._times:
            return
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
