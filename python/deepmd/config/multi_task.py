"""Inputs of several tasks: parts by reference, and each task checked as the complete input of one.

The normal form keeps the references, so that out.json is an input again: `model/shared_dict` holds the shared parts,
filled up; `model/model_dict/<task>` the rest, with names in the place of shared parts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deepmd.errors import InputError

from .messages import fail, listed, missing, nearest, require, show

SHAREABLE = ("type_map", "descriptor", "fitting_net")
OF_MODEL = ("shared_dict", "model_dict")
OF_TRAINING = ("data_dict", "model_prob", "num_epoch_dict")
DATA = ("training_data", "validation_data")
OWN = (*DATA, "stat_file")
TOP = ("model", "learning_rate", "optimizer", "loss_dict", "training", "validating")
RANDOM = "RANDOM"


@dataclass(frozen=True)
class Link:
    """The part `item` of a task stands in shared_dict under `name`; level 0 shares all of it, 1 the type embedding."""

    task: str
    item: str
    name: str
    level: int


def is_multi_task(data: Any) -> bool:
    """Whether an input has several tasks."""
    return isinstance(data, dict) and isinstance(data.get("model"), dict) and "model_dict" in data["model"]


def normalise(data: dict[str, Any], single: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Check an input of several tasks and fill it up; `single` does so for one task. Comments are gone already."""
    _keys(data, TOP, "")
    model, training = data["model"], _section(data, "training", "")
    _keys(model, OF_MODEL, "model")
    for name in DATA:
        require(name not in training, f"training/{name}", training.get(name), "this section in training/data_dict")
    tasks = _section(model, "model_dict", "model")
    require(len(tasks) > 0, "model/model_dict", tasks, "at least one task")
    require(RANDOM not in tasks, f"model/model_dict/{RANDOM}", "a task", f"another name, as {RANDOM} means a new one")
    for name in ("data_dict", "model_prob", "num_epoch_dict"):
        _known_tasks(training.get(name), tasks, f"training/{name}")
    _known_tasks(data.get("loss_dict"), tasks, "loss_dict")
    full: dict[str, Any] = {"model": {"shared_dict": {}, "model_dict": {}}, "loss_dict": {}}
    data_dict: dict[str, Any] = {}
    for task in tasks:
        done = _one_task(task, data, single)
        _file(full, data_dict, task, done, data)
    _check_links(full)
    full["training"]["model_prob"] = _probabilities(training.get("model_prob"))
    if "num_epoch_dict" in training:
        full["training"].pop("numb_epoch", None)
        full["training"]["num_epoch_dict"] = training["num_epoch_dict"]
    return full


def _one_task(task: str, data: dict[str, Any], single: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The complete input of one task, checked; its errors name the task."""
    training = {key: value for key, value in data["training"].items() if key not in OF_TRAINING}
    epochs = data["training"].get("num_epoch_dict")
    if epochs is not None:
        clash = next((key for key in training if key.startswith(("numb_", "num_", "stop_batch"))), None)
        require(clash is None, f"training/{clash}", training.get(clash or ""), "no such key beside num_epoch_dict")
        require(task in epochs, f"training/num_epoch_dict/{task}", None, "a number of epochs for each task")
        training["numb_epoch"] = epochs[task]
    own = _section(_section(data["training"], "data_dict", "training"), task, "training/data_dict")
    _keys(own, OWN, f"training/data_dict/{task}")
    section = copy.deepcopy(expand(data["model"], task))
    section.pop("finetune_head", None)
    n_cases = _take_cases(section, len(data["model"]["model_dict"]), task)
    whole = {
        "model": section,
        "loss": (data.get("loss_dict") or {}).get(task, {}),
        "training": {**training, **own},
        **{key: data[key] for key in ("learning_rate", "optimizer", "validating") if key in data},
    }
    try:
        done = single(copy.deepcopy(whole))
        average = done["training"].get("disp_avg")
        require(not average, "training/disp_avg", average, "false, as errors of several tasks are not averaged")
    except InputError as error:
        raise InputError(f"task '{task}': {error}") from error
    if n_cases:
        done["model"]["fitting_net"]["dim_case_embd"] = n_cases
    return done


def _take_cases(section: dict[str, Any], n_tasks: int, task: str) -> int:
    """The number of tasks that the fitting net tells apart, which an input of one task cannot have."""
    fitting = section.get("fitting_net")
    n_cases = fitting.pop("dim_case_embd", 0) if isinstance(fitting, dict) else 0
    where = f"model/model_dict/{task}/fitting_net/dim_case_embd"
    require(n_cases in (0, n_tasks), where, n_cases, f"0, or {n_tasks}, the number of tasks")
    return n_cases


def _file(full: dict[str, Any], data_dict: dict[str, Any], task: str, done: dict[str, Any], data: dict) -> None:
    """Puts the sections of a checked task where the form of several tasks has them."""
    branch = done["model"]
    for link in links_of(data["model"], task):
        full["model"]["shared_dict"].setdefault(link.name, branch[link.item])
        branch[link.item] = data["model"]["model_dict"][task][link.item]
    head = data["model"]["model_dict"][task].get("finetune_head")
    if head is not None:
        require(isinstance(head, str), f"model/model_dict/{task}/finetune_head", head, "the name of a task")
        branch["finetune_head"] = head
    full["model"]["model_dict"][task] = branch
    full["loss_dict"][task] = done["loss"]
    data_dict[task] = {name: done["training"].pop(name) for name in OWN if name in done["training"]}
    full["training"] = {"data_dict": data_dict, **done["training"]}
    full |= {key: done[key] for key in ("learning_rate", "optimizer", "validating") if key in done}


def expand(model: dict[str, Any], task: str) -> dict[str, Any]:
    """The model section of one task, with shared parts (the very objects of shared_dict) in the place of names."""
    branch = _section(model["model_dict"], task, "model/model_dict")
    found = {link.item: model["shared_dict"][link.name] for link in links_of(model, task)}
    return {**{key: copy.deepcopy(value) for key, value in branch.items() if key not in found}, **found}


def links_of(model: dict[str, Any], task: str) -> list[Link]:
    """References of a task, such as `"descriptor": "common"` or `"descriptor": "common:1"`."""
    shared, links = model.get("shared_dict") or {}, []
    for item in SHAREABLE:
        value = model["model_dict"][task].get(item)
        if not isinstance(value, str):
            continue
        where, (name, colon, level) = f"model/model_dict/{task}/{item}", value.partition(":")
        if name not in shared:
            near = nearest(name, shared)
            hint = f"did you mean '{near}'?" if near else ""
            fail(where, value, f"a name of model/shared_dict ({listed(shared)})", hint)
        levels = ("0", "1") if item == "descriptor" else ("0",)
        require(not colon or level in levels, where, value, f"the level {' or '.join(levels)} after the colon")
        links.append(Link(task, item, name, int(level or 0)))
    return links


def tasks_of(full: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The input of each task, from the normal form; shared sections are the same objects in all of them."""
    tasks = {}
    options = {key: value for key, value in full["training"].items() if key not in OF_TRAINING}
    for task in full["model"]["model_dict"]:
        section = expand(full["model"], task)
        section.pop("finetune_head", None)
        tasks[task] = {
            "model": section,
            **{key: full[key] for key in ("learning_rate", "optimizer") if key in full},
            "loss": full["loss_dict"][task],
            "training": {**options, **full["training"]["data_dict"][task]},
        }
    return tasks


def _check_links(full: dict[str, Any]) -> None:
    """Parts that are shared as a whole need the same types in all tasks."""
    model = full["model"]
    first: dict[tuple[str, str], str] = {}
    for task in model["model_dict"]:
        for link in links_of(model, task):
            if link.item == "type_map":
                continue
            section = expand(model, task)
            kind = section.get("type", "standard")
            plain = kind == "standard" and not section.get("use_srtab")
            require(plain, f"model/model_dict/{task}/type", kind, "'standard' without use_srtab, as it shares parts")
            other = first.setdefault((link.item, link.name), task)
            names, theirs = section["type_map"], expand(model, other)["type_map"]
            where = f"model/model_dict/{task}/type_map"
            require(names == theirs, where, names, f"{show(theirs)}, as task '{other}' shares its {link.item}")


def _probabilities(given: Any) -> dict[str, float] | None:
    if given is None:
        return None
    for task, value in given.items():
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
        require(good, f"training/model_prob/{task}", value, "a probability of 0 or more")
    require(sum(given.values()) > 0, "training/model_prob", given, "at least one probability above 0")
    return {task: float(value) for task, value in given.items()}


def _keys(section: dict[str, Any], known: tuple[str, ...], path: str) -> None:
    for key, value in section.items():
        where = f"{path}/{key}" if path else key
        if key not in known:
            near = {"loss": "loss_dict", **dict.fromkeys(SHAREABLE, "shared_dict")}.get(key) or nearest(key, known)
            hint = f"did you mean '{near}'?" if near else "remove it"
            fail(where, value, f"one of {listed(known)}, as the input has several tasks", hint)


def _section(parent: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    where = f"{path}/{key}" if path else key
    if key not in parent:
        missing(where, "a section", "add this section")
    require(isinstance(parent[key], dict), where, parent[key], "a section")
    return parent[key]


def _known_tasks(section: Any, tasks: dict[str, Any], path: str) -> None:
    if section is None:
        return
    require(isinstance(section, dict), path, section, "a section with an entry for each task")
    for name in section:
        near = nearest(name, tasks)
        hint = f"did you mean '{near}'?" if near else "remove it"
        require(name in tasks, f"{path}/{name}", section[name], f"a task of model/model_dict ({listed(tasks)})", hint)
