"""Batch sizes, probabilities, the order of frames, and resuming."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from deepmd.data import Sampler
from deepmd.errors import InputError


@dataclass
class Stub:
    """What the sampler needs of a system."""

    n_frames: int
    n_atoms: int
    name: str = "a/b"
    periodic: bool = True
    mixed: bool = False


SYSTEMS = [Stub(10, 6), Stub(25, 12), Stub(3, 192)]


@pytest.mark.parametrize(
    ("rule", "sizes", "batches"),
    [
        (4, [4, 4, 4], [3, 7, 1]),
        ([1, 2, 3], [1, 2, 3], [10, 13, 1]),
        ("auto", [6, 3, 1], [2, 9, 3]),
        ("auto:32", [6, 3, 1], [2, 9, 3]),
        ("auto:100", [17, 9, 1], [1, 3, 3]),
        ("max:32", [5, 2, 1], [2, 13, 3]),
        ("max:1", [1, 1, 1], [10, 25, 3]),
        ("filter:32", [5, 2, 0], [2, 13, 0]),
    ],
)
def test_batch_size_rules(rule, sizes, batches):
    sampler = Sampler(SYSTEMS, rule, seed=1)
    assert sampler.batch_sizes.tolist() == sizes
    assert sampler.n_batches.tolist() == batches
    assert np.allclose(sampler.probabilities, np.array(batches) / sum(batches), rtol=0, atol=1e-15)


def test_mixed_rule_is_for_mixed_data():
    systems = [Stub(10, 6, mixed=True), Stub(4, 8, mixed=True)]
    assert Sampler(systems, "mixed:3").batch_sizes.tolist() == [3, 3]
    with pytest.raises(InputError, match="'mixed:3' is for mixed data and a/b is not"):
        Sampler(SYSTEMS, "mixed:3")


@pytest.mark.parametrize(
    ("auto_prob", "sys_probs", "expected"),
    [
        ("prob_uniform", None, [1 / 3, 1 / 3, 1 / 3]),
        ("prob_sys_size", None, [10 / 38, 25 / 38, 3 / 38]),
        ("prob_sys_size;0:2:0.6;2:3:0.4", None, [0.6 * 10 / 35, 0.6 * 25 / 35, 0.4]),
        ("prob_sys_size; 0:1:3 ; 1:3:1", None, [0.75, 0.25 * 25 / 28, 0.25 * 3 / 28]),
        ("prob_sys_size;1:3:2", None, [0, 25 / 28, 3 / 28]),
        ("prob_sys_size", [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]),
        ("prob_sys_size", [0.333, 0.333, 0.333], [1 / 3, 1 / 3, 1 / 3]),
        ("prob_sys_size", [-1, 0.3, -1], [0.7 * 10 / 13, 0.3, 0.7 * 3 / 13]),
        ("prob_sys_size", [-1, -1, -1], [10 / 38, 25 / 38, 3 / 38]),
        ("prob_sys_size", [-1, 1.0, -1], [0, 1, 0]),
        ("prob_sys_size", [0, 0.5, 0.5], [0, 0.5, 0.5]),
    ],
)
def test_probabilities_by_hand(auto_prob, sys_probs, expected):
    sampler = Sampler(SYSTEMS, 1, auto_prob, sys_probs)
    assert np.allclose(sampler.probabilities, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"batch_size": [1, 2]}, "lists 2 numbers for 3 systems"),
        ({"batch_size": [1, 2, 0]}, "lists 0"),
        ({"batch_size": "automatic"}, "'automatic', expected an integer"),
        ({"batch_size": "max"}, "'max', expected"),
        ({"batch_size": "auto:0"}, "'auto:0'"),
        ({"batch_size": "filter:2"}, "leaves no system, the smallest has 6 atoms"),
        ({"auto_prob": "prob_size"}, "auto_prob is 'prob_size'"),
        ({"auto_prob": "prob_sys_size;0:2"}, "block '0:2' is not of the form"),
        ({"auto_prob": "prob_sys_size;0:4:1"}, r"0 <= first < end <= 3"),
        ({"auto_prob": "prob_sys_size;0:2:1;1:3:1"}, "an earlier block has"),
        ({"auto_prob": "prob_sys_size;0:2:0"}, "no system a weight"),
        ({"sys_probs": [0.5, 0.5]}, "2 numbers for 3 systems"),
        ({"sys_probs": [0.5, 0.5, 0.5]}, "adds up to 1.5"),
        ({"sys_probs": [0.9, 0.9, -1]}, "adds up to 1.8"),
        ({"sys_probs": [float("nan"), 0, 1]}, "not finite"),
    ],
)
def test_bad_rules_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Sampler(SYSTEMS, **{"batch_size": 1, **options})


def test_no_system_is_refused():
    with pytest.raises(InputError, match="no system to draw from"):
        Sampler([], 1)


def test_frames_come_without_repeats_until_exhausted():
    sampler = Sampler(SYSTEMS, 4, seed=7)
    taken: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for _ in range(400):
        index, frames = sampler.next()
        taken[index].extend(frames.tolist())
    orders = set()
    for index, system in enumerate(SYSTEMS):
        n = system.n_frames
        whole = len(taken[index]) // n
        assert whole > 3
        for k in range(whole):
            one = taken[index][k * n : (k + 1) * n]
            assert sorted(one) == list(range(n))
            orders.add((index, tuple(one)))
    assert len(orders) > 20, "each pass must have an order of its own"


def test_systems_are_drawn_by_probability():
    sampler = Sampler(SYSTEMS, 1, sys_probs=[0.1, 0.6, 0.3], seed=3)
    drawn = np.bincount([sampler.next()[0] for _ in range(20000)], minlength=3) / 20000
    assert np.abs(drawn - [0.1, 0.6, 0.3]).max() < 0.015  # four standard deviations


def test_system_without_probability_is_never_drawn():
    sampler = Sampler(SYSTEMS, "filter:32", seed=3)
    assert {sampler.next()[0] for _ in range(200)} == {0, 1}
    last = Sampler(SYSTEMS, 1, sys_probs=[0.5, 0.5, 0.0], seed=3)
    assert {last.next()[0] for _ in range(200)} == {0, 1}


def draws(sampler: Sampler, n: int) -> list[tuple[int, list[int]]]:
    return [(index, frames.tolist()) for index, frames in (sampler.next() for _ in range(n))]


def test_seed_repeats_and_separates():
    assert draws(Sampler(SYSTEMS, 2, seed=5), 50) == draws(Sampler(SYSTEMS, 2, seed=5), 50)
    assert draws(Sampler(SYSTEMS, 2, seed=5), 50) != draws(Sampler(SYSTEMS, 2, seed=6), 50)
    assert draws(Sampler(SYSTEMS, 2), 50) != draws(Sampler(SYSTEMS, 2), 50)


@pytest.mark.parametrize(
    "carry", [lambda state: json.loads(json.dumps(state)), lambda s: pickle.loads(pickle.dumps(s))]
)
@pytest.mark.parametrize("done", [0, 1, 17, 301])
@pytest.mark.parametrize("seed", [None, 11])
def test_resume_is_exact(carry, done, seed):
    sampler = Sampler(SYSTEMS, 4, seed=seed)
    draws(sampler, done)
    state = carry(sampler.state_dict())
    expected = draws(sampler, 300)
    again = Sampler(SYSTEMS, 4, seed=99)
    assert again.load_state_dict(state)
    assert draws(again, 300) == expected


def test_changed_data_starts_afresh(caplog):
    state = Sampler(SYSTEMS, 4, seed=1).state_dict()
    other = Sampler([Stub(11, 6), *SYSTEMS[1:]], 4, seed=1)
    assert not other.load_state_dict(state)
    assert "differ from those of the checkpoint" in caplog.text


def test_epoch_steps():
    assert Sampler(SYSTEMS, 1).epoch_steps(1) == 38
    assert Sampler(SYSTEMS, 1).epoch_steps(2.5) == 95
    assert Sampler(SYSTEMS, 1, sys_probs=[0.5, 0.25, 0.25]).epoch_steps(1) == 100


def test_summary_lines():
    long = Stub(7, 5, "/very/long/path/that/does/not/fit/into/forty-two/columns/data", periodic=False)
    lines = Sampler([Stub(7, 5, "../data"), long], 2, seed=1).summary("Training").splitlines()
    assert lines[0].startswith("---Summary of DataSystem: Training")
    assert lines[1] == "Found 2 System(s):"
    assert lines[2].split() == ["system", "natoms", "bch_sz", "n_bch", "prob", "pbc"]
    assert lines[3] == "../data".rjust(42) + "       5       2       4  5.000e-01    T"
    assert lines[4].startswith("-- ") and lines[4][41] == "a" and lines[4].endswith("  F")
    assert len({len(line) for line in (lines[0], *lines[2:])}) == 1
