"""The learning rate against values worked out by hand and against values of DeePMD-kit 3.2.0."""

from __future__ import annotations

import math

import pytest
from deepmd.errors import InputError
from deepmd.train.schedule import schedule

A, B = 1e-3, 1e-5


def rates(steps: list[int], numb_steps: int, **section) -> list[float]:
    """Learning rates from 1e-3 to 1e-5 at some steps."""
    plan = schedule({"start_lr": A, **({} if "stop_lr_ratio" in section else {"stop_lr": B}), **section}, numb_steps)
    return [plan.lr(step) for step in steps]


def near(values: list[float]) -> object:
    return pytest.approx(values, rel=1e-12, abs=0)


def test_exp_in_stairs() -> None:
    # 1000 steps in stairs of 100: a factor of 100^(1/10) each.
    q = 100 ** (-1 / 10)
    wanted = [A, A, A * q, A * q, A * q**2, A * q**9, B, B]
    assert rates([0, 99, 100, 199, 200, 999, 1000, 1200], 1000, decay_steps=100) == near(wanted)


def test_exp_smooth() -> None:
    wanted = [A, A * 100 ** (-0.05), A * 100 ** (-0.5), A * 100 ** (-0.999), B]
    assert rates([0, 50, 500, 999, 1200], 1000, decay_steps=100, smooth=True) == near(wanted)


def test_exp_with_long_stairs_takes_a_hundredth() -> None:
    # decay_steps 5000 is not below 1000: 1000 // 10 is not above 100, so 1000 // 100 + 1 = 11 steps.
    q = 100 ** (-11 / 1000)
    assert rates([0, 10, 11, 50, 999, 1000], 1000, decay_steps=5000) == near([A, A, A * q, A * q**4, *[A * q**90] * 2])
    # and 100 steps for long trainings: 2000 // 10 is above 100.
    assert rates([99, 100], 2000, decay_steps=2000) == near([A, A * 100 ** (-0.05)])


def test_exp_with_a_given_rate_keeps_its_stairs() -> None:
    assert rates([99, 100, 200, 550, 1000], 1000, decay_steps=100, decay_rate=0.5) == near([A, A / 2, A / 4, A / 32, B])
    assert rates([0, 999], 1000, decay_steps=5000, decay_rate=0.9) == near([A, A])


def test_exp_down_to_nothing() -> None:
    plan = schedule({"start_lr": A, "stop_lr": 0.0, "decay_steps": 100}, 1000)
    assert plan.lr(1000) == pytest.approx(1e-10, rel=1e-12)


def test_stop_lr_ratio_and_default() -> None:
    assert rates([100], 100, decay_steps=10, stop_lr_ratio=0.01) == near([B])
    assert schedule({"start_lr": A}, 100).stop_lr == 5e-8


def test_cosine() -> None:
    middle, quarter = B + (A - B) / 2, B + (A - B) * (1 + math.sqrt(0.5)) / 2
    assert rates([0, 250, 500, 1000, 5000], 1000, type="cosine") == near([A, quarter, middle, B, B])


def test_warmup_climbs_in_a_straight_line_and_shifts_the_decay() -> None:
    wanted = [0.0, A / 2, A * 0.99, A, B + (A - B) / 2, B]
    assert rates([0, 50, 99, 100, 550, 1000], 1000, type="cosine", warmup_steps=100) == near(wanted)
    assert rates([0, 100, 199, 200], 1000, warmup_steps=200, warmup_start_factor=0.2, decay_steps=100) == near(
        [0.2 * A, 0.6 * A, (0.2 + 0.8 * 199 / 200) * A, A]
    )
    assert rates([0, 123], 1000, type="cosine", warmup_ratio=0.1234) == near([0.0, A])


def test_wsd_shapes() -> None:
    inverse = 1 / (0.5 / B + 0.5 / A)
    assert rates([0, 900, 950, 1000, 1200], 1000, type="wsd") == near([A, A, inverse, B, B])
    assert rates([900, 950, 1000], 1000, type="wsd", decay_type="linear") == near([A, (A + B) / 2, B])
    assert rates([900, 950, 975], 1000, type="wsd", decay_type="cosine") == near(
        [A, (A + B) / 2, B + (A - B) * (1 - math.sqrt(0.5)) / 2]
    )


def test_wsd_phase_counts_all_steps_and_spares_the_warmup() -> None:
    assert rates([100, 899, 900, 1000], 1000, type="wsd", warmup_steps=100) == near([A, A, A, B])
    # 0.95 of 1000 steps would begin inside the warm-up of 123 steps: the decay covers the 877 steps after it.
    options = {"type": "wsd", "warmup_ratio": 0.1234, "decay_type": "linear", "decay_phase_ratio": 0.95}
    assert rates([123, 1000], 1000, **options) == near([A, B])
    # at least one step decays
    assert rates([0, 4, 5, 6], 5, type="wsd") == near([A, A, B, B])


# Printed by the schedules of DeePMD-kit 3.2.0 (NumPy backend), start 1e-3, stop 1e-5.
PEER = [
    ({"decay_steps": 950, "warmup_steps": 100}, {199: 6.309573444802e-04, 550: 1e-4, 999: 1.052500285278e-05}),
    ({"decay_steps": 100, "warmup_steps": 100}, {200: 5.994842503189e-04, 999: 1.668100537200e-05}),
    ({"type": "wsd"}, {901: 5.025125628141e-04, 950: 1.980198019802e-05, 999: 1.009998990001e-05}),
    (
        {"type": "wsd", "warmup_ratio": 0.1234, "decay_type": "linear", "decay_phase_ratio": 0.95},
        {50: 4.065040650407e-04, 899: 1.240136830103e-04, 950: 6.644241733181e-05},
    ),
    (
        {
            "type": "wsd",
            "warmup_steps": 200,
            "warmup_start_factor": 0.2,
            "decay_type": "linear",
            "decay_phase_ratio": 1.0,
        },
        {99: 5.96e-04, 899: 1.349875e-04, 950: 7.1875e-05},
    ),
    ({"type": "cosine", "warmup_steps": 100}, {101: 9.999969842906e-04, 999: 1.000301570939e-05}),
]


@pytest.mark.parametrize("case", PEER, ids=lambda case: str(case[0])[:50])
def test_against_the_peer(case: tuple[dict, dict[int, float]]) -> None:
    options, wanted = case
    got = rates(list(wanted), 1000, **options)
    assert got == pytest.approx(list(wanted.values()), rel=1e-11)


@pytest.mark.parametrize("kind", ["exp", "cosine", "wsd"])
def test_no_steps_at_all(kind: str) -> None:
    assert rates([0], 0, type=kind, warmup_steps=10) == [A]


def test_refusals() -> None:
    with pytest.raises(InputError, match="fewer steps than the 10"):
        schedule({"start_lr": A, "warmup_steps": 10}, 10)
    with pytest.raises(InputError, match="expected one of exp, cosine, wsd"):
        schedule({"start_lr": A, "type": "step"}, 10)
