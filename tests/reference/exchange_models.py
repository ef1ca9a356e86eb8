"""Small models of every kind that our files can hold: what is given to the peer to read (peer_reads_us.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference.tiny_descriptors import ATTENTION, REPFLOW, REPFORMER, REPINIT, SECTIONS
from reference.tiny_models import Frame, make_frames

SMALL = {"neuron": [3, 6], "seed": 7}
PLAIN = {**SMALL, "type": "se_e2_a", "sel": [30, 40], "rcut": 4.0, "axis_neuron": 3}
# One descriptor of each sort for fittings other than the energy; those without directions serve scalars only.
SCALAR = {
    "se_e2_a": PLAIN,
    "se_e2_r": {**SMALL, "type": "se_e2_r", "sel": [30, 40], "rcut": 4.0},
    "se_e3": {**SMALL, "type": "se_e3", "sel": [18, 20], "rcut": 3.0},
    "se_e3_tebd": {**SMALL, "type": "se_e3_tebd", "sel": 30, "rcut": 3.0, "tebd_dim": 4},
    "se_atten": {**ATTENTION, **SMALL, "attn_layer": 1, "smooth_type_embedding": True},
    "se_atten_v2": {**ATTENTION, **SMALL, "type": "se_atten_v2", "attn_layer": 0},
    "dpa2": {"type": "dpa2", "seed": 7, "repinit": {**REPINIT, "neuron": [3, 3]},
             "repformer": {**REPFORMER, "nlayers": 1}},
    "dpa3": {"type": "dpa3", "seed": 7, "repflow": {**REPFLOW, "nlayers": 1}},
    "hybrid": {"type": "hybrid", "list": [PLAIN, {**ATTENTION, **SMALL, "attn_layer": 0, "neuron": [2, 4]}]},
}  # fmt: skip
DIRECTED = ("se_e2_a", "se_atten", "se_atten_v2", "dpa2", "dpa3", "hybrid")
FITTINGS: dict[str, dict[str, Any]] = {
    "dipole": {"type": "dipole"},
    "polar": {"type": "polar", "fit_diag": False, "scale": [0.5, 2.0]},
    "polar, diagonal": {"type": "polar", "shift_diag": False, "resnet_dt": False},
    "dos": {"type": "dos", "numb_dos": 5},
    "property, extensive": {"type": "property", "property_name": "gap", "task_dim": 2},
    "property, intensive": {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
}
OURS_ALONE = ("se_a_tpe", "loc_frame", "se_a_mask")  # of TensorFlow versions; DeePMD-kit 3 has no tree for them
SPIN = {"use_spin": [True, False], "virtual_scale": [0.3]}
WITH_SPINS = {  # virtual atoms need room beside the real ones
    **SCALAR,
    "se_atten": {**SCALAR["se_atten"], "sel": 150},
    "dpa2": {"type": "dpa2", "seed": 7, "repinit": {**REPINIT, "neuron": [3, 3], "nsel": 150},
             "repformer": {**REPFORMER, "nlayers": 1, "nsel": 80}},
}  # fmt: skip
# Options of energy models: the fitting's keys, and the model's under "model".
OPTIONS: dict[str, dict[str, Any]] = {
    "fparam and aparam": {"numb_fparam": 2, "numb_aparam": 1, "default_fparam": [0.3, -0.2]},
    "vacuum of one type": {"atom_ener": [None, 0.5]},
    "float32": {"precision": "float32", "model": {"descriptor": {**PLAIN, "precision": "float32"}}},
    "excluded centres": {"model": {"atom_exclude_types": [1]}},
    "excluded pairs": {"model": {"pair_exclude_types": [[0, 1]]}},
    "no time step": {"resnet_dt": False, "activation_function": "gelu", "trainable": [True, False, True]},
}
ACTIVATIONS = ("gelu", "gelu_tf", "relu", "relu6", "softplus", "sigmoid", "silu", "silut", "silut:1.5", "linear")
TABLE = np.arange(1, 301) * 0.01


def section_of(descriptor: dict[str, Any], fitting: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A `model` section with all defaults filled in."""
    from deepmd.config import normalise

    model = {"type_map": ["O", "H"], "descriptor": copy.deepcopy(descriptor),
             "fitting_net": {"neuron": [6, 6], "seed": 3, **fitting}, **copy.deepcopy(more)}  # fmt: skip
    kind = "ener_spin" if "spin" in more else fitting.get("type", "ener")
    loss = {"dipole": "tensor", "polar": "tensor"}.get(kind, kind)
    prefactors = {"pref": 1.0, "pref_atomic": 1.0} if loss == "tensor" else {}
    training = {"training_data": {"systems": "data"}, "numb_steps": 1}
    full = {"model": model, "learning_rate": {"start_lr": 0.001}, "loss": {"type": loss, **prefactors}}
    return normalise({**full, "training": training})["model"]


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Biases, statistics and standardisation that are far from trivial."""
    rng = np.random.default_rng(5)
    with torch.no_grad():
        model.out_bias.copy_(torch.from_numpy(rng.normal(-3.0, 1.0, tuple(model.out_bias.shape))))
        if model.facts().kind == "property":
            model.out_std.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, tuple(model.out_std.shape))))
        for descriptor in model.descriptors():
            for environment in descriptor.environments():
                n = len(environment.davg)
                if not environment.set_davg_zero:
                    environment.davg[:, 0] = torch.from_numpy(rng.uniform(0.05, 0.3, n))
                widths = rng.uniform(0.2, 0.5, (n, 2))[:, [0, 1, 1, 1][: environment.row_width]]
                environment.dstd.copy_(torch.from_numpy(widths.copy()))
        for fitting in model.fittings():
            for name in ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"):
                buffer = getattr(fitting, name)
                buffer.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, tuple(buffer.shape))))
    return model.eval()


def network(descriptor: dict[str, Any], fitting: dict[str, Any], more: dict[str, Any] | None = None) -> torch.nn.Module:
    """A standard model."""
    from deepmd.nn.model import build

    return randomise(build(section_of(descriptor, fitting, more or {})))


def composite(kind: str, folder: Path) -> torch.nn.Module:
    """A table alone, a network with a table, or a weighted sum."""
    from deepmd.nn.model import build

    columns = [a * np.exp(-TABLE / b) for a, b in ((30.0, 0.4), (20.0, 0.5), (9.0, 0.6))]
    path = folder / "table.txt"
    np.savetxt(path, np.column_stack([TABLE, *columns])[9::10])
    table = {"type": "pairtab", "tab_file": str(path), "rcut": 4.0, "sel": 70}
    mixed = SCALAR["se_atten"]  # the peer's sums take descriptors with one net for all types alone
    part = section_of(mixed, {}, {})
    if kind == "pairtab":
        return randomise(build({**table, "type_map": ["O", "H"]}))
    if kind == "zbl":
        switch = {"use_srtab": str(path), "sw_rmin": 0.9, "sw_rmax": 2.2, "smin_alpha": 0.3}
        return randomise(build({**part, **switch}))
    other = section_of({**mixed, "seed": 9}, {"seed": 8}, {})
    weights = {"mean": "mean", "sum": "sum", "weights": [0.3, 2.0]}[kind]
    models = [part, {**table} if kind == "weights" else other]
    return randomise(build({"type": "linear_ener", "type_map": ["O", "H"], "models": models, "weights": weights}))


def catalogue() -> dict[str, Callable[[Path], torch.nn.Module]]:
    """What to write, by name; the argument is a folder for tables."""
    models: dict[str, Callable[[Path], torch.nn.Module]] = {}
    for name, descriptor in SECTIONS.items():
        if descriptor["type"] in OURS_ALONE:
            continue
        models[f"ener: {name}"] = lambda _, d=descriptor: network(d, {})
    for name, options in OPTIONS.items():
        more = dict(options.get("model", {}))
        fitting = {key: value for key, value in options.items() if key != "model"}
        models[f"ener: {name}"] = lambda _, f=fitting, m=more: network(m.pop("descriptor", PLAIN), f, m)
    for name in ACTIVATIONS:
        both = {"activation_function": name}
        models[f"ener: {name}"] = lambda _, b=both: network({**PLAIN, **b}, b)
    for fit, fitting in FITTINGS.items():
        for name in DIRECTED if fit.startswith(("dipole", "polar")) else SCALAR:
            models[f"{fit}: {name}"] = lambda _, d=SCALAR[name], f=fitting: network(d, f)
    for name in ("se_e2_a", "se_e3", "se_atten", "dpa2"):
        models[f"spin: {name}"] = lambda _, d=WITH_SPINS[name]: network(d, {}, {"spin": SPIN})
    for kind in ("pairtab", "zbl", "mean", "sum", "weights"):
        models[f"composite: {kind}"] = lambda folder, k=kind: composite(k, folder)
    return models


def exchange_frames(model: torch.nn.Module) -> dict[str, Frame]:
    """Frames whose first atom has type 0 (the peer fills empty slots with the first atom's type), with parameters."""
    rng, found, facts = np.random.default_rng(3), {}, model.facts()
    for name, shape in (("skewed", "skewed"), ("small", "smaller than the cutoff"), ("open", "molecule"),
                        ("outside", "outside the cell")):  # fmt: skip
        frame = make_frames(seed=11)[shape]
        frame.types[0] = 0
        if any(one.passes_messages for one in model.descriptors()) and frame.cell is not None:
            inside = frame.positions @ np.linalg.inv(frame.cell)  # atomic virials depend on images there
            frame.positions = (inside - np.floor(inside)) @ frame.cell
        frame.fparam = rng.normal(size=facts.dim_fparam) if facts.dim_fparam else None
        frame.aparam = rng.normal(size=(len(frame.types), facts.dim_aparam)) if facts.dim_aparam else None
        if facts.kind == "spin":
            frame.spin = rng.normal(0.0, 0.4, (len(frame.types), 3)) * (frame.types == 0)[:, None]
        found[name] = frame
    return found


def as_arrays(frame: Frame) -> dict[str, np.ndarray]:
    """A frame under the names of tests/data/peer."""
    given = {"coord": frame.positions.reshape(-1), "atype": frame.types, "fparam": frame.fparam, "aparam": frame.aparam}
    given["spin"] = getattr(frame, "spin", None)
    given["cell"] = None if frame.cell is None else np.asarray(frame.cell, dtype=float).reshape(9)
    return {key: np.asarray(value) for key, value in given.items() if value is not None}
