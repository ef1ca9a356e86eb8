"""Small languages inside input.json, checked before any data are read: `sel`, activations, batches, probabilities."""

from __future__ import annotations

import math

from .built import BUILT, refuse_choice
from .messages import fail, require

_SEL_FORMS = "a list with one number per type, 'auto' or 'auto:factor' with a factor of 1 or more"
_BATCH_FORMS = "an integer, a list of integers, 'auto', 'auto:N', 'max:N', 'filter:N' or 'mixed:N'"
_PROB_FORMS = "'prob_uniform', 'prob_sys_size' or 'prob_sys_size;start:end:weight;...'"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def check_auto_sel(text: str, path: str) -> None:
    """`auto`, or `auto:factor`."""
    head, colon, tail = text.strip().partition(":")
    factor = _number(tail) if colon else 1.1
    require(head == "auto" and factor is not None and factor >= 1, path, text, _SEL_FORMS)


def check_activation(text: str, path: str) -> None:
    """A known name in any case; silut may carry a threshold."""
    head, colon, tail = text.lower().partition(":")
    if head not in BUILT["activation_function"]:
        refuse_choice(path, text, "activation_function")
    if colon:
        threshold = _number(tail)
        good = head == "silut" and threshold is not None and threshold > 0
        require(good, path, text, "a name alone, or 'silut:a' with a positive threshold a")


def check_batch_size(value: int | str, path: str) -> None:
    """Frames of a batch as a number, or atoms of a batch as a rule."""
    if isinstance(value, int):
        require(value > 0, path, value, "a positive number of frames")
        return
    head, colon, tail = value.strip().partition(":")
    good = head == "auto" and not colon
    good = good or (head in ("auto", "max", "filter", "mixed") and bool(_count(tail)))
    require(good, path, value, _BATCH_FORMS, "N is a positive integer")


def check_auto_prob(text: str, path: str) -> None:
    """The method, and blocks of systems that do not overlap."""
    method, *parts = [part.strip() for part in text.split(";")]
    require(method in ("prob_uniform", "prob_sys_size"), path, text, _PROB_FORMS)
    require(method == "prob_sys_size" or not parts, path, text, _PROB_FORMS, "blocks go with prob_sys_size only")
    blocks = sorted(_block(part, text, path) for part in parts if part)
    end = 0
    for first, last, _ in blocks:
        require(first >= end, path, text, "blocks that do not overlap", f"system {first} is in two blocks")
        end = last
    positive = not blocks or any(weight > 0 for *_, weight in blocks)
    require(positive, path, text, "a positive weight in at least one block")


def _block(part: str, text: str, path: str) -> tuple[int, int, float]:
    fields = [field.strip() for field in part.split(":")]
    if len(fields) == 3:
        first, last, weight = _count(fields[0]), _count(fields[1]), _number(fields[2])
        if first is not None and last is not None and first < last and weight is not None and weight >= 0:
            return first, last, weight
    remedy = f"'{part}' must be start:end:weight with start < end and a weight of 0 or more"
    fail(path, text, "blocks such as '0:3:0.7'", remedy)
