"""From an input of the current form to the full dictionary that training reads and that out.json holds."""

from __future__ import annotations

import copy
from typing import Any

from dargs.dargs import ArgumentError

from deepmd.errors import InputError

from . import learning_rate, loss, model, multi_task, optimizer, training
from .messages import require
from .schema import single_task
from .walk import walk


def normalise(raw: dict[str, Any]) -> dict[str, Any]:
    """Check an input and fill it up.

    Keys that begin with `_` and `$schema` are dropped, aliases renamed, defaults filled. The input itself stays as it
    is. Inputs with model/model_dict have several tasks, see `multi_task`.
    Raises InputError with one sentence at the first thing that is wrong.
    """
    require(isinstance(raw, dict), "input", raw, "a section with model, learning_rate, loss and training")
    data = trim(copy.deepcopy(raw))
    data.pop("$schema", None)
    return multi_task.normalise(data, _one_task) if multi_task.is_multi_task(data) else _one_task(data)


def _one_task(data: dict[str, Any]) -> dict[str, Any]:
    """The same for an input of one task without comments, in place."""
    schema = single_task()
    walk(schema, data)
    for name in ("loss", "optimizer"):
        data.setdefault(name, {})
    try:
        data = schema.normalize_value(data, inplace=True)
        schema.check_value(data, strict=True)
    except ArgumentError as error:  # the walk above is meant to find everything first
        where = error.path or "input"
        raise InputError(f"{where}: this section does not fit the schema of `dp doc-train-input`") from error
    learning_rate.settle(data["learning_rate"])
    model.check(data["model"])
    training.check(data["training"])
    learning_rate.check(data["learning_rate"], data["training"].get("numb_steps"))
    optimizer.check(data["optimizer"])
    loss.check(data["loss"])
    agree(data["model"], data["loss"])
    return {name: data[name] for name in schema.sub_fields if name in data}


LOSS_OF = {
    **{"ener": "ener", "spin": "ener_spin"},
    **{"dipole": "tensor", "polar": "tensor", "dos": "dos", "property": "property"},
}
"""The loss that goes with each fitting, or with spins."""


def agree(model_section: dict[str, Any], loss_section: dict[str, Any]) -> None:
    """The loss must be one of what the model predicts."""
    fitting = (model_section.get("fitting_net") or {}).get("type", "ener")
    fitting = "spin" if model_section.get("spin") else fitting
    kind, wanted = loss_section.get("type", "ener"), LOSS_OF[fitting]
    words = "the model has spins" if fitting == "spin" else f"model/fitting_net/type is '{fitting}'"
    require(kind == wanted, "loss/type", kind, f"'{wanted}', as {words}")
    unsplit = [f"{end}_pref_{term}" for end in ("start", "limit") for term in ("ae", "h")]
    for key in unsplit if model_section.get("modifier") else ():
        value = loss_section.get(key, 0)
        require(value == 0, f"loss/{key}", value, "0, as model/modifier changes energies, forces and virials only")


def trim(value: Any) -> Any:
    """Drop, at every depth, the keys that begin with `_`: they are comments."""
    if isinstance(value, dict):
        return {k: trim(v) for k, v in value.items() if not (isinstance(k, str) and k.startswith("_"))}
    if isinstance(value, list):
        return [trim(one) for one in value]
    return value
