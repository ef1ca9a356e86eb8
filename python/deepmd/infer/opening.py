"""From the name of a model file to an open model, whatever stage the model is in."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from deepmd.errors import ModelError
from deepmd.exchange import TREE_SUFFIXES, check_supported, load_tree, read_tree

log = logging.getLogger(__name__)

FROZEN = ".pth"
CHECKPOINT = ".pt"
KNOWN = (FROZEN, CHECKPOINT, ".pb", *TREE_SUFFIXES)


def find_model(path: str | os.PathLike) -> Path:
    """The file that a model name stands for; a name without a known suffix gets ``.pth``."""
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path}: got a folder, expected a model file, such as graph.pth or model.ckpt.pt in it")
    if path.suffix.lower() not in KNOWN and not path.is_file():
        path = path.with_name(path.name + FROZEN)
    if path.suffix == ".pb" and not path.exists():
        path = path.with_suffix(FROZEN)  # inputs of TensorFlow times call it graph.pb, see model_file.answer_to
    if path.suffix == ".pb" and path.is_symlink():
        path = path.resolve()
    if not path.is_file():
        raise ModelError(f"{path}: the model file does not exist; dp freeze -o {path.stem}{FROZEN} writes one")
    return path


OUTPUT_KINDS = ("dipole", "polar", "dos", "property")
"""Kinds for which the compiled core has `evaluate_output`."""
SCRIPTED_KINDS = ("spin", "masked", "pairwise_dprc")
"""Kinds of potentials that run by their script in Python."""
CORE_KINDS = ("energy", *OUTPUT_KINDS)
"""Kinds that the compiled core evaluates; the others run through their scripted module in this process."""


def open_frozen(file: str | os.PathLike, run_selftest: bool = True, **choice: str | None) -> Any:
    """An open frozen file: by the core where it knows the kind of the model, by its scripted module elsewhere.

    choice: path and precision, as `DeepEval` explains them.
    """
    from deepmd import model_file

    frozen = model_file.read(file)
    kind = frozen.metadata["kind"]
    if frozen.modifier is not None:
        from deepmd.infer.modified import ModifiedModel

        return ModifiedModel(file, frozen, run_selftest, **choice)
    if kind == "spin":
        from deepmd.infer.scripted_spin import ScriptedSpin

        return ScriptedSpin(file, run_selftest, **choice)
    if kind == "pairwise_dprc":
        from deepmd.infer.scripted_fragments import ScriptedFragments

        return ScriptedFragments(file, run_selftest, **choice)
    if kind == "masked":
        from deepmd.infer.scripted_open import ScriptedOpen

        return ScriptedOpen(file, run_selftest, **choice)
    if kind not in CORE_KINDS:
        from deepmd.infer.scripted import ScriptedModel

        return ScriptedModel(file, run_selftest, **choice)
    from deepmd.core import Model

    return Model(str(file), run_selftest=run_selftest, **choice)


def open_model(file: str | os.PathLike, head: str | None = None, **choice: str | None) -> Any:
    """An open model as `open_frozen` gives it. Checkpoints and .dp/.yaml files are frozen into a temporary file first.

    head: the branch of a multi-task checkpoint. choice: path and precision, as `DeepEval` explains them.
    """
    path = find_model(file)
    if not needs_freezing(path):
        if head is not None:
            raise ModelError(f"{path}: got the branch '{head}', but a frozen model has one branch; leave it out")
        return open_frozen(path, **choice)
    with tempfile.TemporaryDirectory(prefix="deepmd-") as folder:
        frozen = Path(folder) / "frozen.pth"
        freeze_temporarily(path, frozen, head)
        log.info("%s is not a frozen model; evaluated through a temporary one", path)
        return open_frozen(frozen, run_selftest=False, **choice)  # freezing has just proved it


def needs_freezing(path: Path) -> bool:
    """Whether a file is a checkpoint or a neutral tree; anything else has to be a frozen model."""
    return path.suffix.lower() in (CHECKPOINT, *TREE_SUFFIXES)


def freeze_temporarily(source: Path, frozen: Path, head: str | None) -> None:
    """Writes a frozen model from a checkpoint or a neutral tree."""
    from deepmd.freeze import freeze_model

    freeze_model(trained_model(source, head), frozen)


def trained_model(source: Path, head: str | None = None) -> Any:
    """The torch model of a checkpoint or a neutral tree."""
    from deepmd.foreign_checkpoint import is_foreign

    if source.suffix.lower() == CHECKPOINT and not is_foreign(source):
        from deepmd.train.checkpoint import load_model

        return load_model(source, head)[0]
    from deepmd.nn.model import deserialize

    tree = load_tree(source, head) if source.suffix.lower() == CHECKPOINT else read_tree(source)
    check_supported(tree)
    return deserialize(tree)
