"""`dp change-bias`: fits the bias of the types of a trained model to new data, or sets it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd.errors import InputError

log = logging.getLogger(__name__)
BATCH_ATOMS = 1024


def main(args: argparse.Namespace) -> None:
    """The command. INPUT is a checkpoint (.pt) or a frozen model (.pth)."""
    from deepmd.infer.opening import find_model

    source = find_model(args.INPUT)
    if source.suffix not in (".pt", ".pth"):
        raise InputError(f"dp change-bias: got {source}, expected a checkpoint (.pt) or a frozen model (.pth)")
    target = Path(args.output) if args.output else source.with_name(f"{source.stem}_updated{source.suffix}")
    if target.suffix != source.suffix:
        raise InputError(f"dp change-bias: got the output {target}, expected the suffix {source.suffix} of the input")
    model, keep = open_for_change(source, getattr(args, "head", None))
    before = model.out_bias.clone()
    if args.bias_value is not None:
        set_values(model, args.bias_value)
    else:
        fit(model, args)
    rows = (bias.reshape(model.n_types, -1).numpy().round(6).tolist() for bias in (before, model.out_bias))
    for name, old, new in zip(model.type_map, *rows, strict=True):
        log.info("bias of %s: %s -> %s", name, old, new)
    keep(model, target)
    log.info("changed model saved to %s", target)


def open_for_change(path: Path, head: str | None) -> tuple[Any, Any]:
    """The model of a file, and the function (model, path) that writes a changed one in the same form."""
    if path.suffix == ".pt":
        from deepmd.train import checkpoint

        payload = checkpoint.load(path)

        def save(model: Any, target: Path) -> None:
            changed = {"model": model.state_dict()}
            if head:
                changed = {"tasks": {**payload["tasks"], head: {**payload["tasks"][head], **changed}}}
            checkpoint.write(target, {**payload, **changed})

        return checkpoint.model_of(checkpoint.task_of(payload, head, path)), save
    if head:
        raise InputError(f"dp change-bias: got the head '{head}', but a frozen model has one task; leave it out")
    from deepmd import model_file
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    frozen = model_file.read(path)

    def freeze(model: Any, target: Path) -> None:
        freeze_model(model, target, training_script=frozen.metadata.get("training_script"))

    model = deserialize(frozen.tree)
    model.modifier = frozen.open_modifier()
    return model, freeze


def set_values(model: Any, values: list[float]) -> None:
    """Writes given energies (eV), one per type."""
    if model.facts().kind not in ("energy", "spin", "masked", "pairwise_dprc") or len(values) != model.n_types:
        raise InputError(
            f"dp change-bias: --bias-value got {len(values)} numbers, expected {model.n_types} energies for the types "
            f"{' '.join(model.type_map)} of an energy model"
        )
    model.out_bias.copy_(torch.tensor(values, dtype=torch.float64))


def fit(model: Any, args: argparse.Namespace) -> None:
    """Fits the bias to the data that the command line names."""
    from deepmd.data.graph import LABELS, GraphCache
    from deepmd.data.output_bias import change_bias, fit_bias, labels_of, store
    from deepmd.nn.modifier import modifier_of
    from deepmd.test import find_systems
    from deepmd.train.assemble import make_engine

    if not (args.system or args.datafile):
        raise InputError("dp change-bias: got no data, expected -s DIR, -f FILE or -b VALUES")
    names = labels_of(model)
    if names is None:
        raise InputError(f"dp change-bias: got a model that predicts '{model.facts().kind}', which has no bias to fit")
    facts = model.facts()
    systems = find_systems(args, model.type_map)
    for system in systems:
        system.require(
            fills={"fparam": facts.default_fparam} if facts.default_fparam else None, fparam=facts.dim_fparam,
            aparam=facts.dim_aparam, selected=facts.output.get("sel_type"),
        )  # fmt: skip
    labels = [*LABELS, *facts.inputs, *(name for name in names if name)]
    batches = []
    for k, system in enumerate(systems):
        cache = GraphCache([system], facts.rcut, model.seen_pairs(), labels=labels, modifier=modifier_of(model))
        size = max(BATCH_ATOMS // system.n_atoms, 1)
        starts = range(0, system.n_frames, size)
        starts = starts if args.numb_batch == 0 else starts[: args.numb_batch]
        batches += [cache.batch(0, np.arange(b, min(b + size, system.n_frames))) for b in starts]
        log.info("%s: %d batches (system %d of %d)", system.name, len(starts), k + 1, len(systems))
    if args.mode == "set":
        found = fit_bias(model, batches)
        if found is None:
            raise InputError(f"dp change-bias: the data hold no {names[0]}; expected {names[0]}.npy in one system")
        store(model, found.bias)
        return
    engine = make_engine(model)

    def predict(batch: Any) -> np.ndarray:
        prediction = engine(batch, with_forces=False, create_graph=False)
        return (prediction.energy if hasattr(prediction, "energy") else prediction.total).detach().numpy()

    change_bias(model, batches, predict)
