"""The learning rate over the steps of training.

With t the step counted from the end of the warm-up and T the steps after it, a = start_lr and b = stop_lr:

    warm-up  a (c + (1 - c) step / warmup_steps), c = warmup_start_factor
    exp      max(a q^(t / s), b), where t / s is rounded down unless `smooth`, s = decay_steps, and q = decay_rate
             or, when that is null, (b / a)^(s / T), so that b is reached at T
    cosine   b + (a - b) (1 + cos(pi t / T)) / 2
    wsd      a, and in the last D steps a decay to b with x = 0..1: inverse_linear a b / (x a + (1 - x) b),
             linear a + (b - a) x, or cosine as above with x for t / T

Beyond T the learning rate stays at b.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deepmd.config.learning_rate import DEFAULT_STOP_LR
from deepmd.errors import InputError

LEAST_STOP_LR = 1e-10  # stop_lr may be 0; the derived decay rate must not be


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step, the first step being 0."""

    start_lr: float
    stop_lr: float
    warmup_steps: int
    warmup_start_factor: float
    decay: Callable[[int], float]

    def lr(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup_steps:
            climbed = step / self.warmup_steps
            return self.start_lr * (self.warmup_start_factor + (1.0 - self.warmup_start_factor) * climbed)
        return self.decay(step - self.warmup_steps)


def schedule(section: dict[str, Any], numb_steps: int) -> Schedule:
    """The schedule of a `learning_rate` section for a training of `numb_steps` steps."""
    start, stop = float(section["start_lr"]), stop_lr(section)
    warmup = _warmup_steps(section, numb_steps)
    kind = section.get("type", "exp")
    if kind not in _DECAYS:
        raise InputError(f"learning_rate/type: got '{kind}', expected one of {', '.join(_DECAYS)}")
    decay = _DECAYS[kind](section, (start, stop), numb_steps, numb_steps - warmup)
    return Schedule(start, stop, warmup, float(section.get("warmup_start_factor", 0.0)), decay)


def stop_lr(section: dict[str, Any]) -> float:
    """The last learning rate, given as it is or as a fraction of the first one."""
    if section.get("stop_lr_ratio") is not None:
        return float(section["start_lr"]) * float(section["stop_lr_ratio"])
    return float(section["stop_lr"]) if section.get("stop_lr") is not None else DEFAULT_STOP_LR


def _warmup_steps(section: dict[str, Any], numb_steps: int) -> int:
    if section.get("warmup_ratio") is not None:
        return int(section["warmup_ratio"] * numb_steps)
    steps = int(section.get("warmup_steps", 0))
    if steps and steps >= numb_steps > 0:
        raise InputError(
            f"learning_rate/warmup_steps: got {steps}, expected fewer steps than the {numb_steps} of the training; "
            "lower it or train longer"
        )
    return steps if numb_steps > 0 else 0


def _exp(section: dict[str, Any], ends: tuple[float, float], _all: int, total: int) -> Callable[[int], float]:
    start, stop = ends
    steps, rate, smooth = int(section.get("decay_steps", 5000)), section.get("decay_rate"), section.get("smooth", False)
    if rate is None:
        if steps >= total:
            steps = 100 if total // 10 > 100 else total // 100 + 1
        rate = (max(stop, LEAST_STOP_LR) / start) ** (steps / total) if total > 0 else 1.0
    return lambda t: max(start * rate ** (t / steps if smooth else t // steps), stop)


def _cosine(_section: dict[str, Any], ends: tuple[float, float], _all: int, total: int) -> Callable[[int], float]:
    start, stop = ends
    return lambda t: _half_cosine(start, stop, min(t / total, 1.0) if total > 0 else 0.0)


def _wsd(section: dict[str, Any], ends: tuple[float, float], all_steps: int, total: int) -> Callable[[int], float]:
    """The decay covers decay_phase_ratio of all steps, the warm-up included, but never the warm-up itself."""
    start, stop = ends
    length = max(min(int(section.get("decay_phase_ratio", 0.1) * all_steps), total), 1)
    shape = _SHAPES[section.get("decay_type", "inverse_linear")]

    def decay(t: int) -> float:
        if total <= 0 or t <= total - length:
            return start
        return shape(start, stop, min((t - total + length) / length, 1.0))

    return decay


def _half_cosine(start: float, stop: float, x: float) -> float:
    return stop + (start - stop) * 0.5 * (1.0 + math.cos(math.pi * x))


def _inverse_linear(start: float, stop: float, x: float) -> float:
    return start * stop / (x * start + (1.0 - x) * stop)


def _linear(start: float, stop: float, x: float) -> float:
    return start + (stop - start) * x


_DECAYS = {"exp": _exp, "cosine": _cosine, "wsd": _wsd}
_SHAPES = {"inverse_linear": _inverse_linear, "cosine": _half_cosine, "linear": _linear}
