"""Where training runs: on torch's GPU if there is one and a trial batch gives the CPU's numbers there, else here."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import torch

from deepmd.nn.nodes import TOLERANCE, NodeEngine

log = logging.getLogger(__name__)


def find_device() -> torch.device | None:
    """The GPU of this process (LOCAL_RANK modulo their number), None if there is none to use."""
    if os.environ.get("DEEPMD_GPU") in ("off", "emulated") or not torch.cuda.is_available():
        return None
    rank = os.environ.get("LOCAL_RANK", "0")
    return torch.device("cuda", (int(rank) if rank.isdigit() else 0) % torch.cuda.device_count())


def place(setup: Any) -> None:
    """Moves model and engine of a run to the GPU if it can be used, and says where training runs."""
    device = find_device()
    if device is None:
        log.info("training on the CPU, %d threads (torch sees no GPU to use)", torch.get_num_threads())
        return
    if not isinstance(setup.engine, NodeEngine):
        log.info("training on the CPU: only models whose embedding is trained on nodes (se_e2_a, energies) use the GPU")
        return
    problem = try_on(setup, device)
    if problem:
        log.warning("training on the CPU: the GPU is not used, as %s", problem)
    else:
        log.info("training on %s (%s)", device, torch.cuda.get_device_name(device))


def leave(setup: Any) -> None:
    """Brings the model back to the CPU, where all that comes after training expects it."""
    if isinstance(setup.engine, NodeEngine):
        setup.engine.to(torch.device("cpu"))


def try_on(setup: Any, device: torch.device) -> str:
    """Moves the engine and compares a batch with the CPU; why it was moved back, "" if it stays."""
    batch = setup.training.cache.batch(0, np.array([0]))
    expected = setup.engine(batch, create_graph=False)
    try:
        setup.engine.to(device)
        found = setup.engine(batch, create_graph=False)
        worst = difference(found, expected)
    except RuntimeError as error:
        setup.engine.to(torch.device("cpu"))
        return f"a trial batch fails there ({str(error).splitlines()[0]})"
    limit = 100 * TOLERANCE[setup.model.descriptor.dtype]
    if worst <= limit:
        log.info("a trial batch on %s differs by %.1e from the CPU", device, worst)
        return ""
    setup.engine.to(torch.device("cpu"))
    return f"a trial batch differs by {worst:.1e} there, expected at most {limit:.1e}"


def difference(found: Any, expected: Any) -> float:
    """Largest difference of energies, forces and virials, relative to the largest value of each where above one."""
    worst = 0.0
    for name in ("atom_energy", "forces", "virial"):
        a, b = getattr(found, name).detach(), getattr(expected, name).detach()
        worst = max(worst, float((a - b).abs().max()) / max(1.0, float(b.abs().max())))
    return worst
