"""Where a training runs: on a GPU of torch if there is one that serves it, else on the CPU."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import Any

import torch

from deepmd.errors import InputError, TrainingError
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import AnyEngine
from deepmd.nn.resident import ResidentCache, ResidentEngine, why_not
from deepmd.train.processes import Processes
from deepmd.train.trainer import Setup, Source

log = logging.getLogger(__name__)
TRIAL = {torch.float64: 1e-8, torch.float32: 1e-3}
"""How far the gradient of a first batch may be from the CPU's, relative to its largest entry."""
EMULATED_BYTES = 1 << 30
MEGA = 1 << 20


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


def gpu_count() -> int:
    """GPUs of this machine that train."""
    device = wanted()
    return torch.cuda.device_count() if device is not None and device.type == "cuda" else 0


def work_bytes(device: torch.device) -> int:
    """Memory for frames: DEEPMD_GPU_MEMORY (MiB), or half of what is free, divided by the processes that share it."""
    text = os.environ.get("DEEPMD_GPU_MEMORY", "")
    if text.isdigit() and int(text) > 0:
        return int(text) * MEGA
    if device.type != "cuda":
        return EMULATED_BYTES
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    sharing = -(-(int(local) if local.isdigit() else 1) // torch.cuda.device_count())
    return torch.cuda.mem_get_info(device)[0] // (2 * max(1, sharing))


def has_changing_types(sources: tuple[Source | None, ...]) -> bool:
    """Whether frames of one system differ in their types (`real_atom_types`)."""
    return any(system.mixed for source in sources if source is not None for system in source.cache.systems)


def settle(
    model: Any, engine: AnyEngine, loss: Any, sources: tuple[Source, Source | None], group: Processes
) -> tuple[AnyEngine, str]:
    """Moves model and data to the GPU if there is one; the engine to train with, and words for the log.

    A first batch is computed there and on the CPU; without agreement, or where the GPU fails, all stay on the CPU.
    """
    device = wanted()
    if device is None:
        if torch.cuda.is_available() and os.environ.get("DEVICE", "") == "":
            log.info("torch finds a GPU; training there is new and is taken with DEVICE=gpu")
        return engine, cpu_words()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    reason = why_not(model, loss) or ("data whose types change with the frame" if has_changing_types(sources) else "")
    if not reason and (engine.nodes is None or not all(part.active for part in engine.nodes.parts)):
        reason = "networks that are not evaluated on nodes"
    if reason:
        log.info("there is a GPU, but no kernels for %s", reason)
        return engine, cpu_words()
    batch = sources[0].cache.single(0, 0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    value, expected = _gradient(lambda: engine.differentiate(loss, batch, loss.start_lr, parameters), parameters)
    problem = ""
    try:
        model.to(device)
        moved = ResidentEngine(model, Nodes(model, engine.nodes.parts[0].shortest, engine.nodes.parts[0].n_nodes))
        given = [s for s in sources if s is not None]
        room = work_bytes(device) // len(given)
        caches = [ResidentCache(s.cache, moved.part, device, room) for s in given]
        own = caches[0].batch(0, [0])
        for _ in range(2):  # the second time as it was recorded
            got, found = _gradient(lambda: moved.differentiate(loss, own, loss.start_lr, parameters), parameters)
        problem = disagreement(value, got, expected, found, TRIAL[model.descriptor.dtype])
    except (RuntimeError, TrainingError) as error:
        problem = " ".join(str(error).split())
    if group.agree(int(bool(problem))):
        log.warning("the GPU is not used: %s", problem or "it fails in another process")
        model.to("cpu")
        return engine, cpu_words()
    for source, cache in zip([s for s in sources if s is not None], caches, strict=True):
        source.cache = cache
    moved.settle()
    return moved, words(device)


def _gradient(work: Callable[[], tuple[float, Any]], parameters: list[Any]) -> tuple[float, list[torch.Tensor]]:
    value, _ = work()
    found = ((p, p.grad) for p in parameters)
    gradients = [torch.zeros(p.shape, dtype=p.dtype) if g is None else g.detach().cpu().clone() for p, g in found]
    for parameter in parameters:
        parameter.grad = None
    return value, gradients


def disagreement(a: float, b: float, expected: list[torch.Tensor], found: list[torch.Tensor], limit: float) -> str:
    """In words, or empty where loss and gradients agree."""
    if not abs(a - b) <= limit * max(abs(a), 1e-12):
        return f"the loss of a first batch is {b:.9g} there and {a:.9g} on the CPU"
    largest = max(float(one.abs().max()) for one in expected if one.numel())
    worst = max(float((x - y).abs().max()) for x, y in zip(expected, found, strict=True) if x.numel())
    if not worst <= limit * max(largest, 1e-12) or not math.isfinite(worst):
        return f"the gradient of a first batch is {worst:.1e} from the CPU's, whose largest entry is {largest:.1e}"
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
