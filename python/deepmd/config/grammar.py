"""Small languages inside input.json: `sel`, `batch_size`, `auto_prob` and activation functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .built import BUILT, refuse_choice
from .messages import fail, require

AUTO_SEL_FACTOR = 1.1
AUTO_BATCH_ATOMS = 32
_BATCH_FORMS = "an integer, a list of integers, 'auto', 'auto:N', 'max:N' or 'filter:N'"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def parse_sel(text: str, path: str = "sel") -> float:
    """The factor of `auto` or `auto:factor`."""
    head, colon, tail = text.partition(":")
    factor = _number(tail) if colon else AUTO_SEL_FACTOR
    if head != "auto" or factor is None or factor < 1:
        fail(path, text, "a list with one number per type, 'auto' or 'auto:factor' with a factor of 1 or more")
    return factor


def parse_activation(text: str, path: str = "activation_function") -> tuple[str, float | None]:
    """The lower-case name and the threshold of silut, which is None for every other function."""
    head, colon, tail = text.lower().partition(":")
    if head not in BUILT["activation_function"]:
        refuse_choice(path, text, "activation_function")
    if not colon:
        return head, 3.0 if head == "silut" else None
    threshold = _number(tail)
    good = head == "silut" and threshold is not None and threshold > 0
    require(good, path, text, "a name alone, or 'silut:a' with a positive threshold a")
    return head, threshold


@dataclass(frozen=True)
class BatchRule:
    """How many frames go into a batch: `kind` is fixed, auto, max or filter; `number` frames or atoms."""

    kind: str
    number: int

    def frames(self, n_atoms: int) -> int:
        """Frames per batch for a system of `n_atoms` atoms."""
        if self.kind == "fixed":
            return self.number
        if self.kind == "auto":
            return -(-self.number // n_atoms)
        return max(1, self.number // n_atoms)

    def keeps(self, n_atoms: int) -> bool:
        """Whether a system of this size stays in the data set."""
        return self.kind != "filter" or n_atoms <= self.number


def parse_batch_size(value: int | str, path: str = "batch_size") -> BatchRule:
    """The rule in a `batch_size` of one system or of all systems."""
    if isinstance(value, int):
        require(value > 0, path, value, "a positive number of frames")
        return BatchRule("fixed", value)
    head, colon, tail = value.partition(":")
    if value == "auto":
        return BatchRule("auto", AUTO_BATCH_ATOMS)
    number = _count(tail) or 0
    if head == "mixed" and number > 0:
        fail(path, value, _BATCH_FORMS, "'mixed:N' needs mixed-type data and a descriptor that this version lacks")
    good = head in ("auto", "max", "filter") and colon == ":" and number > 0
    require(good, path, value, _BATCH_FORMS, "with a positive integer N of atoms")
    return BatchRule(head, number)


@dataclass(frozen=True)
class ProbBlock:
    """Systems `first` to `last` - 1 share the probability `weight` (before the blocks are normalised)."""

    first: int
    last: int
    weight: float


def parse_auto_prob(text: str, path: str = "auto_prob") -> tuple[str, list[ProbBlock]]:
    """The method, prob_uniform or prob_sys_size, and the blocks, an empty list when none are given."""
    method, *parts = [part.strip() for part in text.split(";")]
    forms = "'prob_uniform', 'prob_sys_size' or 'prob_sys_size;start:end:weight;...'"
    if method not in ("prob_uniform", "prob_sys_size"):
        fail(path, text, forms)
    require(method == "prob_sys_size" or not parts, path, text, forms, "blocks go with prob_sys_size only")
    blocks = [_block(part, text, path) for part in parts if part]
    end = 0
    for block in sorted(blocks, key=lambda one: one.first):
        require(block.first >= end, path, text, "blocks that do not overlap", f"system {block.first} is in two blocks")
        end = block.last
    require(not blocks or sum(one.weight for one in blocks) > 0, path, text, "a positive weight in at least one block")
    return method, blocks


def _block(part: str, text: str, path: str) -> ProbBlock:
    fields = [field.strip() for field in part.split(":")]
    if len(fields) == 3:
        first, last, weight = _count(fields[0]), _count(fields[1]), _number(fields[2])
        if first is not None and last is not None and first < last and weight is not None and weight >= 0:
            return ProbBlock(first, last, weight)
    remedy = f"'{part}' must be start:end:weight with start < end and a weight of 0 or more"
    fail(path, text, "blocks such as '0:3:0.7'", remedy)
