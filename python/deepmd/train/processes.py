"""Several processes that train one model, as torchrun starts them.

In each step every process draws the batches of all from the same stream and computes the gradient of its own; all go
on with the mean. So weights are the same everywhere. Statistics, files and messages are left to process 0.

Each exchange begins with a round of states: a process that fails says so in its place, and all end with its sentence.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from deepmd.errors import InputError, Reported, TrainingError

log = logging.getLogger(__name__)
Value = TypeVar("Value")
PATIENCE = datetime.timedelta(days=1)
"""How long processes wait for each other while one of them reads data; one that has died is noticed at once."""
FAILED = 1000  # a state above the numbers of signals


class Processes:
    """A training by one process: every exchange gives back what it got."""

    def __init__(self, rank: int = 0, n: int = 1):
        self.rank, self.n = rank, n

    @property
    def is_first(self) -> bool:
        """Whether this process computes what is needed once, and writes."""
        return self.rank == 0

    def agree(self, state: int = 0) -> int:
        """The largest state of all processes."""
        return state

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes in their order."""
        return [value]

    def share(self, value: Value) -> Value:
        """The value of process 0."""
        return value

    def average(self, parameters: Sequence[Any]) -> None:
        """Puts the mean of all gradients in the place of each process's own."""

    def union(self, flags: tuple[bool, ...]) -> tuple[bool, ...]:
        """For each flag whether it is set in any process."""
        return flags

    def sum(self, values: Any) -> None:
        """Puts the sum over all processes in the place of a tensor."""

    def use_devices(self, places: list[str]) -> None:
        """How gradients travel; places: which device each process trains on, wherever it is."""

    def spread(self, model: Any) -> None:
        """Gives the weights and statistics of process 0 to all (in place)."""
        if self.n > 1:
            state = self.share(model.state_dict() if self.is_first else None)
            model.load_state_dict(state)

    def spread_sampler(self, sampler: Any) -> None:
        """Lets all processes draw as process 0 does. Raises TrainingError where the data are not the same."""
        if self.n > 1 and not sampler.load_state_dict(self.share(sampler.state_dict())):
            raise TrainingError(
                "the systems or their frames differ from those of process 0, expected the same; give all machines the "
                "same files"
            )

    def compare(self, parameters: Sequence[Any], step: int) -> None:
        """Raises TrainingError where weights are not the same bits in all processes."""
        if self.n == 1:
            return
        digest = hashlib.sha256()
        for parameter in parameters:
            digest.update(parameter.detach().cpu().numpy().tobytes())
        if len(set(self.gather(digest.hexdigest()))) > 1:
            raise TrainingError(
                f"the weights of the processes differ at step {step}, expected equal bits; restart from the last "
                "checkpoint, and use machines of the same kind"
            )


class Several(Processes):
    """The same for one of n processes; words go by gloo, gradients by `gradients` (None: by gloo too)."""

    def __init__(self, rank: int, n: int):
        super().__init__(rank, n)
        self.gradients: Any = None

    def agree(self, state: int = 0) -> int:
        import torch
        import torch.distributed as dist

        one = torch.tensor([state])
        self._together(lambda: dist.all_reduce(one, op=dist.ReduceOp.MAX))
        if int(one) >= FAILED:
            self._end("")
        return int(one)

    def gather(self, value: Value) -> list[Value]:
        self.agree()
        return self._gather(value)

    def share(self, value: Value) -> Value:
        import torch.distributed as dist

        self.agree()
        found = [value]
        self._together(lambda: dist.broadcast_object_list(found, src=0))
        return found[0]

    def average(self, parameters: Sequence[Any]) -> None:
        import torch
        import torch.distributed as dist

        self.agree()
        if not parameters:
            return
        kind = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
        here = torch.tensor([float(p.grad is not None) for p in parameters], dtype=kind)
        pieces = [torch.zeros(p.numel(), dtype=kind) if p.grad is None else p.grad.flatten().to(kind)
                  for p in parameters]  # fmt: skip
        total = torch.cat([here, *pieces])
        self._together(lambda: dist.all_reduce(total))
        known = total[: len(parameters)].tolist()
        means = torch.split(total[len(parameters) :] / self.n, [p.numel() for p in parameters])
        for parameter, n_known, mean in zip(parameters, known, means, strict=True):
            # Without a gradient anywhere the optimiser leaves the parameter alone, as it does in one process.
            parameter.grad = mean.reshape(parameter.shape).to(parameter.dtype) if n_known else None

    def union(self, flags: tuple[bool, ...]) -> tuple[bool, ...]:
        import torch
        import torch.distributed as dist

        self.agree()
        every = torch.tensor(flags, dtype=torch.int32)
        self._together(lambda: dist.all_reduce(every, op=dist.ReduceOp.MAX))
        return tuple(bool(one) for one in every.tolist())

    def sum(self, values: Any) -> None:
        import torch.distributed as dist

        if values.device.type == "cpu" or self.gradients is not None:
            self._together(lambda: dist.all_reduce(values, group=self.gradients))
            return
        host = values.cpu()
        self._together(lambda: dist.all_reduce(host))
        values.copy_(host)

    def use_devices(self, places: list[str]) -> None:
        import torch.distributed as dist

        # NCCL wants a GPU for each process; where two share one, gradients go through the host.
        if len(set(places)) == self.n and all(place.startswith("cuda ") for place in places):
            self._together(lambda: setattr(self, "gradients", dist.new_group(backend="nccl")))

    def fail(self, error: Exception) -> None:
        """Tells the others that this process cannot go on; the first one that failed goes on with its own error."""
        import torch
        import torch.distributed as dist

        sentence = " ".join(str(error).split()) or type(error).__name__
        try:
            self._together(lambda: dist.all_reduce(torch.tensor([FAILED]), op=dist.ReduceOp.MAX))
        except (TrainingError, Reported):
            return  # somebody has died, and is no longer there to be told
        self._end(sentence)
        if self.rank > 0:
            error.args = (f"process {self.rank} of {self.n}: {sentence}", *error.args[1:])

    def _end(self, sentence: str) -> None:
        """Leaves the message to the first process that has one."""
        sentences = self._gather(sentence)
        if next(k for k, one in enumerate(sentences) if one) != self.rank:
            raise Reported("another process of this training has told why it ends")

    def _gather(self, value: Value) -> list[Value]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.n
        self._together(lambda: dist.all_gather_object(found, value))
        return found

    def _together(self, work: Callable[[], Any]) -> None:
        """Raises TrainingError in one of the processes that are left, Reported in the others, if one has died."""
        try:
            work()
        except RuntimeError as error:
            if not _is_first_to_tell():
                raise Reported("another process of this training has told that one has died") from error
            raise TrainingError(
                "a process of this training has ended without a word, expected all of them until the last step; see "
                "what the system says of it (memory?), and go on with --restart"
            ) from error


def _is_first_to_tell() -> bool:
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return _get_default_store().add("deepmd/told", 1) == 1
    except RuntimeError:  # the store has died too
        return True


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit():
        raise InputError(
            f"dp train: the variable {name} is '{text}', expected a number; start with torchrun, or unset WORLD_SIZE"
        )
    return int(text)


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Those that train together, one alone unless torchrun says more."""
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield Processes()
        return
    group = _join()
    try:
        yield group
        group.agree()  # others may have failed after their last step
    except Exception as error:
        if not isinstance(error, Reported):
            group.fail(error)
        raise
    finally:
        import torch.distributed as dist

        dist.destroy_process_group()


def _join() -> Several:
    import torch.distributed as dist

    rank, n, local = _number("RANK"), _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE")
    if local == n and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on one machine, whose name need not be known
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        text = f"dp train: the {n} processes do not find each other: {reason}; check torchrun's options"
        raise TrainingError(text) from error
    return Several(rank, n)


def lr_factor(rule: str, n: int) -> float:
    """By what the learning rate is multiplied for n processes (`learning_rate/scale_by_worker`)."""
    return {"linear": float(n), "sqrt": n**0.5, "none": 1.0}[rule]
