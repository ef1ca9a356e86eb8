"""What the tests of training share: a small input, a run in this process, a run in a child that can be killed."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from deepmd.train import checkpoint
from deepmd.train.assemble import THREAD_VARIABLES
from deepmd.train.entry import train

NUMB_STEPS = 12


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """What users write to train on one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_input(system: Path, **training: Any) -> dict[str, Any]:
    """A two-element model of a few hundred parameters; `training` overrides keys of that section."""
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {"type": "se_e2_a", "sel": [16, 32], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8],
                           "axis_neuron": 3, "seed": 1},
            "fitting_net": {"neuron": [10, 10], "resnet_dt": True, "seed": 2},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.003, "stop_lr": 1e-5, "decay_steps": 4},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 100, "limit_pref_f": 1,
                 "start_pref_v": 0.01, "limit_pref_v": 1},
        "training": {
            "training_data": {"systems": [str(system)], "batch_size": 2},
            "validation_data": {"systems": [str(system)], "batch_size": 1, "numb_btch": 2},
            "numb_steps": NUMB_STEPS, "seed": 3, "disp_freq": 4, "save_freq": 5, **training,
        },
    }  # fmt: skip


def changed(jdata: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """A copy with values replaced; `model__descriptor__rcut=5.0` is the key model/descriptor/rcut."""
    result = copy.deepcopy(jdata)
    for path, value in paths.items():
        *sections, key = path.split("__")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return result


def run(folder: Path, jdata: dict[str, Any], **options: Any) -> None:
    """`dp train` in `folder`, in this process and on one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(jdata))
    before, n_threads = os.getcwd(), torch.get_num_threads()
    os.chdir(folder)
    try:
        with one_thread():
            train(argparse.Namespace(INPUT="input.json", **options))
    finally:
        os.chdir(before)
        torch.set_num_threads(n_threads)


def _child(folder: Path, jdata: dict[str, Any], options: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    run(folder, jdata, **options)


def start_child(folder: Path, jdata: dict[str, Any], **options: Any) -> multiprocessing.process.BaseProcess:
    """The same in a child of a server that has loaded torch but started no threads: fast, and safe to kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_runs"])
    with one_thread():
        child = context.Process(target=_child, args=(folder, jdata, options))
        child.start()
    return child


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["model"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
