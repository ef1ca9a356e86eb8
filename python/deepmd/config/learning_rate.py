"""The schema of `learning_rate`."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from .built import BUILT, check_choice
from .messages import fail, listed, require

DEFAULT_STOP_LR = 5e-8


def _common() -> list[Argument]:
    return [
        Argument("start_lr", float, doc="Learning rate at the start, after the warm-up if there is one."),
        Argument(
            "stop_lr",
            [float, None],
            optional=True,
            default=None,
            doc="Learning rate at the last step, and the floor of `exp`. Give either this or `stop_lr_ratio`; "
            f"without both it is {DEFAULT_STOP_LR:g}.",
        ),
        Argument(
            "stop_lr_ratio", [float, None], optional=True, default=None, doc="`stop_lr` as a fraction of `start_lr`."
        ),
        Argument(
            "warmup_steps",
            int,
            optional=True,
            default=0,
            doc="Steps in which the learning rate climbs linearly to `start_lr`. The decay begins after them.",
        ),
        Argument(
            "warmup_ratio",
            [float, None],
            optional=True,
            default=None,
            doc="`warmup_steps` as a fraction of all steps. Give one of the two.",
        ),
        Argument(
            "warmup_start_factor",
            float,
            optional=True,
            default=0.0,
            doc="The warm-up begins at this fraction of `start_lr`.",
        ),
        Argument(
            "scale_by_worker",
            str,
            optional=True,
            default="linear",
            doc="How the learning rate grows with the number of workers: "
            f"{listed(BUILT['learning_rate/scale_by_worker'])}. One worker is not affected.",
        ),
    ]


def _exp() -> Argument:
    fields = [
        Argument(
            "decay_steps",
            int,
            optional=True,
            default=5000,
            doc="The learning rate falls once in this many steps. Where the whole decay is not longer than that and "
            "`decay_rate` is not given, a hundredth of it (at most 100 steps) is taken.",
        ),
        Argument(
            "decay_rate",
            [float, None],
            optional=True,
            default=None,
            doc="Factor of one fall. null chooses it so that `stop_lr` is reached at the last step; a given factor is "
            "used as it is, with `stop_lr` as the floor.",
        ),
        Argument("smooth", bool, optional=True, default=False, doc="Fall a little in every step instead of in stairs."),
    ]
    return Argument("exp", dict, fields, doc="Exponential decay.")


def _wsd() -> Argument:
    fields = [
        Argument(
            "decay_phase_ratio",
            float,
            optional=True,
            default=0.1,
            doc="Fraction of all steps, at the end, in which the learning rate decays.",
        ),
        Argument(
            "decay_type",
            str,
            optional=True,
            default="inverse_linear",
            doc=f"Shape of the decay: {listed(BUILT['learning_rate/decay_type'])}.",
        ),
    ]
    return Argument("wsd", dict, fields, doc="Warm-up, then constant, then a decay to `stop_lr` at the end.")


def argument() -> Argument:
    """The schema of `learning_rate`."""
    kinds = [_exp(), Argument("cosine", dict, [], doc="Half a cosine from `start_lr` to `stop_lr`."), _wsd()]
    choice = Variant("type", kinds, optional=True, default_tag="exp", doc="How the learning rate falls.")
    return Argument("learning_rate", dict, _common(), [choice], doc="The learning rate over the steps of training.")


def settle(section: dict[str, Any]) -> None:
    """Fill the documented default of `stop_lr` where neither it nor `stop_lr_ratio` is given."""
    if section.get("stop_lr") is None and section.get("stop_lr_ratio") is None:
        section["stop_lr"] = DEFAULT_STOP_LR


def check(section: dict[str, Any], numb_steps: int | None, path: str = "learning_rate") -> None:
    """Check the values of a section whose types are right and which `settle` has seen."""
    _check_range(section, path)
    _check_warmup(section, numb_steps, path)
    if section["type"] == "exp":
        _check_exp(section, path)
    elif section["type"] == "wsd":
        ratio = section["decay_phase_ratio"]
        require(0 < ratio <= 1, f"{path}/decay_phase_ratio", ratio, "a fraction above 0 and up to 1")
        check_choice(f"{path}/decay_type", section["decay_type"], "learning_rate/decay_type")
    check_choice(f"{path}/scale_by_worker", section["scale_by_worker"], "learning_rate/scale_by_worker")


def _check_range(section: dict[str, Any], path: str) -> None:
    start, stop, ratio = section["start_lr"], section["stop_lr"], section["stop_lr_ratio"]
    require(start > 0, f"{path}/start_lr", start, "a positive learning rate")
    if stop is not None and ratio is not None:
        fail(f"{path}/stop_lr_ratio", ratio, f"one of stop_lr and stop_lr_ratio, but stop_lr is {stop}", "keep one")
    if ratio is not None:
        require(0 <= ratio <= 1, f"{path}/stop_lr_ratio", ratio, "a fraction from 0 to 1")
    else:
        require(0 <= stop <= start, f"{path}/stop_lr", stop, f"a learning rate from 0 to start_lr ({start})")


def _check_warmup(section: dict[str, Any], numb_steps: int | None, path: str) -> None:
    steps, ratio, factor = section["warmup_steps"], section["warmup_ratio"], section["warmup_start_factor"]
    require(steps >= 0, f"{path}/warmup_steps", steps, "a number of steps, 0 or more")
    require(0 <= factor <= 1, f"{path}/warmup_start_factor", factor, "a fraction from 0 to 1")
    if ratio is not None:
        require(0 <= ratio < 1, f"{path}/warmup_ratio", ratio, "a fraction from 0 to less than 1")
        if steps:
            fail(f"{path}/warmup_ratio", ratio, f"one of warmup_ratio and warmup_steps ({steps})", "keep one of them")
    if numb_steps:
        require(
            steps < numb_steps,
            f"{path}/warmup_steps",
            steps,
            f"fewer steps than training/numb_steps ({numb_steps})",
        )


def _check_exp(section: dict[str, Any], path: str) -> None:
    steps, rate = section["decay_steps"], section["decay_rate"]
    require(steps >= 1, f"{path}/decay_steps", steps, "a number of steps, 1 or more")
    require(rate is None or 0 < rate <= 1, f"{path}/decay_rate", rate, "null or a factor above 0 and up to 1")
