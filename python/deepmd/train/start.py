"""Takes weights over from a checkpoint or a frozen model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from deepmd import exchange, foreign_checkpoint, model_file
from deepmd.errors import InputError, ModelError
from deepmd.infer.opening import find_model
from deepmd.nn.model import deserialize
from deepmd.train import checkpoint
from deepmd.train.origin import RANDOM, Origin
from deepmd.train.types import move_types

log = logging.getLogger(__name__)
KEEP_SEL = " back: it is part of the formula and limits nothing, so that there is never a need to adjust it"


def read(origin: Origin) -> tuple[Any, dict[str, Any] | None]:
    """The model that the weights come from, and the checkpoint's payload if it was one.

    Of several tasks the one that --model-branch names; with none or RANDOM, the first, for its descriptor alone.
    """
    suffix = Path(origin.path).suffix.lower()
    if suffix in exchange.TREE_SUFFIXES and origin.kind in ("init_frz_model", "finetune"):
        check_branch(origin)
        tree = exchange.read_tree(origin.path)
        exchange.check_supported(tree)
        return deserialize(tree["model"]), None
    if origin.kind == "init_frz_model" or (origin.finetune and suffix in (".pth", ".pb")):
        check_branch(origin)
        return deserialize(model_file.read(find_model(origin.path)).tree), None
    path = checkpoint.find_checkpoint(origin.path)
    if foreign_checkpoint.is_foreign(path):
        if origin.kind == "restart":
            raise InputError(
                f"dp train --restart: {path} is a checkpoint of DeePMD-kit, whose optimiser starts anew here; use "
                "--init-model for its weights"
            )
        return deserialize(foreign_checkpoint.read_tree(path, foreign_head(origin, path))), None
    payload = checkpoint.load(path)
    if "tasks" not in payload:
        check_branch(origin)
        return checkpoint.model_of(payload), payload
    if origin.finetune and not origin.branch:
        origin.branch = RANDOM
    head = next(iter(payload["tasks"])) if origin.branch == RANDOM else origin.branch
    payload = checkpoint.task_of(payload, head, path)
    return checkpoint.model_of(payload), payload


def foreign_head(origin: Origin, path: Path) -> str | None:
    """The task to take from a checkpoint of DeePMD-kit, by the same rule."""
    tasks = foreign_checkpoint.heads(path)
    if not tasks:
        check_branch(origin)
        return None
    if origin.finetune and not origin.branch:
        origin.branch = RANDOM
    return tasks[0] if origin.branch == RANDOM else origin.branch


def check_branch(origin: Origin) -> None:
    """A model of one task has no branches to choose from."""
    if origin.branch not in ("", RANDOM):
        raise InputError(
            f"dp train: --model-branch got '{origin.branch}', expected {RANDOM} or nothing, as {origin.path} has a "
            "single task; leave it out"
        )


def load_weights(origin: Origin, model: Any) -> dict[str, Any] | None:
    """Copies weights and statistics into `model`; returns the payload to resume from if this is a restart."""
    if not origin.has_weights:
        return None
    source, payload = read(origin)
    if not origin.new_fitting and source.type_map != model.type_map and not origin.finetune:
        raise ModelError(
            f"{origin.path}: its type_map is {source.type_map}, the input says {model.type_map}; "
            "expected the same names in the same order; change model/type_map, or use --finetune"
        )
    adopt(source, model, origin.path, origin.new_fitting)
    log.info("weights from %s (%s)", origin.path, origin.kind.replace("_", "-"))
    return payload if origin.kind == "restart" else None


def adopt(source: Any, model: Any, name: str, new_fitting: bool) -> None:
    """Copies weights and statistics of one model into another, whose types may be others."""
    if new_fitting:
        take_descriptor(source, model, name)
    elif source.type_map == model.type_map:
        transfer(source, model, name)
    else:
        move_types(source, model, name)


def take_descriptor(source: Any, model: Any, name: str) -> None:
    """Everything but fitting net and bias; they keep their fresh values."""
    ours, theirs = (one.state_dict() for one in (model, source))
    theirs = {key: value for key, value in theirs.items() if key.startswith("descriptor.")}
    wrong = [key for key in theirs if key not in ours or ours[key].shape != theirs[key].shape]
    if wrong or not theirs or source.type_map != model.type_map:
        raise ModelError(
            f"{name}: its descriptor or type_map differs from the input's ({wrong[0] if wrong else source.type_map}); "
            "expected the same for --model-branch RANDOM"
        )
    model.load_state_dict({**ours, **theirs})
    model.min_pair_distance = source.min_pair_distance


def transfer(source: Any, model: Any, name: str) -> None:
    """Copies the state of one model into another of the same architecture."""
    ours, theirs = model.state_dict(), source.state_dict()
    differing = [k for k in ours if k not in theirs or ours[k].shape != theirs[k].shape]
    extra = [k for k in theirs if k not in ours]
    if differing or extra:
        first = (differing + extra)[0]
        shapes = [tuple(d[first].shape) if first in d else "absent" for d in (theirs, ours)]
        raise ModelError(
            f"{name}: its networks differ from those of the input ({first} is {shapes[0]} there and {shapes[1]} here); "
            "use the same descriptor and fitting_net, or --use-pretrain-script"
        )
    before, now = source.facts(), model.facts()
    for option in ("rcut", "rcut_smth", "sel"):
        if getattr(before, option) != getattr(now, option):
            raise ModelError(
                f"{name}: its {option} is {getattr(before, option)}, the input says {getattr(now, option)}; expected "
                f"the same; change model/descriptor/{option}{KEEP_SEL if option == 'sel' else ''}"
            )
    model.load_state_dict(theirs)
    model.min_pair_distance = source.min_pair_distance


def use_pretrained_section(raw: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """Replaces the `model` section by the one of the given model, the type map excepted."""
    if not origin.has_weights:
        raise InputError(
            "dp train: got --use-pretrain-script without a model; add --init-model, --init-frz-model or --finetune"
        )
    source, _ = read(origin)
    section = json.loads(json.dumps(source.section, default=lambda x: np.asarray(x).tolist()))
    if not section.get("descriptor"):
        raise ModelError(
            f"{origin.path}: the file holds no training input to take the model section from; write it out"
        )
    type_map = raw.get("model", {}).get("type_map")
    if type_map:
        section["type_map"] = type_map
    log.info("model section taken from %s", origin.path)
    return {**raw, "model": section}
