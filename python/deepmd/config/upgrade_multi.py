"""Multi-task inputs of version 2, `model/fitting_net_dict` beside one descriptor, in the form of today."""

from __future__ import annotations

import copy
from typing import Any

from .messages import fail, require

SHARED = {"type_map": "types", "descriptor": "descriptor", "type_embedding": "type_embedding"}
OF_TASKS = ("fitting_net_dict", "type", *SHARED)


def upgrade_tasks(data: dict[str, Any], changes: list[str]) -> None:
    """Several fitting nets on one descriptor become one model per net with the descriptor shared (in place)."""
    model, training = data.get("model"), data.get("training")
    if not isinstance(model, dict) or "fitting_net_dict" not in model or not isinstance(training, dict):
        return
    nets = model["fitting_net_dict"]
    require(isinstance(nets, dict) and len(nets) > 0, "model/fitting_net_dict", nets, "a section with fitting nets")
    common = {key: value for key, value in model.items() if key not in OF_TASKS and not key.startswith("_")}
    shared = {name: model[key] for key, name in SHARED.items() if key in model and key != "type_embedding"}
    references = {key: name for key, name in SHARED.items() if name in shared}
    if "type_embedding" in model:
        common["type_embedding"] = model["type_embedding"]
    data["model"] = {
        "shared_dict": shared,
        "model_dict": {
            task: {**copy.deepcopy(common), **references, "fitting_net": net} for task, net in nets.items()
        },
    }
    changes.append("model/fitting_net_dict became model/model_dict, with the descriptor in model/shared_dict")
    if "fitting_weight" in training:
        training["model_prob"] = training.pop("fitting_weight")
        changes.append("training/fitting_weight moved to training/model_prob")
    _one_rate(data, changes)


def _one_rate(data: dict[str, Any], changes: list[str]) -> None:
    """All tasks are trained by one optimiser with one learning rate."""
    if "learning_rate_dict" not in data:
        return
    rates = data.pop("learning_rate_dict")
    values = list(rates.values()) if isinstance(rates, dict) else []
    if not values or any(rate != values[0] for rate in values) or "learning_rate" in data:
        fail("learning_rate_dict", rates, "the same learning rate for all tasks", "give one section learning_rate")
    data["learning_rate"] = values[0]
    changes.append("learning_rate_dict, the same for all tasks, became learning_rate")
