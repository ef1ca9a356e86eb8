"""Bring inputs written for versions 0.x, 1.x and 2.x to the current form, with one message per change."""

from __future__ import annotations

import copy
from typing import Any

from .messages import fail, join, listed, show
from .upgrade_model import upgrade_model
from .upgrade_multi import upgrade_tasks

OLD_START_LR = 0.001
OLD_STOP_LR = 1e-8

_V0_MARKS = ("sel_a", "use_smooth", "n_neuron", "fitting_neuron", "filter_neuron", "systems", "stop_batch")
_V0_DROPPED = {
    "coord_norm": "coordinates are always normalised by the statistics of the data",
    "type_fitting_net": "the descriptor decides whether there is one fitting net for each type",
    "use_smooth": "the type of the descriptor says it, 'se_e2_a' or 'loc_frame'",
    "load_ckpt": "use `dp train --restart` or `--init-model`",
}
_V0_PLACES = {
    "sel_a": "model/descriptor/sel (or sel_a of a local frame)",
    "n_axis_neuron": "model/descriptor/axis_neuron",
    "axis_neuron": "model/descriptor/axis_neuron",
    "filter_neuron": "model/descriptor/neuron",
    "filter_resnet_dt": "model/descriptor/resnet_dt",
    "fitting_neuron": "model/fitting_net/neuron",
    "n_neuron": "model/fitting_net/neuron",
    "fitting_resnet_dt": "model/fitting_net/resnet_dt",
    "resnet_dt": "model/fitting_net/resnet_dt",
    "seed": "training/seed, and to those of descriptor and fitting net",
}
_V0_TRAINING = (
    *("systems", "set_prefix", "batch_size", "auto_prob", "sys_probs", "stop_batch", "seed", "disp_file", "disp_freq"),
    *("numb_test", "save_freq", "save_ckpt", "disp_training", "time_training", "profiling", "profiling_file"),
)
_V1_DATA = (
    *("systems", "set_prefix", "batch_size", "auto_prob", "auto_prob_style", "sys_probs", "sys_prob", "sys_weights"),
)
_OPTIMIZER = {
    "opt_type": "type",
    **{
        name: name
        for name in (
            *("adam_beta1", "adam_beta2", "weight_decay", "momentum", "muon_momentum", "lr_adjust", "lr_adjust_coeff"),
            *("kf_blocksize", "kf_start_pref_e", "kf_limit_pref_e", "kf_start_pref_f", "kf_limit_pref_f"),
        )
    },
}
_WARMUP = ("warmup_steps", "warmup_ratio", "warmup_start_factor")


def upgrade(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The input in the current form, and what was changed; the input itself stays as it is.

    Values that mean something else today, and not only another spelling, raise InputError.
    """
    data, changes = to_v2(raw)
    _move_optimizer(data, changes)
    _move_warmup(data, changes)
    return data, changes


def to_v2(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The input in the form of version 2, which input_v2_compat.json holds, and what was changed."""
    data, changes = copy.deepcopy(raw), []
    if not isinstance(data, dict):
        return data, changes
    if "model" not in data and "training" not in data and any(mark in data for mark in _V0_MARKS):
        data = _from_v0(data, changes)
    upgrade_tasks(data, changes)
    _move_data(data, changes)
    _drop_old_keys(data, changes)
    if changes:
        _old_defaults(data, changes)
    upgrade_model(data.get("model"), "model", changes)
    return data, changes


def _section(data: dict[str, Any], name: str) -> dict[str, Any] | None:
    section = data.get(name)
    return section if isinstance(section, dict) else None


def _take(source: dict[str, Any], *names: str) -> Any:
    """Remove the first of several spellings and give its value, or None."""
    for name in names:
        if name in source:
            return source.pop(name)
    return None


def _from_v0(old: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Version 0.x had all keys on one level."""
    comments = {key: old.pop(key) for key in list(old) if key.startswith("_")}
    seed = old.get("seed")
    smooth = old.get("use_smooth") is True
    for name, why in _V0_DROPPED.items():
        if name in old:
            changes.append(f"{name} ({show(old.pop(name))}) was dropped: {why}")
    changes += [f"{name} moved to {_V0_PLACES[name]}" for name in old if name in _V0_PLACES]
    model: dict[str, Any] = {"descriptor": _v0_descriptor(old, smooth), "fitting_net": _v0_fitting(old)}
    if "type_map" in old:
        model = {"type_map": old.pop("type_map"), **model}
    if seed is not None:
        for name in ("descriptor", "fitting_net"):
            if model[name].get("type") != "loc_frame":  # which has no parameters
                model[name]["seed"] = seed
    rate = _v0_learning_rate(old)
    loss = {name: old.pop(name) for name in list(old) if name.startswith(("start_pref_", "limit_pref_"))}
    training = {name: old.pop(name) for name in _V0_TRAINING if name in old}
    changes.append("the keys of version 0.x, on one level, were sorted into model, learning_rate, loss and training")
    return {**comments, "model": model, "learning_rate": rate, "loss": loss, "training": training, **old}


def _v0_descriptor(old: dict[str, Any], smooth: bool) -> dict[str, Any]:
    if not smooth:
        names = ("sel_a", "sel_r", "rcut", "axis_rule")
        return {"type": "loc_frame", **{name: old.pop(name) for name in names if name in old}}
    found = {
        "sel": _take(old, "sel_a"),
        "rcut": _take(old, "rcut"),
        "rcut_smth": _take(old, "rcut_smth"),
        "neuron": _take(old, "filter_neuron"),
        "axis_neuron": _take(old, "axis_neuron", "n_axis_neuron"),
        "resnet_dt": _take(old, "filter_resnet_dt"),
    }
    return {"type": "se_e2_a", **{name: value for name, value in found.items() if value is not None}}


def _v0_fitting(old: dict[str, Any]) -> dict[str, Any]:
    plain = _take(old, "resnet_dt")
    found = {
        "neuron": _take(old, "fitting_neuron", "n_neuron"),
        "resnet_dt": _take(old, "fitting_resnet_dt"),
        "numb_fparam": _take(old, "numb_fparam"),
    }
    if found["resnet_dt"] is None:
        found["resnet_dt"] = plain
    return {name: value for name, value in found.items() if value is not None}


def _v0_learning_rate(old: dict[str, Any]) -> dict[str, Any]:
    rate: dict[str, Any] = {"type": "exp", "start_lr": old.pop("start_lr", OLD_START_LR)}
    for name in ("decay_steps", "decay_rate", "stop_lr"):
        if name in old:
            rate[name] = old.pop(name)
    return rate


def _move_data(data: dict[str, Any], changes: list[str]) -> None:
    """Version 1.x had the keys of the data directly in training."""
    training = _section(data, "training")
    if training is None:
        return
    moved = {name: training.pop(name) for name in _V1_DATA if name in training}
    if not moved:
        return
    if "training_data" in training:
        name = next(iter(moved))
        fail(f"training/{name}", moved[name], "this key inside training/training_data", "remove it from training")
    if "sys_prob" in moved:
        moved["sys_probs"] = moved.pop("sys_prob")
    training["training_data"] = moved
    changes.append(f"training/{listed(moved)} moved to training/training_data (the form of version 1.x)")


def _drop_old_keys(data: dict[str, Any], changes: list[str]) -> None:
    training = _section(data, "training")
    if training is None:
        return
    names = ("training_data", "validation_data")
    places = [(training.get(name), join("training", name)) for name in names]
    tasks = training.get("data_dict")
    for task, own in (tasks if isinstance(tasks, dict) else {}).items():
        if isinstance(own, dict):
            places += [(own.get(name), f"training/data_dict/{task}/{name}") for name in names]
    for section, path in (*places, (training, "training")):
        if isinstance(section, dict):
            _drop_set_prefix(section, path, changes)
            if "numb_test" in section:
                value = section.pop("numb_test")
                changes.append(f"{path}/numb_test ({show(value)}) was dropped: give training/validation_data instead")
    if "load_ckpt" in training:
        value = training.pop("load_ckpt")
        changes.append(f"training/load_ckpt ({show(value)}) was dropped: use `dp train --restart` or `--init-model`")


def _drop_set_prefix(section: dict[str, Any], path: str, changes: list[str]) -> None:
    if "set_prefix" not in section:
        return
    prefix = section.pop("set_prefix")
    if prefix != "set":
        where = f"{path}/set_prefix"
        fail(where, prefix, "'set', the only prefix of frame folders", "rename the folders to set.000, set.001, ...")
    changes.append(f"{path}/set_prefix was dropped: frame folders are always called set.*")


def _old_defaults(data: dict[str, Any], changes: list[str]) -> None:
    """Inputs that carry marks of old versions keep the defaults of their time."""
    rate = _section(data, "learning_rate")
    if rate is None:
        return
    if "start_lr" not in rate:
        rate["start_lr"] = OLD_START_LR
        changes.append(f"learning_rate/start_lr was set to {OLD_START_LR}, the default of old versions")
    if rate.get("type", "exp") == "exp" and rate.get("stop_lr") is None and rate.get("stop_lr_ratio") is None:
        rate["stop_lr"] = OLD_STOP_LR
        changes.append(f"learning_rate/stop_lr was set to {OLD_STOP_LR:g}, the default of old versions")


def _move_optimizer(data: dict[str, Any], changes: list[str]) -> None:
    training = _section(data, "training") if isinstance(data, dict) else None
    names = [name for name in _OPTIMIZER if training and name in training]
    if training is None or not names:
        return
    section = data.setdefault("optimizer", {})
    if not isinstance(section, dict):
        return
    for name in names:
        _move(training, name, section, _OPTIMIZER[name], "optimizer")
    changes.append(f"training/{listed(names)} moved to optimizer")


def _move_warmup(data: dict[str, Any], changes: list[str]) -> None:
    training = _section(data, "training") if isinstance(data, dict) else None
    rate = _section(data, "learning_rate") if isinstance(data, dict) else None
    names = [name for name in _WARMUP if training and name in training]
    if training is None or rate is None or not names:
        return
    for name in names:
        _move(training, name, rate, name, "learning_rate")
    changes.append(f"training/{listed(names)} moved to learning_rate")


def _move(source: dict[str, Any], name: str, target: dict[str, Any], new: str, section: str) -> None:
    value = source.pop(name)
    if new in target:
        fail(f"training/{name}", value, f"this key in {section} only, where it is {show(target[new])}", "keep one")
    target[new] = value
