"""`dp freeze`: checkpoint -> scripted module, metadata, weights and self-test frames -> one verified file."""

from __future__ import annotations

import copy
import datetime
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd import __version__, model_file
from deepmd.errors import ModelError
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.nn.modifier import modifier_of

log = logging.getLogger(__name__)
SELFTEST_TOLERANCE = {"float64": 1e-8, "float32": 1e-4}  # eV and eV/Angstrom; another machine rounds differently


def main(args: Any) -> None:
    """The command: args.checkpoint (folder or file), args.head (of several tasks), args.output."""
    from deepmd.train.checkpoint import find_checkpoint, load_model

    path = find_checkpoint(getattr(args, "checkpoint", None) or ".")
    model, payload = load_model(path, getattr(args, "head", None))
    asked = getattr(args, "output", None) or "frozen_model"
    output = model_file.frozen_name(asked)
    freeze_model(model, output, training_script=payload.get("input"))
    log.info("frozen %s (step %s) -> %s", path, payload.get("step"), output)
    if getattr(args, "compress", False):
        from deepmd.compress import compress_file, options_of

        compress_file(output, output, options_of(args))
    model_file.answer_to(asked, output)


def freeze_model(model: Any, output: str | Path, training_script: dict[str, Any] | None = None) -> None:
    """Scripts `model`, adds everything that the file needs to prove itself, writes it and opens it again.

    Raises ModelError if the reopened file does not reproduce the model.
    """
    modifier, model.modifier = modifier_of(model), None  # an open file, which is no part of the module
    model, kept = copy.deepcopy(model).cpu().eval(), model
    kept.modifier = modifier
    model.requires_grad_(False)
    facts = model.facts()
    selftest = selftest_frames(model)
    metadata = {
        "format": model_file.FORMAT,
        "format_version": model_file.FORMAT_VERSION,
        "software_version": __version__,
        "kind": facts.kind,
        "output": facts.output or None,
        "type_map": model.type_map,
        "rcut": facts.rcut,
        "rcut_smth": facts.rcut_smth,
        "passes_messages": facts.passes_messages,
        "receptive_field": facts.receptive_field or facts.rcut,
        "sel": facts.sel,
        "dim_fparam": facts.dim_fparam,
        "dim_aparam": facts.dim_aparam,
        "default_fparam": facts.default_fparam,
        "min_pair_distance": model.min_pair_distance,
        "model_def_script": model.section,
        "training_script": training_script,
        "selftest": {"n_frames": N_SELFTEST, "tolerance": SELFTEST_TOLERANCE[facts.precision]},
        "precision": facts.precision,
        "torch_version": torch.__version__,
        "modifier": describe_modifier(modifier, selftest),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    tree = {
        "model": model.serialize(),
        "model_def_script": model.section,
        "backend": "PyTorch",
        "@variables": {} if model.min_pair_distance is None else {"min_nbor_dist": np.array(model.min_pair_distance)},
    }
    with warnings.catch_warnings():  # torch announces the end of TorchScript on every call; the file format pins it
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(model)
        content = None if modifier is None else modifier.content
        model_file.write(output, scripted, model_file.FrozenModel(metadata, tree, selftest, modifier=content))
    prove(output)


def describe_modifier(modifier: Any, selftest: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The numbers of a modifier and what it gives for the periodic one of the self-test frames; None without one."""
    if modifier is None:
        return None
    return {**modifier.section, "selftest": modifier.proof(model_file.frame_of(selftest, 0))}


def prove(path: str | Path) -> None:
    """Opens a frozen file as users will, which re-evaluates the frames in it by each path that the model allows."""
    from deepmd.infer.opening import open_frozen

    for choice in ("script", "auto"):
        model = open_frozen(path, run_selftest=False, path=choice, precision="float64")
        worst = model.selftest()
        log.info("%s: self-test by the path %s: largest difference %.1e", path, model.path_in_use, worst)


N_SELFTEST = 3


def selftest_frames(model: Any) -> dict[str, np.ndarray]:
    """Three random frames with the model's own answers: a skewed cell shorter than the cutoff, an open cluster, a pair.

    Atoms stand on a jittered lattice of 1.6 times a short bond, so that nothing is closer than about 1 Angstrom.
    """
    generator = np.random.default_rng(20260101)
    frames: dict[str, np.ndarray] = {}
    cell = np.array([[4.8, 0.0, 0.0], [1.1, 4.6, 0.0], [-0.7, 0.9, 5.0]])
    lattice = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / 3.0
    shapes = [
        (lattice[::3] @ cell, cell),
        (lattice[1::3] @ cell, None),
        (np.array([[0.0, 0, 0], [0.7, 0.6, 0.5]]), None),
    ]
    open_only = bool(model.facts().output.get("open"))
    for k, (sites, own_cell) in enumerate(shapes):
        frame_cell = None if open_only else own_cell
        positions = sites + generator.normal(0.0, 0.08, size=sites.shape)
        types = np.arange(len(positions)) % model.n_types
        frame = {"positions": positions, "types": types.astype(np.int64)}
        if frame_cell is not None:
            frame["cell"] = frame_cell
        frame.update(selftest_parameters(model, len(types), generator))
        pairs = find_pairs(positions, frame_cell, model.facts().rcut)
        frame.update(evaluate(model, pairs, types, *(frame.get(k) for k in ("fparam", "aparam", "spin"))))
        if not all(np.isfinite(value).all() for value in frame.values()):
            raise ModelError("freeze: the model returns non-finite energies or forces; freeze an earlier checkpoint")
        frames.update({f"{k}.{name}": np.asarray(value) for name, value in frame.items()})
    return frames


def selftest_parameters(model: Any, n_atoms: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Random parameters of the size that the data had: fparam [dim], aparam [n_atoms, dim], spin [n_atoms, 3]."""
    found: dict[str, np.ndarray] = {}
    if model.facts().kind == "masked":
        found["aparam"] = (np.arange(n_atoms) % 4 != 3).astype(np.float64)[:, None]
    if model.facts().kind == "pairwise_dprc":  # quantum atoms, three fragments, absent atoms
        found["aparam"] = np.array([0.0, 1.0, 0.0, 5.0, 1.0, 7.0, -1.0])[np.arange(n_atoms) % 7][:, None]
    if "spin" in model.facts().inputs:
        longest = model.facts().output["reach"] / max(model.facts().output["virtual_scale"])
        found["spin"] = generator.uniform(-0.5, 0.5, size=(n_atoms, 3)) * longest
    for fitting in model.fittings():
        if fitting.dim_fparam and "fparam" not in found:
            spread = generator.normal(size=fitting.dim_fparam)
            found["fparam"] = fitting.fparam_avg.numpy() + spread / fitting.fparam_inv_std.numpy()
        if fitting.dim_aparam and "aparam" not in found:
            spread = generator.normal(size=(n_atoms, fitting.dim_aparam))
            found["aparam"] = fitting.aparam_avg.numpy() + spread / fitting.aparam_inv_std.numpy()
    return found
