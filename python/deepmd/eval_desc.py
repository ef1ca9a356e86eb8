"""``dp eval-desc``: the descriptors of all atoms of data systems, one .npy file for each system."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepmd.errors import DataError, InputError

log = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> None:
    """The command: args.output/<name of the system>.npy, [n_frames, n_atoms, dim], zeros for atoms that only pad."""
    from deepmd.infer import DeepEval
    from deepmd.test import find_systems

    model = DeepEval(args.model, head=args.head)
    if not hasattr(model, "eval_descriptor"):
        raise InputError(f"dp eval-desc: {args.model} predicts '{model.kind}', expected a model of energies")
    systems = find_systems(args, model.get_type_map())
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    single = args.dtype == "fp32" or (args.dtype == "native" and model.metadata.get("precision") == "float32")
    for system, name in zip(systems, file_names([system.name for system in systems]), strict=True):
        for key in (key for key in model.extra_inputs if not system.has(key)):
            raise DataError(f"{system.name}: there is no {key}.npy, which the model needs; add the file")
        data = system.frames(keys=model.extra_inputs)
        more = {key: data[key] for key in model.extra_inputs}
        rows = model.eval_descriptor(data["positions"], data["cell"], data["types"], mixed_type=True, **more)
        np.save(folder / name, rows.astype(np.float32 if single else np.float64))
        log.info("%s: %s of shape %s", system.name, folder / name, rows.shape)


def file_names(systems: Sequence[str]) -> list[str]:
    """The last part of each path, with as many of the parts before it as it takes to tell all systems apart."""
    parts = [[part for part in name.replace("#", "/").split("/") if part not in ("", ".", "..")] for name in systems]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["_".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return [f"{name}.npy" for name in names]
    return [f"{'_'.join(one)}.{k}.npy" for k, one in enumerate(parts)]
