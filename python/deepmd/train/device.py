"""Where a training runs: on a GPU of torch if it is asked for and serves, else on the CPU."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deepmd.errors import InputError, TrainingError
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import AnyEngine
from deepmd.nn.resident import ResidentEngine, why_not
from deepmd.nn.resident_frames import ResidentCache
from deepmd.train.processes import Processes
from deepmd.train.recorded import WARM_UP, Recorder
from deepmd.train.trainer import Setup, Source
from deepmd.train.whole_step import Steps, WholeStep

log = logging.getLogger(__name__)
TRIAL = {torch.float64: 1e-8, torch.float32: 1e-3}
"""How far the gradient of a first batch may be from the CPU's, relative to its largest entry."""
LATER = 100.0  # times as far after steps
TRIAL_STEPS = WARM_UP + 3  # the last two are recorded and replayed
EMULATED_BYTES = 1 << 30
MEGA = 1 << 20


@dataclass
class Task:
    """What is to train on a device. states: of engines, where a run goes on."""

    model: Any
    engine: AnyEngine
    loss: Any
    sources: list[Source]
    name: str = ""
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]


def wanted() -> torch.device | None:
    """The GPU of this process; the CPU where that stands in for it in tests; None: an ordinary training on the CPU."""
    word = os.environ.get("DEVICE", "").lower()
    if word == "emulated":
        return torch.device("cpu")
    if word not in ("gpu", "cuda") or os.environ.get("DEEPMD_GPU", "") == "off":
        return None
    if not torch.cuda.is_available():
        raise InputError(f"DEVICE is '{word}', but torch finds no GPU; install a torch for it, or leave DEVICE out")
    return torch.device("cuda", own_device(torch.cuda.device_count()))


def own_device(n_devices: int) -> int:
    """Processes of a machine take its visible devices in turn."""
    text = os.environ.get("LOCAL_RANK", "0")
    return (int(text) if text.isdigit() else 0) % n_devices


def place_of(device: torch.device | None) -> str:
    """Which device that is, wherever: equal for two processes that share one, whatever number each knows it by.

    By the address on the bus, as NCCL tells devices apart: slices of one GPU have it in common.
    """
    if device is None:
        return ""
    if device.type != "cuda":
        return "emulated"
    facts = torch.cuda.get_device_properties(device)
    address = [getattr(facts, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
    own = str(facts.uuid) if None in address else ":".join(f"{one:x}" for one in address)
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"cuda {boot.read_text().strip() if boot.exists() else socket.gethostname()} {own}"


def work_bytes(device: torch.device, sharing: int = 1) -> int:
    """Memory for frames: DEEPMD_GPU_MEMORY (MiB), or half of what is free, divided by the processes that share it."""
    text = os.environ.get("DEEPMD_GPU_MEMORY", "")
    if text.isdigit() and int(text) > 0:
        return int(text) * MEGA
    if device.type != "cuda":
        return EMULATED_BYTES
    return torch.cuda.mem_get_info(device)[0] // (2 * max(1, sharing))


def settle(together: Any, tasks: list[Task], group: Processes) -> str:
    """Moves model and data to the GPU if there is one, and puts other engines and caches into the tasks; words for
    the log. together: the module of all tasks.

    All processes go the same way, step by step: what one of them lacks, none uses. First steps are taken there and on
    the CPU; without agreement, or where the GPU fails, all stay on the CPU.
    """
    device = wanted()
    places = group.gather(place_of(device))
    if device is None and not any(places):
        if torch.cuda.is_available() and os.environ.get("DEVICE", "") == "":
            log.info("torch finds a GPU; training there is new and is taken with DEVICE=gpu")
        return cpu_words()
    reason = "" if all(places) else f"{sum(map(bool, places))} of {len(places)} processes, expected all"
    reason = reason or next((f"{one.name and one.name + ': '}{why}" for one in tasks if (why := refused(one))), "")
    if group.agree(int(bool(reason))):
        log.info("there is a GPU, but not for %s", reason or "another process")
        return cpu_words()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    moved, problem = _try(together, tasks, device, work_bytes(device, places.count(places[group.rank])))
    if group.agree(int(bool(problem))):
        log.warning("the GPU is not used: %s", problem or "it fails in another process")
        return cpu_words()
    group.use_devices(places)
    for task, (engine, caches) in zip(tasks, moved, strict=True):
        task.engine = engine
        for source, cache in zip(task.sources, caches, strict=True):
            source.cache = cache
        engine.settle()
    return words(device)


def refused(task: Task) -> str:
    """Why a task cannot be trained on a GPU, empty if it can."""
    if reason := why_not(task.model, task.loss):
        return reason
    states = [part for state in task.states for part in state.get("parts", [])]
    nodes = [] if task.engine.nodes is None else task.engine.nodes.parts
    if not nodes or not all(part.active for part in nodes) or not all(one.get("active", True) for one in states):
        return "networks that are not evaluated on nodes"
    return ""


Moved = tuple[ResidentEngine, list[ResidentCache]]


def _try(together: Any, tasks: list[Task], device: torch.device, room: int) -> tuple[list[Moved], str]:
    """Engines and caches on the device, and why they cannot be used; then the model is where it was."""
    expected = [reference(task) for task in tasks]
    kept = host_copy(together)
    moved: list[Moved] = []
    problem = ""
    try:
        if device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(device))  # the default one cannot be recorded
        together.to(device)
        room //= sum(len(task.sources) for task in tasks)
        for task, own in zip(tasks, expected, strict=True):
            nodes = Nodes(task.model, task.engine.nodes.parts[0].shortest)
            nodes.load_state_dict(task.engine.nodes.state_dict())
            engine = ResidentEngine(task.model, nodes)
            caches = [ResidentCache(source.cache, engine.parts, device, room) for source in task.sources]
            moved.append((engine, caches))
            problem = problem or trial(task, engine, caches[0], own)
            put_back(together, kept, device)
    except (RuntimeError, TrainingError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
    if problem:
        put_back(together, kept, None)
        if device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.default_stream(device))
    return moved, problem


Values = dict[tuple[str, str], torch.Tensor]


def host_copy(module: torch.nn.Module) -> Values:
    """All parameters and buffers, as they are before a device has anything to do with them."""
    return {(path, name): value.detach().clone() for path, one in module.named_modules()
            for name, value in [*one._parameters.items(), *one._buffers.items()] if value is not None}  # fmt: skip


def put_back(module: torch.nn.Module, kept: Values, device: torch.device | None) -> None:
    """The values of `host_copy` on the device; or (None) on the host, without asking the device, which may be lost."""
    for path, one in module.named_modules():
        for values in (one._parameters, one._buffers):
            for name in [name for name, value in values.items() if value is not None]:
                own = kept[path, name]
                if device is not None:
                    values[name].data.copy_(own)
                elif values is one._parameters:
                    values[name].data, values[name].grad = own, None
                else:
                    values[name] = own


def first_frames(cache: Any) -> list[list[int]]:
    """Batches of one frame each, two different ones if there are two."""
    return [[k % min(2, cache.systems[0].n_frames)] for k in range(TRIAL_STEPS)]


def fresh_adam(task: Task) -> torch.optim.Optimizer:
    return torch.optim.Adam(task.parameters, lr=task.loss.start_lr, fused=True)


Expected = list[tuple[float, list[torch.Tensor]]]


def reference(task: Task) -> Expected:
    """Loss and gradient of a few steps on the CPU, with the weights as they were afterwards."""
    kept, optimizer, cache = host_copy(task.model), fresh_adam(task), task.sources[0].cache
    parameters, found = task.parameters, []
    for frames in first_frames(cache):
        value, _ = task.engine.differentiate(task.loss, cache.batch(0, frames), task.loss.start_lr, parameters)
        found.append((value, [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]))
        optimizer.step()
    optimizer.zero_grad()
    put_back(task.model, kept, torch.device("cpu"))
    return found


def trial(task: Task, engine: ResidentEngine, cache: ResidentCache, expected: Expected) -> str:
    """The same steps on the device, the last ones recorded and replayed; in words what differs, empty where nothing."""
    device, parameters = engine.device, task.parameters
    bad = torch.zeros((), dtype=torch.float32, device=device)
    steps = Steps(fresh_adam(task), parameters, None, Processes(), Recorder(device), bad)
    whole, limit = WholeStep(engine, task.loss, steps), TRIAL[task.model.descriptor.dtype]
    for frames in first_frames(cache):
        cache.batch(0, frames)  # with the room that both need
    for k, (frames, (value, gradient)) in enumerate(zip(first_frames(cache), expected, strict=True)):
        whole.step(k, cache.batch(0, frames), task.loss.start_lr)
        found = [one.cpu() for one in whole.sums]
        if problem := disagreement((value, whole.finish()[0].loss), (gradient, found), limit * (LATER if k else 1.0)):
            return f"{problem} in step {k + 1} of its trial"
    return ""


def disagreement(
    losses: tuple[float, float], gradients: tuple[list[torch.Tensor], list[torch.Tensor]], limit: float
) -> str:
    """In words, or empty where loss and gradients (the CPU's first) agree."""
    a, b = losses
    if not abs(a - b) <= limit * max(abs(a), 1e-12):
        return f"the loss is {b:.9g} there and {a:.9g} on the CPU"
    expected, found = gradients
    largest = max(float(one.abs().max()) for one in expected if one.numel())
    worst = max(float((x - y).abs().max()) for x, y in zip(expected, found, strict=True) if x.numel())
    if not worst <= limit * max(largest, 1e-12) or not math.isfinite(worst):
        return f"the gradient is {worst:.1e} from the CPU's, whose largest entry is {largest:.1e},"
    return ""


def to_host(setup: Setup, make_engine: Callable[..., AnyEngine]) -> None:
    """Brings model and data back, after the last step."""
    if isinstance(setup.engine, ResidentEngine):
        setup.model.to("cpu")
        setup.engine = make_engine(setup.model)
        for source in (setup.training, setup.validation):
            if source is not None:
                source.cache = source.cache.source


def cpu_words() -> str:
    return f"training on the CPU, {torch.get_num_threads()} threads"


def words(device: torch.device) -> str:
    if device.type == "cpu":
        return f"training on a GPU that is emulated on the CPU, {torch.get_num_threads()} threads"
    return f"training on {torch.cuda.get_device_name(device)} (device {device.index}), data set resident"
