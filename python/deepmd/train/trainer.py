"""The training loop: one step, display, checkpoints, stop on anything that is not finite."""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

from deepmd.data import Sampler
from deepmd.data.graph import Batch, GraphCache
from deepmd.errors import TrainingError
from deepmd.nn.plain import AnyEngine
from deepmd.nn.resident import ResidentEngine
from deepmd.train import checkpoint
from deepmd.train.files import checkpoint_prefix
from deepmd.train.processes import Processes
from deepmd.train.progress import LearningCurve, Progress, column_groups, column_values
from deepmd.train.recorded import Recorder
from deepmd.train.whole_step import Steps, WholeStep

log = logging.getLogger(__name__)


@dataclass
class Source:
    """Data to draw batches from; several processes draw from the same stream."""

    cache: GraphCache
    sampler: Sampler
    n_batches: int = 1  # per validation

    def next(self, group: Processes) -> Batch:
        """The next batch of this process; those of the others are drawn along."""
        draws = [self.sampler.next() for _ in range(group.n)]
        return self.cache.batch(*draws[group.rank])

    def shares(self, group: Processes) -> Iterator[Batch]:
        """Of the batches of a validation those of this process."""
        for k in range(self.n_batches):
            draw = self.sampler.next()
            if k % group.n == group.rank:
                yield self.cache.batch(*draw)


@dataclass
class Setup:
    """Everything that a trainer is made of."""

    model: torch.nn.Module
    engine: AnyEngine
    loss: Any  # see deepmd.train.losses
    schedule: Any  # lr(step) -> float
    optimizer: torch.optim.Optimizer
    training: Source
    validation: Source | None
    section: dict[str, Any]  # normalised `training` section
    numb_steps: int
    input_script: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    group: Processes = field(default_factory=Processes)
    place: str = ""  # which device, for the log
    lr_factor: float = 1.0  # of the optimiser's learning rate, not of the prefactors of the loss


def is_mean(quantity: str) -> bool:
    """Whether a reported error is averaged over batches as it is; roots of mean squares are averaged as squares."""
    return "mae" in quantity or quantity in ("mse", "mape")


class Averages:
    """Reported errors of several batches, weighed by atoms; roots of mean squares are averaged as squares."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def add(self, report: dict[str, float], n_atoms: int) -> None:
        for k, value in report.items():
            if math.isfinite(value):
                self.sums[k] = self.sums.get(k, 0.0) + n_atoms * (value if is_mean(k) else value**2)
                self.weights[k] = self.weights.get(k, 0.0) + n_atoms

    def join(self, other: Averages) -> None:
        """Adds what another process has seen."""
        for k, weight in other.weights.items():
            self.sums[k] = self.sums.get(k, 0.0) + other.sums[k]
            self.weights[k] = self.weights.get(k, 0.0) + weight

    def of(self, names: list[str]) -> dict[str, float]:
        """The averages by name; nan where no batch had the label."""
        mean = {k: self.sums[k] / self.weights[k] for k in self.sums}
        return {k: math.nan if k not in mean else (mean[k] if is_mean(k) else math.sqrt(mean[k])) for k in names}


class Trainer:
    """Runs the steps of a Setup from `setup.step` to `setup.numb_steps`."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self.group = setup.group
        section = setup.section
        self.save_freq = int(section["save_freq"])
        self.disp_freq = int(section["disp_freq"])
        self.prefix = checkpoint_prefix(section)
        self.keep = int(section.get("max_ckpt_keep", 5))
        if section.get("ckpt_keep_ratio"):
            self.keep = math.ceil(section["ckpt_keep_ratio"] * math.ceil(setup.numb_steps / self.save_freq))
        self._since_shown = Averages() if section.get("disp_avg") else None
        self.max_norm = section.get("gradient_max_norm")
        self.parameters = [p for p in setup.model.parameters() if p.requires_grad]
        self._signal: int | None = None
        self._saved_step = -1
        self.whole: WholeStep | None = None  # what takes the steps where data are on a device
        self._previous = ""  # frames of the step before: those that spoilt the weights if the weights are spoilt

    def run(self) -> None:
        """Trains; saves every save_freq steps and at the end. SIGTERM and SIGINT save and raise SystemExit."""
        setup = self.setup
        restart = setup.step if setup.step > 0 else None
        curve = None
        if setup.section.get("disp_training", True) and self.group.is_first:
            curve = LearningCurve(setup.section["disp_file"], self.columns(), restart)
        self.begin()
        progress = Progress(setup.step, setup.numb_steps, bool(setup.section.get("time_training", True)))
        previous = {s: signal.signal(s, self._notice) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            if setup.step >= setup.numb_steps:
                self.save()
            while setup.step < setup.numb_steps:
                self._one(curve, progress)
                if number := self.group.agree(self._signal or 0):
                    self._leave(number)
        finally:
            for s, handler in previous.items():
                signal.signal(s, handler)
            seconds = progress.close()
        log.info("average training time: %.4f s/batch", seconds / max(setup.numb_steps - (restart or 0), 1))

    def _one(self, curve: LearningCurve | None, progress: Progress) -> None:
        setup = self.setup
        lr = setup.schedule.lr(setup.step)
        batch, step = setup.training.next(self.group), setup.step + 1
        done = self.take_step(batch, lr, self.looks(step))
        setup.step = step
        if self._since_shown is not None:
            for one in done:
                self._since_shown.add(*one)
        if self.shows(step):
            if self._since_shown is None:
                report = self.shown(*done[-1])
            else:
                report, self._since_shown = self._of_all(self._since_shown), Averages()
            validation = self.validate(lr) if setup.validation is not None else None
            if curve is not None:
                curve.write(step, column_values(report, validation), lr)
            progress.display(step, report, validation, lr)
            progress.display_time(step)
            setup.engine.settle()
        if step % self.save_freq == 0 or step == setup.numb_steps:
            self.save()
        progress.advance()

    def shown(self, report: dict[str, float], n_atoms: int) -> dict[str, float]:
        """Errors of this process's batch and of those of the others."""
        if self.group.n == 1:
            return report
        averages = Averages()
        averages.add(report, n_atoms)
        return self._of_all(averages)

    def _of_all(self, own: Averages) -> dict[str, float]:
        total = Averages()
        for averages in self.group.gather(own):
            total.join(averages)
        return total.of(self.setup.loss.reported)

    def columns(self) -> list[list[str]]:
        """The columns of the learning curve."""
        return column_groups(self.setup.loss.reported, self.setup.validation is not None)

    def shows(self, step: int) -> bool:
        """Whether errors are shown after this step."""
        return step == 1 or step % self.disp_freq == 0 or step == self.setup.numb_steps

    def looks(self, step: int) -> bool:
        """Whether the numbers of this step are asked for at once."""
        return self.shows(step) or step % self.save_freq == 0

    def begin(self, bad: torch.Tensor | None = None) -> None:
        """Before the first step, after what a checkpoint holds was taken. bad: see `Steps`."""
        setup = self.setup
        if not isinstance(setup.engine, ResidentEngine):
            return
        device = self.parameters[0].device
        if bad is None:
            bad = torch.zeros((), dtype=torch.float32, device=device)
        norm = None if self.max_norm is None else float(self.max_norm)
        steps = Steps(setup.optimizer, self.parameters, norm, self.group, Recorder(device), bad)
        self.whole = WholeStep(setup.engine, setup.loss, steps)

    def take_step(self, batch: Any, lr: float, look: bool) -> list[tuple[dict[str, float], int]]:
        """One step; errors and numbers of atoms of the steps that are known by now, of this one if look."""
        if self.whole is None:
            return [(self.train_step(batch, lr), batch.n_atoms)]
        self.whole.step(self.setup.step + 1, batch, lr, self.setup.lr_factor)
        return self.finish_steps() if look or self.whole.is_full else []

    def finish_steps(self) -> list[tuple[dict[str, float], int]]:
        """Waits for the steps that a device was given. Raises TrainingError as `train_step` does."""
        found = []
        for done in self.whole.finish() if self.whole is not None else ():
            if done.failed == "elsewhere":
                self.group.agree()  # the process whose frames they are says so
            if done.failed:
                what = f"the loss is {done.loss}" if not math.isfinite(done.loss) else "the gradient is not finite"
                raise self._broken(what, done.origin, done.number)
            self._previous = done.origin
            found.append((done.report, done.n_atoms))
        return found

    def train_step(self, batch: Batch, lr: float) -> dict[str, float]:
        """One optimiser step on a batch. Raises TrainingError, weights unchanged, if the loss is not finite."""
        setup = self.setup
        setup.optimizer.zero_grad(set_to_none=True)  # of other tasks too
        loss, report = setup.engine.differentiate(setup.loss, batch, lr, self.parameters)
        if not math.isfinite(loss):
            raise self._broken(f"the loss is {loss}", batch.origin)
        own = (p.grad for p in self.parameters if p.grad is not None) if self.group.n > 1 else ()
        if not all(bool(torch.isfinite(g).all()) for g in own):  # the mean would not tell whose frames they were
            raise self._broken("the gradient is not finite", batch.origin)
        self.group.average(self.parameters)
        if self.max_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, float(self.max_norm))
            if not math.isfinite(float(norm)):
                raise self._broken(f"the norm of the gradient is {float(norm)}", batch.origin)
        for group in setup.optimizer.param_groups:
            group["lr"] = lr * setup.lr_factor
        setup.optimizer.step()
        self._previous = batch.origin
        return report

    def _broken(self, what: str, frames: str, step: int = 0) -> TrainingError:
        last = f"the last good checkpoint is {self.prefix}-{self._saved_step}.pt" if self._saved_step >= 0 else (
            "no checkpoint was written yet")  # fmt: skip
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
            frames = f"{self._previous} (the step before, after which weights are not finite)"
        step = step or self.setup.step + 1
        return TrainingError(
            f"training stopped at step {step}: {what} for {frames}; {last}; look at these frames "
            "with dp check, or lower the learning rate"
        )

    def measure(self, lr: float) -> dict[str, float]:
        """Errors of the next training batch, without a step."""
        setup, batch = self.setup, self.setup.training.next(self.group)
        prediction = setup.engine(batch, with_forces=setup.loss.needs_forces, create_graph=False)
        return self.shown(setup.loss(prediction, batch, lr)[1], batch.n_atoms)

    def validate(self, lr: float) -> dict[str, float]:
        """Errors over n_batches validation batches: root of the mean square, weighted by atoms."""
        source, setup, averages = self.setup.validation, self.setup, Averages()
        for batch in source.shares(self.group):
            prediction = setup.engine(batch, with_forces=setup.loss.needs_forces, create_graph=False)
            averages.add(setup.loss(prediction, batch, lr)[1], batch.n_atoms)
        return self._of_all(averages)

    def save(self) -> None:
        """Writes a checkpoint of the present state."""
        self.finish_steps()
        payload = self.payload()
        self.group.compare(self.parameters, self.setup.step)
        if self.group.is_first:
            log.info("saved checkpoint %s", checkpoint.save(self.prefix, payload, self.keep))
        self._saved_step = self.setup.step

    def payload(self) -> dict[str, Any]:
        """All that a checkpoint holds."""
        setup = self.setup
        return {
            **self.state(),
            "optimizer": setup.optimizer.state_dict(),
            "step": setup.step,
            "rng": torch.get_rng_state(),
        }

    def state(self) -> dict[str, Any]:
        """Of the payload what belongs to the task alone. Raises TrainingError for weights that are not finite."""
        setup = self.setup
        for name, value in setup.model.state_dict().items():
            if not torch.isfinite(value).all():
                raise TrainingError(f"checkpoint not saved: {name} holds non-finite values at step {setup.step}; lower "
                                    "the learning rate and restart from the checkpoint before")  # fmt: skip
        return {
            "model": setup.model.state_dict(),
            "model_section": json.dumps(setup.model.section),
            "min_pair_distance": setup.model.min_pair_distance,
            "modifier": checkpoint.modifier_bytes(setup.model),
            "input": json.dumps(setup.input_script),
            "engine": setup.engine.state_dict(),
            "engines": self.group.gather(setup.engine.state_dict()),
            "sampler": json.dumps(setup.training.sampler.state_dict()),
            "validation_sampler": json.dumps(setup.validation.sampler.state_dict()) if setup.validation else None,
        }

    def resume(self, payload: dict[str, Any]) -> None:
        """Takes optimiser, step, samplers and random state from a checkpoint (the model has its weights already)."""
        self.setup.optimizer.load_state_dict(payload["optimizer"])
        self.setup.step = int(payload["step"])
        self._saved_step = self.setup.step
        self.resume_task(payload)
        torch.set_rng_state(payload["rng"])

    def resume_task(self, payload: dict[str, Any]) -> None:
        """What `state` gave, without the weights."""
        setup = self.setup
        engines = payload.get("engines", [])
        own = engines[self.group.rank] if len(engines) == self.group.n else payload["engine"]
        setup.engine.load_state_dict(own)
        setup.training.sampler.load_state_dict(json.loads(payload["sampler"]))
        if setup.validation is not None and payload["validation_sampler"]:
            setup.validation.sampler.load_state_dict(json.loads(payload["validation_sampler"]))

    def _notice(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # Ctrl-C once more: at once, without a checkpoint
        self._signal = number
        log.warning("%s: this step is finished and saved, which may take a moment", signal.Signals(number).name)

    def _leave(self, number: int) -> None:
        if self._saved_step != self.setup.step:
            self.save()
        name = signal.Signals(number).name
        log.warning("%s: saved step %d and stopping; go on with --restart", name, self.setup.step)
        raise SystemExit(128 + number)
