"""The schema of `optimizer`."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from .messages import require


def _adam(name: str, weight_decay: float, doc: str) -> Argument:
    fields = [
        Argument("adam_beta1", float, optional=True, default=0.9, doc="Memory of the mean of the gradient."),
        Argument("adam_beta2", float, optional=True, default=0.999, doc="Memory of the mean square of the gradient."),
        Argument("weight_decay", float, optional=True, default=weight_decay, doc="Strength of the pull to zero."),
    ]
    return Argument(name, dict, fields, doc=doc)


def argument() -> Argument:
    """The schema of `optimizer`."""
    kinds = [
        _adam("Adam", 0.0, "Adam; a weight decay is added to the gradient."),
        _adam("AdamW", 0.001, "Adam with the weight decay taken off the parameters themselves."),
    ]
    choice = Variant("type", kinds, optional=True, default_tag="Adam", doc="The optimizer.")
    return Argument("optimizer", dict, [], [choice], optional=True, doc="How parameters follow the gradient.")


def check(section: dict[str, Any], path: str = "optimizer") -> None:
    """Check the values of a section whose types are right."""
    for key in ("adam_beta1", "adam_beta2"):
        require(0 <= section[key] < 1, f"{path}/{key}", section[key], "a number from 0 to less than 1")
    require(section["weight_decay"] >= 0, f"{path}/weight_decay", section["weight_decay"], "a number of 0 or more")
