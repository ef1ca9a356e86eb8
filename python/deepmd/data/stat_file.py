"""`training/stat_file`: input statistics and energy bias kept between runs, in one HDF5 file.

An entry belongs to one description of rows, parameters and types; a run that describes them otherwise makes its own.
With several tasks `shared` describes what else an entry depends on: its task, and the tasks that share its parts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import torch

from deepmd.errors import DataError
from deepmd.nn.modifier import modifier_of


def buffers(model: Any) -> dict[str, torch.Tensor]:
    """What is kept, by name."""
    kept = {"out_bias": model.out_bias, "out_std": model.out_std}
    names = [f"{kind}param_{part}" for kind in "fa" for part in ("avg", "inv_std")]
    for k, fitting in enumerate(model.fittings()):
        kept |= {name + _end(k): getattr(fitting, name) for name in names if getattr(fitting, name).numel()}
    for k, environment in enumerate(environments(model)):
        kept |= {"davg" + _end(k): environment.davg, "dstd" + _end(k): environment.dstd}
    return kept


def environments(model: Any) -> list[Any]:
    """All environments of all descriptors of the model."""
    return [environment for descriptor in model.descriptors() for environment in descriptor.environments()]


def _end(k: int) -> str:
    return f"_{k}" if k else ""


def fingerprint(model: Any, shared: Any = None) -> str:
    """Name of the entry: everything that the statistics depend on beside the data."""
    facts = model.facts()
    described: list[Any] = [model.type_map, facts.kind, facts.output, facts.dim_fparam, facts.dim_aparam]
    for e in environments(model):
        described += [e.rcut, e.rcut_smth, e.protection, e.n_slots, e.set_davg_zero, e.keep.tolist(), e.row_width]
    described.append(model.seen_pairs().tolist())
    if modifier_of(model) is not None:  # which changes the energies that the bias is fitted to
        described.append(modifier_of(model).identity())
    if shared is not None:
        described.append(shared)
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def load(path: str | Path, model: Any, shared: Any = None) -> bool:
    """Fills the model from the file; False if the file or the entry does not exist yet."""
    if not Path(path).exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            entry = file.get(fingerprint(model, shared))
            if entry is None:
                return False
            for name, buffer in buffers(model).items():
                buffer.copy_(torch.from_numpy(entry[name][()]))
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path}: cannot read the statistics ({error}); delete the file to have them computed"
        ) from error
    return True


def save(path: str | Path, model: Any, shared: Any = None) -> None:
    """Adds the model's entry to the file, or puts it in the place of the one that is there."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "a") as file:
            name = fingerprint(model, shared)
            if name in file:
                del file[name]
            entry = file.create_group(name)
            for key, buffer in buffers(model).items():
                entry[key] = buffer.numpy()
    except OSError as error:
        raise DataError(f"{path}: cannot write the statistics ({error}); change training/stat_file") from error
