"""The order in which frames are drawn: repeatable from a seed, resumable at any step."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from deepmd.data.batching import batch_sizes, probabilities
from deepmd.data.system import System
from deepmd.errors import InputError

_log = logging.getLogger(__name__)
_NAME_WIDTH = 42


class Sampler:
    """Draws a system by its probability, then the next frames of that system's shuffled order.

    A system's frames come without repeats until all are used; then the order is shuffled anew. The last batch of a
    pass may be smaller. The order of each pass depends only on the seed, the system and the number of the pass, so
    that the state stays small however many frames there are.
    """

    def __init__(
        self,
        systems: Sequence[System],
        batch_size: int | str | Sequence[int],
        auto_prob: str = "prob_sys_size",
        sys_probs: Sequence[float] | None = None,
        seed: int | Sequence[int] | None = None,
    ):
        if not systems:
            raise InputError("there is no system to draw from, expected at least one; mend `systems`")
        self.systems = list(systems)
        frames = np.array([system.n_frames for system in systems], dtype=np.int64)
        self.batch_sizes = batch_sizes(systems, batch_size)
        """Frames of a batch for each system [n_systems]; 0 for a system that `filter:N` leaves out."""
        self.n_batches = np.where(self.batch_sizes > 0, -(-frames // np.maximum(self.batch_sizes, 1)), 0)
        """Batches of one pass through each system [n_systems]."""
        self.probabilities = probabilities(auto_prob, self.n_batches, sys_probs)
        """Probability of each system [n_systems]."""
        self._frames = frames
        self._limits = np.cumsum(self.probabilities)
        self._seed = _entropy(seed)
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed)))
        self._passes = np.zeros(len(systems), dtype=np.int64)
        self._cursors = np.zeros(len(systems), dtype=np.int64)
        self._orders: dict[int, np.ndarray] = {}
        if not isinstance(batch_size, str):
            self._warn_small()

    def next(self) -> tuple[int, np.ndarray]:
        """Index of a system and the frames [n] to take from it."""
        draw = self._rng.random() * self._limits[-1]
        index = min(int(np.searchsorted(self._limits, draw, side="right")), len(self.systems) - 1)
        if self._cursors[index] >= self._frames[index]:
            self._passes[index] += 1
            self._cursors[index] = 0
            self._orders.pop(index, None)
        order = self._order(index)
        start = int(self._cursors[index])
        stop = min(start + int(self.batch_sizes[index]), len(order))
        self._cursors[index] = stop
        return index, order[start:stop]

    def _order(self, index: int) -> np.ndarray:
        if index not in self._orders:
            words = np.random.SeedSequence(self._seed, spawn_key=(index, int(self._passes[index])))
            self._orders[index] = np.random.Generator(np.random.PCG64(words)).permutation(int(self._frames[index]))
        return self._orders[index]

    def epoch_steps(self, numb_epoch: float) -> int:
        """Steps after which every system has been passed `numb_epoch` times on average."""
        drawn = self.probabilities > 0
        return math.ceil(numb_epoch * float((self.n_batches[drawn] / self.probabilities[drawn]).max()) * (1 - 1e-12))

    def state_dict(self) -> dict:
        """All that decides the draws to come, as plain numbers, lists and text."""
        return {
            "frames": self._frames.tolist(),
            "batch_sizes": self.batch_sizes.tolist(),
            "seed": list(self._seed),
            "passes": self._passes.tolist(),
            "cursors": self._cursors.tolist(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict) -> bool:
        """Go on exactly where `state_dict` was taken; False, and a fresh start, if data or batch sizes have changed."""
        same = state["frames"] == self._frames.tolist() and state["batch_sizes"] == self.batch_sizes.tolist()
        if not same:
            _log.warning(
                "the systems or batch sizes differ from those of the checkpoint; frames are drawn from a fresh start"
            )
            return False
        self._seed = tuple(state["seed"])
        self._passes = np.array(state["passes"], dtype=np.int64)
        self._cursors = np.array(state["cursors"], dtype=np.int64)
        self._rng.bit_generator.state = state["rng"]
        self._orders.clear()
        return True

    def summary(self, title: str = "Training") -> str:
        """The data summary of the log: a line a system with atoms, batch size, batches, probability and boundaries."""
        columns = f"{_fitted('system')}  {'natoms':>6}  {'bch_sz':>6}  {'n_bch':>6}  {'prob':>9}  {'pbc':>3}"
        rule = "-" * len(columns)
        lines = [
            f"---Summary of DataSystem: {title:<13}".ljust(len(columns), "-"),
            f"Found {len(self.systems)} System(s):",
        ]
        lines.append(columns)
        for system, size, batches, share in zip(
            self.systems, self.batch_sizes, self.n_batches, self.probabilities, strict=True
        ):
            mark = "T" if system.periodic else "F"
            lines.append(
                f"{_fitted(system.name)}  {system.n_atoms:6d}  {size:6d}  {batches:6d}  {share:9.3e}  {mark:>3}"
            )
        return "\n".join([*lines, rule])

    def _warn_small(self) -> None:
        for system, size in zip(self.systems, self.batch_sizes, strict=True):
            if size > system.n_frames:
                _log.warning(
                    "%s has %d frames, fewer than the batch size %d; its batches are smaller",
                    system.name,
                    system.n_frames,
                    size,
                )


def _entropy(seed: int | Sequence[int] | None) -> tuple[int, ...]:
    if seed is None:
        value = np.random.SeedSequence().entropy
        return (int(value),)
    values = [seed] if isinstance(seed, int | np.integer) else list(seed)
    return tuple(int(value) % 2**64 for value in values)


def _fitted(name: str) -> str:
    short = name if len(name) <= _NAME_WIDTH else "-- " + name[-(_NAME_WIDTH - 3) :]
    return short.rjust(_NAME_WIDTH)
