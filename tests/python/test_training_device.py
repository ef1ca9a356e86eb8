"""Training on a GPU, as far as a machine without one shows: the choice, the trial batch, and the way back."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deepmd.data import load_systems
from deepmd.data.graph import GraphCache
from deepmd.nn.model import deserialize
from deepmd.nn.nodes import NodeEngine
from deepmd.train import device
from reference.tiny_models import Options, make_tree

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def setup(tiny_system):
    model = deserialize(make_tree(Options()))
    systems = load_systems(str(tiny_system(n_frames=2, n_molecules=6)), model.type_map)
    cache = GraphCache(systems, model.descriptor.rcut, model.pair_keep.numpy())
    return SimpleNamespace(model=model, engine=NodeEngine(model, 0.6), training=SimpleNamespace(cache=cache))


def test_without_a_gpu_training_says_that_it_runs_on_the_cpu(setup, caplog, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.INFO, logger="deepmd"):
        device.place(setup)
    assert "training on the CPU" in caplog.text and setup.engine.device.type == "cpu"


def test_the_device_is_that_of_the_local_rank(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("DEEPMD_GPU", raising=False)
    for rank, number in (("0", 0), ("1", 1), ("3", 1), ("", 0)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert device.find_device() == torch.device("cuda", number)
    monkeypatch.setenv("DEEPMD_GPU", "off")
    assert device.find_device() is None


def test_a_device_that_fails_on_the_trial_batch_is_left_again(setup) -> None:
    def to(where: torch.device) -> None:
        if where.type != "cpu":
            raise RuntimeError("no kernel image")

    before = setup.engine(setup.training.cache.batch(0, np.array([0])), create_graph=False)
    setup.engine.to = to
    assert device.try_on(setup, torch.device("cuda")) == "a trial batch fails there (no kernel image)"
    after = setup.engine(setup.training.cache.batch(0, np.array([0])), create_graph=False)
    assert device.difference(after, before) == 0.0


def test_a_device_with_other_numbers_is_left_again(setup, monkeypatch) -> None:
    def to(where: torch.device) -> None:
        setup.engine.in_torch = where.type != "cpu"

    setup.engine.to = to
    assert device.try_on(setup, torch.device("cuda")) == "" and setup.engine.in_torch
    monkeypatch.setattr(device, "difference", lambda found, expected: 0.5)
    assert "differs by 5.0e-01 there" in device.try_on(setup, torch.device("cuda"))
    assert not setup.engine.in_torch


def test_batches_stay_on_the_device(setup) -> None:
    setup.engine.in_torch = True
    batch = setup.training.cache.batch(0, np.array([0]))
    setup.engine(batch)
    kept = batch.resident[1]
    setup.engine(batch)
    assert batch.resident[1] is kept
    setup.engine.refine()
    setup.engine(batch)
    assert batch.resident[1] is not kept
