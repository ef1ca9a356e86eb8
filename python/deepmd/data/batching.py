"""How many frames make a batch, and how likely each system is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from deepmd.data.system import System
from deepmd.errors import InputError

_RULES = "an integer, a list with one integer a system, 'auto', 'auto:N', 'max:N', 'filter:N' or 'mixed:N'"


def batch_sizes(systems: Sequence[System], rule: int | str | Sequence[int]) -> np.ndarray:
    """Frames of a batch for each system [n_systems]; 0 marks a system that `filter:N` leaves out."""
    atoms = np.array([system.n_atoms for system in systems], dtype=np.int64)
    if isinstance(rule, str):
        return _named_rule(atoms, systems, rule)
    if isinstance(rule, bool) or not isinstance(rule, int | np.integer):
        return _listed(systems, rule)
    if rule < 1:
        raise InputError(f"batch_size is {rule}, expected at least 1")
    return np.full(len(systems), int(rule), dtype=np.int64)


def _listed(systems: Sequence[System], rule: object) -> np.ndarray:
    if not isinstance(rule, list | tuple) or any(isinstance(n, bool) or not isinstance(n, int) for n in rule):
        raise InputError(f"batch_size is {rule!r}, expected {_RULES}")
    if len(rule) != len(systems):
        raise InputError(f"batch_size lists {len(rule)} numbers for {len(systems)} systems, expected one a system")
    if min(rule) < 1:
        raise InputError(f"batch_size lists {min(rule)}, expected numbers from 1 on")
    return np.array(rule, dtype=np.int64)


def _named_rule(atoms: np.ndarray, systems: Sequence[System], rule: str) -> np.ndarray:
    match = re.fullmatch(r"(auto|max|filter|mixed)(?::(\d+))?", rule.strip())
    if match is None or (match[2] is None and match[1] != "auto"):
        raise InputError(f"batch_size is '{rule}', expected {_RULES}")
    kind, number = match[1], int(match[2] or 32)
    if number < 1:
        raise InputError(f"batch_size is '{rule}', expected a number from 1 on after the colon")
    if kind == "auto":
        return -(-number // atoms)
    if kind == "mixed":
        return _mixed_rule(systems, number)
    sizes = np.maximum(number // atoms, 1)
    if kind == "filter":
        sizes[atoms > number] = 0
        if not sizes.any():
            raise InputError(
                f"batch_size '{rule}' leaves no system, the smallest has {atoms.min()} atoms; raise the number"
            )
    return sizes


def _mixed_rule(systems: Sequence[System], number: int) -> np.ndarray:
    plain = next((system for system in systems if not system.mixed), None)
    if plain is not None:
        raise InputError(
            f"batch_size 'mixed:{number}' is for mixed data and {plain.name} is not; use 'auto' or a number"
        )
    return np.full(len(systems), number, dtype=np.int64)


def probabilities(auto_prob: str, n_batches: np.ndarray, sys_probs: Sequence[float] | None = None) -> np.ndarray:
    """Probability of each system [n_systems], summing to 1; systems without batches get none."""
    if sys_probs is not None:
        return _explicit(np.asarray(sys_probs, dtype=np.float64), n_batches)
    words = [word.strip() for word in auto_prob.split(";") if word.strip()]
    if words == ["prob_uniform"]:
        return _normalised((n_batches > 0).astype(np.float64))
    if words[:1] != ["prob_sys_size"]:
        raise InputError(
            f"auto_prob is '{auto_prob}', expected prob_uniform, prob_sys_size or prob_sys_size;a:b:weight;..."
        )
    if len(words) == 1:
        return _normalised(n_batches.astype(np.float64))
    return _blocks(words[1:], n_batches)


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _blocks(words: Sequence[str], n_batches: np.ndarray) -> np.ndarray:
    weights = np.zeros(len(n_batches))
    taken = np.zeros(len(n_batches), dtype=bool)
    for word in words:
        first, last, weight = _block(word, len(n_batches))
        if taken[first:last].any():
            raise InputError(
                f"auto_prob block '{word}' covers a system that an earlier block has; give each system once"
            )
        taken[first:last] = True
        inside = n_batches[first:last]
        if inside.sum():
            weights[first:last] = weight * inside / inside.sum()
    if weights.sum() <= 0:
        raise InputError("auto_prob gives no system a weight above 0; raise one of the weights")
    return _normalised(weights)


def _block(word: str, n_systems: int) -> tuple[int, int, float]:
    try:
        first, last, weight = word.split(":")
        block = int(first), int(last), float(weight)
    except ValueError:
        raise InputError(f"auto_prob block '{word}' is not of the form first:end:weight, such as 0:2:0.6") from None
    if not (0 <= block[0] < block[1] <= n_systems and block[2] >= 0 and np.isfinite(block[2])):
        raise InputError(f"auto_prob block '{word}' must have 0 <= first < end <= {n_systems} and a weight from 0 on")
    return block


def _explicit(given: np.ndarray, n_batches: np.ndarray) -> np.ndarray:
    if given.shape != n_batches.shape:
        raise InputError(f"sys_probs has {given.size} numbers for {n_batches.size} systems, expected one a system")
    if not np.isfinite(given).all():
        raise InputError("sys_probs holds a number that is not finite; mend it")
    free = given < 0
    used = given[~free].sum()
    if free.any():
        if used > 1 + 1e-6:
            raise InputError(
                f"sys_probs adds up to {used:g} before the negative entries share the rest, expected at most 1"
            )
        share = np.where(free, n_batches, 0).astype(np.float64)
        rest = max(1.0 - used, 0.0)
        return _drawable(np.where(free, rest * share / max(share.sum(), 1.0), given), n_batches)
    if abs(used - 1) > 1e-2:
        raise InputError(f"sys_probs adds up to {used:g}, expected 1; scale the numbers")
    return _drawable(given, n_batches)


def _drawable(weights: np.ndarray, n_batches: np.ndarray) -> np.ndarray:
    weights = np.where(n_batches > 0, weights, 0.0)
    if weights.sum() <= 0:
        raise InputError("sys_probs gives no system that is left a probability above 0; raise one")
    return _normalised(weights)
