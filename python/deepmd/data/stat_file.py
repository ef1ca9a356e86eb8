"""`training/stat_file`: input statistics and energy bias kept between runs, in one HDF5 file.

An entry belongs to one description of rows, parameters and types; a run that describes them otherwise makes its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import torch

from deepmd.errors import DataError
from deepmd.nn.model.energy import EnergyModel


def buffers(model: EnergyModel) -> dict[str, torch.Tensor]:
    """What is kept, by name."""
    names = [f"{kind}param_{part}" for kind in "fa" for part in ("avg", "inv_std")]
    kept = {name: getattr(model.fitting, name) for name in names if getattr(model.fitting, name).numel()}
    for k, environment in enumerate(model.descriptor.environments()):
        end = f"_{k}" if k else ""
        kept |= {f"davg{end}": environment.davg, f"dstd{end}": environment.dstd}
    return {"out_bias": model.out_bias, **kept}


def fingerprint(model: EnergyModel) -> str:
    """Name of the entry: everything that the statistics depend on beside the data."""
    described: list[Any] = [model.type_map]
    for e in model.descriptor.environments():
        described += [e.rcut, e.rcut_smth, e.protection, e.n_slots, e.set_davg_zero, e.keep.tolist(), e.row_width]
    described += [model.pair_exclude_types, model.fitting.dim_fparam, model.fitting.dim_aparam]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def load(path: str | Path, model: EnergyModel) -> bool:
    """Fills the model from the file; False if the file or the entry does not exist yet."""
    if not Path(path).exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            entry = file.get(fingerprint(model))
            if entry is None:
                return False
            for name, buffer in buffers(model).items():
                buffer.copy_(torch.from_numpy(entry[name][()]))
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path}: cannot read the statistics ({error}); delete the file to have them computed"
        ) from error
    return True


def save(path: str | Path, model: EnergyModel) -> None:
    """Adds the model's entry to the file."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "a") as file:
            entry = file.require_group(fingerprint(model))
            for name, buffer in buffers(model).items():
                entry[name] = buffer.numpy()
    except OSError as error:
        raise DataError(f"{path}: cannot write the statistics ({error}); change training/stat_file") from error
