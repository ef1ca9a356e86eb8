"""A training step on a device as one recording: frames fetched by number, prediction, loss, way back, clipping, Adam.

What differs from step to step (pages of the frames, learning rate, the row of the results) goes up in one small copy;
results stay on the device for up to KEPT steps. A step whose loss or gradient is not finite changes nothing, nor does
any step after it, until the host has looked. With several processes the sum of gradients divides the recording in two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepmd.nn.resident import ResidentEngine
from deepmd.nn.resident_frames import ResidentBatch
from deepmd.train.processes import Processes
from deepmd.train.recorded import Recorder, Recordings

KEPT = 64
HEAD = 3  # row of the results, learning rate of the schedule, learning rate of the optimiser


@dataclass
class Done:
    """What is known of a step afterwards."""

    number: int
    loss: float
    norm: float  # of the mean gradient of all processes
    failed: str  # "", "here": loss or gradient of this process were not finite, or "elsewhere"
    report: dict[str, float]
    n_atoms: int
    origin: str


@dataclass
class Steps:
    """What a whole step is made of, besides engine and loss. max_norm: of the gradient, None: it is not clipped."""

    optimizer: torch.optim.Optimizer
    parameters: list[Tensor]
    max_norm: float | None
    group: Processes
    recorder: Recorder
    bad: Tensor  # [] float32, 1 after a step that was not finite; shared by tasks


@dataclass
class Seen:
    """What the first step of a shape has told."""

    pattern: tuple[bool, ...]  # which parameters have a gradient
    reported: list[str]  # errors whose labels are there


def spoilt(value: Tensor) -> Tensor:
    """Whether it is not finite, in two operations."""
    return (value - value) != 0


class WholeStep:
    """Steps of one task. Everything that a recording reads or writes is made here and stays where it is."""

    def __init__(self, engine: ResidentEngine, loss: Any, steps: Steps):
        self.engine, self.loss, self.steps = engine, loss, steps
        self.recordings = Recordings(steps.recorder)
        parameters, device = steps.parameters, steps.parameters[0].device
        self.device = device
        kind = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
        sizes = [p.numel() for p in parameters]
        self.flat = torch.zeros(sum(sizes) + 1, dtype=kind, device=device)  # the last: whether a process has failed
        pieces = torch.split(self.flat[:-1], sizes)
        self.sums = [one.view(p.shape) for one, p in zip(pieces, parameters, strict=True)]
        self.gradients = [one if p.dtype == kind else torch.zeros_like(p)
                          for one, p in zip(self.sums, parameters, strict=True)]  # fmt: skip
        self.results = torch.zeros(KEPT, 2 + len(loss.reported), dtype=torch.float64, device=device)
        self.norms = torch.zeros(KEPT, 2, dtype=torch.float64, device=device)
        self.rate = torch.zeros((), dtype=torch.float32, device=device)  # float32 is what fused Adam reads
        self._resize(1 << 10)
        self._seen: dict[Any, Seen] = {}
        self._waiting: list[tuple[int, ResidentBatch]] = []
        self._place: tuple[Any, ...] = ()

    def _resize(self, n: int) -> None:
        """Room for the numbers of a step, on the device and in KEPT rows on the host."""
        self.numbers = torch.zeros(n, dtype=torch.int64, device=self.device)
        self._host = torch.zeros(KEPT, n, dtype=torch.int64, pin_memory=self.device.type == "cuda")
        self._rows = self._host.numpy()

    # What runs on the device.

    def gradient(self, batch: ResidentBatch) -> Seen:
        """Loss, results and gradient of the frames whose pages stand in `numbers`."""
        frames = batch.fetch(self.numbers[HEAD : HEAD + len(batch.pages)])
        total, report = self.engine.loss_of(self.loss, frames, self.numbers[1:HEAD].view(torch.float64)[0])
        found: list[Tensor | None] = [None] * len(self.sums)
        if total.requires_grad:
            found = list(torch.autograd.grad(total, self.steps.parameters, allow_unused=True))
        known = [k for k, one in enumerate(found) if one is not None]
        if len(known) < len(found):
            self.flat.zero_()
        if known:
            torch._foreach_copy_([self.sums[k] for k in known], [found[k] for k in known])
        total = total.detach()
        # Whose frames they were can be told only before the gradients of several processes are summed.
        own = total + self.flat[:-1].sum() if self.steps.group.n > 1 else total
        failed = spoilt(own)
        self.flat[-1:].copy_(failed.reshape(1))
        reported = [k for k, one in report.items() if isinstance(one, Tensor)]
        values = torch.stack([total, failed.to(torch.float64), *(report[k] for k in reported)])
        self.results[:, : len(values)].index_copy_(0, self.numbers[:1], values.unsqueeze(0))
        return Seen(tuple(one is not None for one in found), reported)

    def update(self, pattern: tuple[bool, ...]) -> None:
        """Mean over processes, clipping and Adam for the parameters that have a gradient in any process."""
        steps, n = self.steps, self.steps.group.n
        if n > 1:
            self.flat[:-1].div_(n)
        norm = torch.linalg.vector_norm(self.flat[:-1]).to(torch.float64)
        failed = self.flat[-1:].to(torch.float64)
        self.norms.index_copy_(0, self.numbers[:1], torch.cat([norm.reshape(1), failed]).unsqueeze(0))
        steps.bad.copy_(steps.bad + (norm - norm) + failed[0] != 0)
        if steps.max_norm is not None:
            self.flat[:-1].mul_(torch.clamp(steps.max_norm / (norm + 1e-6), max=1.0).to(self.flat.dtype))
        known = [k for k, has in enumerate(pattern) if has]
        apart = [k for k in known if self.gradients[k] is not self.sums[k]]
        if apart:
            torch._foreach_copy_([self.gradients[k] for k in apart], [self.sums[k] for k in apart])
        self.rate.copy_(self.numbers[2:HEAD].view(torch.float64)[0])
        for dtype in {steps.parameters[k].dtype for k in known}:
            self._adam([k for k in known if steps.parameters[k].dtype == dtype])

    def _adam(self, chosen: list[int]) -> None:
        options = self.steps.optimizer.param_groups[0]
        decoupled = isinstance(self.steps.optimizer, torch.optim.AdamW)
        fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
        parameters = [self.steps.parameters[k] for k in chosen]
        states = [self.steps.optimizer.state[p] for p in parameters]
        counts = [state["step"] for state in states]
        with torch.no_grad():
            torch._foreach_add_(counts, 1)
            fused(
                parameters, [self.gradients[k] for k in chosen], [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states], [], counts, amsgrad=False, lr=self.rate,
                beta1=options["betas"][0], beta2=options["betas"][1], weight_decay=options["weight_decay"],
                eps=options["eps"], maximize=False, grad_scale=None, found_inf=self.steps.bad,
            )  # fmt: skip
            torch._foreach_sub_(counts, [self.steps.bad] * len(counts))

    # What the host does.

    def step(self, number: int, batch: ResidentBatch, lr: float, factor: float = 1.0) -> None:
        """Begins a step on a batch, and waits for nothing. factor: of the optimiser's learning rate."""
        row, n = len(self._waiting), HEAD + len(batch.pages)
        if n > len(self.numbers):
            self._resize(2 * n)
        place = (self.engine.basis_key(), batch.cache.arena.pages.data_ptr(), self.numbers.data_ptr())
        if place != self._place:
            self.recordings.clear()
            self._place = place
        host = self._rows[row]
        host[0] = row
        host[1:HEAD].view(np.float64)[:] = lr, lr * factor
        host[HEAD:n] = batch.pages
        self._waiting.append((number, batch))
        self.numbers[:n].copy_(self._host[row, :n], non_blocking=True)
        if self.steps.group.n == 1:
            self._alone(batch)
        else:
            self._together(batch)
        for options in self.steps.optimizer.param_groups:
            options["lr"] = lr * factor

    def _alone(self, batch: ResidentBatch) -> None:
        key = batch.key
        if key in self._seen:
            self.recordings.run(key, lambda: self._both(batch))
            return
        self._seen[key] = self.gradient(batch)
        self._prepare(self._seen[key].pattern)
        self.update(self._seen[key].pattern)

    def _both(self, batch: ResidentBatch) -> None:
        self.update(self.gradient(batch).pattern)

    def _together(self, batch: ResidentBatch) -> None:
        """With other processes, whose parameters with a gradient may be others."""
        key, group = batch.key, self.steps.group
        if key in self._seen:
            self.recordings.run(("gradient", key), lambda: self._first(batch))
        else:
            self._seen[key] = self.gradient(batch)
        pattern = group.union(self._seen[key].pattern)
        self._prepare(pattern)
        group.sum(self.flat)
        self.recordings.run(("update", pattern), lambda: self.update(pattern))

    def _first(self, batch: ResidentBatch) -> None:
        self.gradient(batch)

    def _prepare(self, pattern: tuple[bool, ...]) -> None:
        """Room for the moments of parameters that have a gradient for the first time; recordings cannot make it."""
        for parameter, has in zip(self.steps.parameters, pattern, strict=True):
            if has and not (state := self.steps.optimizer.state[parameter]):
                state["step"] = torch.zeros((), dtype=torch.float32, device=self.device)
                state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
                state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= KEPT

    def finish(self) -> list[Done]:
        """Waits for the steps that were begun; what is known of each, in their order."""
        rows, waiting = len(self._waiting), self._waiting
        self._waiting = []
        results, norms = self.results[:rows].tolist(), self.norms[:rows].tolist()
        done = []
        for (number, batch), result, (norm, failed) in zip(waiting, results, norms, strict=True):
            found = dict(zip(self._seen[batch.key].reported, result[2:], strict=False))
            found = {k: value if math.isfinite(value) else math.nan for k, value in found.items()}
            report = {k: found.get(k, math.nan) for k in self.loss.reported}
            whose = "here" if result[1] or (not failed and not math.isfinite(norm)) else "elsewhere" if failed else ""
            done.append(Done(number, result[0], norm, whose, report, batch.n_atoms, batch.origin))
        return done
