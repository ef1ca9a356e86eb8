"""``dp show``: what a model file or a checkpoint holds."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import DeepmdError, InputError
from deepmd.exchange import TREE_SUFFIXES, VARIABLES, describe, flatten, read_tree
from deepmd.infer.opening import CHECKPOINT, find_model

log = logging.getLogger(__name__)


@dataclass
class Contents:
    """What the questions of `dp show` are answered from."""

    tree: dict[str, Any]  # neutral tree
    section: dict[str, Any]  # model section of the training input
    facts: list[str] = field(default_factory=list)  # lines about the file itself


def load_contents(path: str | Path, head: str | None = None) -> Contents:
    """Opens a frozen model (.pth), a checkpoint (.pt), or of one its task `head`, or a neutral tree (.dp, .yaml)."""
    path = find_model(path)
    if path.suffix.lower() in TREE_SUFFIXES:
        tree = read_tree(path)
        written = " ".join(str(tree[key]) for key in ("software", "version", "time") if tree.get(key))
        return Contents(tree, _as_dict(tree.get("model_def_script")), [f"written by      : {written}"])
    return _from_checkpoint(path, head) if path.suffix.lower() == CHECKPOINT else _from_frozen(path)


def _from_frozen(path: Path) -> Contents:
    from deepmd.model_file import read

    frozen = read(path)
    meta = frozen.metadata
    test = meta["selftest"]
    facts = [
        f"frozen by       : deepmd-engine {meta['software_version']}, torch {meta['torch_version']}, {meta['created']}",
        f"file            : format {meta['format_version']}, checksum right, {path.stat().st_size} bytes",
        f"self-test       : {test['n_frames']} frames, tolerance {test['tolerance']:g} eV and eV/A",
        f"predicts        : {meta['kind']}",
        *path_facts(path, frozen.compression),
    ]
    return Contents(frozen.tree, _as_dict(meta["model_def_script"]), facts)


def path_facts(path: Path, compression: dict[str, Any] | None) -> list[str]:
    """How the model would run here, and what its compression brought."""
    from deepmd.compress import describe as describe_compression
    from deepmd.infer.opening import open_frozen

    facts = [] if compression is None else [f"compression     : {describe_compression(compression)}"]
    try:
        return [*facts, f"path            : {open_frozen(path, run_selftest=False).path_description}"]
    except DeepmdError as error:
        return [*facts, f"path            : none on this machine ({error})"]


def _from_checkpoint(path: Path, head: str | None) -> Contents:
    from deepmd.train.checkpoint import load_model

    model, payload = load_model(path, head)
    distance = model.min_pair_distance
    tree = {"model": model.serialize(), VARIABLES: {} if distance is None else {"min_nbor_dist": np.array(distance)}}
    return Contents(tree, _as_dict(model.section), [f"checkpoint      : step {payload.get('step')}"])


def _as_dict(section: Any) -> dict[str, Any]:
    """The model section; old files keep it as a JSON text."""
    section = json.loads(section) if isinstance(section, str) else section
    return section if isinstance(section, dict) else {}


def parameter_counts(tree: dict[str, Any]) -> dict[str, int]:
    """Stored numbers by part of the model, and their sum."""
    model = tree["model"].get("backbone_model", tree["model"])
    names = {"descriptor": "descriptor", "fitting": "fitting-net", "models": "models"}
    parts = {names[key]: model[key] for key in names if key in model}
    counts = {name: sum(array.size for array in flatten(part)[1].values()) for name, part in parts.items()}
    return {**counts, "total": sum(counts.values())}


def tree_lines(tree: Any, name: str = "model", depth: int = 0) -> list[str]:
    """The serialised tree as an indented outline: classes, types and shapes of arrays."""
    pad = "  " * depth
    if isinstance(tree, dict):
        title = " ".join(str(tree[key]) for key in ("@class", "type") if key in tree)
        lines = [f"{pad}{name}: {title}".rstrip(": ")]
        for key, value in tree.items():
            if isinstance(value, (dict, np.ndarray)) or (isinstance(value, list) and any(map(_nested, value))):
                lines += tree_lines(value, key, depth + 1)
        return lines
    if isinstance(tree, list):
        items = [tree_lines(value, f"{name}[{k}]", depth) for k, value in enumerate(tree) if _nested(value)]
        return [line for lines in items for line in lines]
    return [f"{pad}{name}: {tree.dtype} {list(tree.shape)}"]


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, np.ndarray))


def answer(attribute: str, contents: Contents) -> list[str]:
    """The lines for one attribute of the command line."""
    model, section = contents.tree["model"], contents.section
    model = model.get("backbone_model", model)
    if attribute == "model-branch":
        raise InputError("model-branch was asked for, but the model has a single task and therefore no branches")
    if attribute == "type-map":
        return [f"The type_map is {model.get('type_map')}"]
    if attribute == "descriptor":
        return [f"The descriptor parameter is {section.get('descriptor')}"]
    if attribute == "fitting-net":
        return [f"The fitting_net parameter is {section.get('fitting_net')}"]
    if attribute == "size":
        return ["Parameter counts:", *(f"  {name}: {n:,}" for name, n in parameter_counts(contents.tree).items())]
    if attribute == "observed-type":
        observed = (section.get("info") or {}).get("observed_type") or model.get("type_map")
        return [f"Number of observed types: {len(observed)}", f"Observed types: {observed}"]
    return ["Model serialization tree:", *tree_lines(model)]


def main(args: argparse.Namespace) -> None:
    """The command: an overview, then what was asked for by name."""
    tasks = tasks_in(args.INPUT)
    log.info("This is a %s model", "multitask" if tasks else "singletask")
    attributes = list(args.ATTRIBUTES)
    if tasks and "model-branch" in attributes:
        attributes.remove("model-branch")
        log.info("Available model branches are %s, where 'RANDOM' means a new fitting net", [*tasks, "RANDOM"])
    for task in tasks or [None]:
        if task is not None:
            log.info("Branch %s:", task)
        contents = load_contents(args.INPUT, task)
        for line in (*contents.facts, *describe(contents.tree)):
            log.info("%s", line)
        for attribute in attributes:
            for line in answer(attribute, contents):
                log.info("%s", line)


def tasks_in(path: str | Path) -> list[str]:
    """The tasks of a checkpoint that has several; none for any other file."""
    path = find_model(path)
    if path.suffix.lower() != CHECKPOINT:
        return []
    from deepmd.train import checkpoint

    return list(checkpoint.load(path).get("tasks") or [])
