"""Small models of dipoles, polarisabilities, densities of states and properties with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from reference.tiny_descriptors import SECTIONS, input_of

FITTINGS: dict[str, dict[str, Any]] = {
    "dipole": {"type": "dipole", "sel_type": [0]},
    "polar": {"type": "polar", "fit_diag": False},
    "dos": {"type": "dos", "numb_dos": 5},
    "property": {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
}


def make_output_model(kind: str, descriptor: str = "se_e2_a", **more: Any) -> torch.nn.Module:
    """A model of one kind; outputs of order one. more: keys of the fitting net."""
    from deepmd.config import normalise
    from deepmd.nn.model import build

    model = input_of(SECTIONS[descriptor])
    section = {
        "type_map": ["O", "H"],
        "descriptor": model["descriptor"],
        "fitting_net": {"neuron": [6, 6], "seed": 3, **FITTINGS[kind], **more},
    }
    loss = {"type": kind} if kind in ("dos", "property") else {"type": "tensor", "pref": 1.0, "pref_atomic": 0.0}
    full = normalise({
        "model": section, "learning_rate": {"start_lr": 0.001}, "loss": loss,
        "training": {"training_data": {"systems": "data"}, "numb_steps": 1},
    })  # fmt: skip
    rng = np.random.default_rng(5)
    built = build(full["model"]).eval()
    with torch.no_grad():
        built.out_bias.copy_(torch.from_numpy(rng.normal(0.0, 1.0, tuple(built.out_bias.shape))))
        for environment in built.descriptor.environments():
            widths = rng.uniform(0.2, 0.5, (2, 2))[:, [0, 1, 1, 1][: environment.row_width]]
            environment.dstd.copy_(torch.from_numpy(widths.copy()))
    return built


def make_spin_model(descriptor: str = "se_e2_a") -> torch.nn.Module:
    """A potential of positions and spins, which atoms of the first type carry."""
    from deepmd.config import normalise
    from deepmd.nn.model import build

    section = {
        "type_map": ["O", "H"],
        "descriptor": input_of(SECTIONS[descriptor])["descriptor"],
        "fitting_net": {"neuron": [6, 6], "seed": 3},
        "spin": {"use_spin": [True, False], "virtual_scale": [0.3]},
    }
    full = normalise({
        "model": section, "learning_rate": {"start_lr": 0.001}, "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": "data"}, "numb_steps": 1},
    })  # fmt: skip
    return build(full["model"]).eval()
