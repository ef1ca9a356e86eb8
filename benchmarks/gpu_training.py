"""A training step on the GPU of torch: how far its gradients are from the CPU's, then samples per second.

    python benchmarks/gpu_training.py                   the standard water nets, batches of 1 and 4
    DEVICE=emulated python benchmarks/gpu_training.py --quick    what of it a machine without a GPU can run
    DEVICE=emulated python benchmarks/gpu_training.py --count    operations and bytes of a step, and the time predicted

The step is the whole one: batch, prediction, loss, way back, optimiser. Weights are random, which changes no time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from deepmd import config
from deepmd.data import load_systems
from deepmd.train import assemble, device
from deepmd.train.origin import Origin
from deepmd.train.processes import Processes
from deepmd.train.trainer import Trainer
from harness import table
from inputs import water_systems
from torch.utils._python_dispatch import TorchDispatchMode

MICROSECONDS = 2.0  # assumed for a small kernel within a CUDA graph, on an H100, its successor waiting for it
BYTES_PER_SECOND = 2.5e12  # assumed
FLOPS_PER_SECOND = 2e13  # assumed, for products as small as these
TARGET = ">= 2,500 samples/s at batch 1 (one H100 or H200)"


def make_input(folder: Path, batch: int, precision: str, quick: bool) -> dict:
    """The standard nets of the family's manuals for water, on its data (192 atoms) if they are here."""
    embedding, fitting = ([5, 10, 20], [24] * 3) if quick else ([25, 50, 100], [240] * 3)
    data = {"systems": water_systems()[0], "batch_size": batch}
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {"type": "se_e2_a", "sel": [46, 92], "rcut": 6.0, "rcut_smth": 0.5, "neuron": embedding,
                           "axis_neuron": 16, "type_one_side": True, "precision": precision, "seed": 1},
            "fitting_net": {"neuron": fitting, "resnet_dt": True, "precision": precision, "seed": 2},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-8, "decay_steps": 5000},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "training": {"training_data": data, "numb_steps": 1000000, "seed": 3, "save_dir": str(folder),
                     "save_freq": 1000000, "disp_freq": 1000000},
    }  # fmt: skip


def trainer_of(jdata: dict) -> Trainer:
    """A training that is ready for its first step, where `deepmd.train.device` puts it."""
    jdata = config.normalise(config.upgrade(jdata)[0])
    systems = load_systems(jdata["training"]["training_data"]["systems"], jdata["model"]["type_map"], None)
    trainer = Trainer(assemble.assemble(jdata, systems, None, Origin(), 0.7, Processes())[0])
    trainer.begin()
    return trainer


def gradient_error(folder: Path, precision: str, quick: bool) -> float:
    """Largest difference to the CPU over the largest entry, for a first batch."""
    found = []
    for place in ("cpu", os.environ.get("DEVICE", "")):
        before = os.environ.get("DEVICE", "")
        os.environ["DEVICE"] = place
        trainer = trainer_of(make_input(folder, 2, precision, quick))
        os.environ["DEVICE"] = before
        setup = trainer.setup
        setup.engine.differentiate(setup.loss, setup.training.next(Processes()), 1e-3, trainer.parameters)
        found.append(torch.cat([p.grad.detach().cpu().double().flatten() for p in trainer.parameters]))
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


def seconds_per_step(trainer: Trainer, seconds: float) -> float:
    """After every frame has been laid out and each shape recorded."""
    group, training = Processes(), trainer.setup.training
    for _ in range(6 * int(training.sampler.n_batches.sum())):
        trainer.take_step(training.next(group), 1e-3, False)
    trainer.finish_steps()
    n, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        trainer.take_step(training.next(group), 1e-3, False)
        n += 1
    trainer.finish_steps()
    return (time.perf_counter() - begin) / n


NO_WORK = ("view", "t", "transpose", "expand", "unsqueeze", "squeeze", "slice", "select", "detach", "alias", "permute",
           "as_strided", "split", "split_with_sizes", "unbind", "_reshape_alias", "_unsafe_view", "empty", "empty_like",
           "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "unflatten")  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do, without views and the like, and the bytes that it takes in and puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.n_bytes = 0
        self.n_flops = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        if name not in NO_WORK:
            self.names[name] += 1
            given = tensors_of([args, found])
            self.n_bytes += sum(one.nbytes for one in given)
            if name in ("mm", "bmm", "addmm", "baddbmm"):
                self.n_flops += 2 * found.numel() * given[-2].shape[-2]
        return found


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [one for part in value for one in tensors_of(part)] if isinstance(value, list | tuple) else []


def print_count(folder: Path, batch: int, precision: str) -> None:
    """Operations of one step; on a GPU each is one kernel, sometimes two."""
    trainer = trainer_of(make_input(folder, batch, precision, False))
    own = trainer.setup.training.next(Processes())
    trainer.take_step(own, 1e-3, True)
    with Operations() as counted:
        trainer.whole._both(own)
    n = sum(counted.names.values())
    n_bytes = counted.n_bytes - own.cache.arena.pages.nbytes  # few of its pages are read
    micro = n * MICROSECONDS + 1e6 * (n_bytes / BYTES_PER_SECOND + counted.n_flops / FLOPS_PER_SECOND)
    atoms = own.n_atoms // own.n_frames
    print(f"{precision}, {batch} frames of {atoms} atoms: {n} operations, {n_bytes / 1e6:.0f} MB, "
          f"{counted.n_flops / 1e9:.2f} GFlop")  # fmt: skip
    print("  " + ", ".join(f"{name} {k}" for name, k in counted.names.most_common(16)))
    print(f"  predicted, not measured: {micro:.0f} us a step, {1e6 * batch / micro:.0f} samples/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--quick", action="store_true", help="narrow nets, little time")
    parser.add_argument("--count", action="store_true", help="no timing: operations and bytes of a step")
    parser.add_argument("--agreement", action="store_true", help="no timing, as for compute-sanitizer")
    args = parser.parse_args()
    os.environ.setdefault("DEVICE", "gpu" if torch.cuda.is_available() else "cpu")
    if device.wanted() is None:
        raise SystemExit("no GPU trains here; DEVICE=emulated runs this on the CPU")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float64", "float32"):
            if args.count:
                for batch in args.batch:
                    print_count(Path(folder), batch, precision)
                continue
            error = f"{gradient_error(Path(folder), precision, args.quick):.1e}"
            for batch in [] if args.agreement else args.batch:
                trainer = trainer_of(make_input(Path(folder), batch, precision, args.quick))
                took = seconds_per_step(trainer, 0.2 if args.quick else args.seconds)
                place = trainer.setup.place.removeprefix("training on ")
                rows.append([precision, batch, f"{1e3 * took:.2f}", f"{batch / took:.0f}", error, place])
            if args.agreement:
                print(f"{precision}: gradient error {error}")
    if rows:
        print(table(["precision", "frames", "ms a step", "samples/s", "gradient error", "on"], rows))
        print(f"target: {TARGET}")


if __name__ == "__main__":
    main()
