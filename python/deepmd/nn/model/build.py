"""From a model section of the input, or from a neutral tree, to a torch module."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from deepmd.errors import InputError, ModelError
from deepmd.nn.descriptor import build_descriptor
from deepmd.nn.fitting import FITTINGS, Inputs
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.model.scalars import DosModel, PropertyModel
from deepmd.nn.model.standard import StandardModel
from deepmd.nn.model.tensors import DipoleModel, PolarModel

STANDARD = {
    "energy": EnergyModel,
    "dipole": DipoleModel,
    "polar": PolarModel,
    "dos": DosModel,
    "property": PropertyModel,
}


def build(section: dict[str, Any]) -> nn.Module:
    """A model with random weights from a normalised `model` section (`sel` resolved to numbers)."""
    model = build_standard(section)
    apply_trainable(model)
    return model


def build_standard(section: dict[str, Any]) -> StandardModel:
    """Descriptor and fitting."""
    n_types = len(section["type_map"])
    fit = section["fitting_net"].get("type", "ener")
    if fit not in FITTINGS:
        raise InputError(f"model/fitting_net/type: got {fit!r}, expected one of {', '.join(FITTINGS)}")
    descriptor = build_descriptor(section["descriptor"], section["type_map"])
    fitting = FITTINGS[fit](fitting_section(section, n_types), inputs_of(descriptor, n_types))
    fitting.randomise(section["fitting_net"].get("seed"))
    return STANDARD[fitting.kind](section, descriptor, fitting)


def inputs_of(descriptor: nn.Module, n_types: int) -> Inputs:
    """What the fitting has to know of a descriptor."""
    return Inputs(n_types, descriptor.dim_out, descriptor.mixed_types, descriptor.dim_rotation)


def fitting_section(section: dict[str, Any], n_types: int) -> dict[str, Any]:
    """The fitting's section, with selected types written as the excluded others."""
    fitting = dict(section["fitting_net"])
    selected = fitting.get("sel_type")
    if selected is not None:
        fitting["exclude_types"] = [t for t in range(n_types) if t not in selected]
    return fitting


def apply_trainable(model: nn.Module) -> None:
    """Freezes the parameters whose `trainable` flag is off."""
    for descriptor in model.descriptors():
        if not descriptor.section.get("trainable", True):
            descriptor.requires_grad_(False)
    for fitting in model.fittings():
        for network in fitting.networks:
            for layer, flag in zip(network.layers, fitting.trainable(), strict=True):
                layer.requires_grad_(flag)


def deserialize(tree: dict[str, Any]) -> nn.Module:
    """A model from a neutral tree: either the whole file's (with key `model`) or the model's own."""
    whole = tree if "model" in tree else {"model": tree}
    section = whole.get("model_def_script") or {}
    model = model_of_tree(whole["model"], section if isinstance(section, dict) else {})
    distance = (whole.get("@variables") or {}).get("min_nbor_dist")
    model.min_pair_distance = None if distance is None else float(np.ravel(distance)[0])
    apply_trainable(model)
    return model


def model_of_tree(tree: dict[str, Any], section: dict[str, Any]) -> nn.Module:
    """A model from its own tree, parts of composite models included."""
    kind = tree.get("type")
    fitting = tree.get("fitting", {}).get("type")
    if kind != "standard":
        raise ModelError(f"model type: got {kind!r}, expected 'standard', the only kind that this version runs")
    if fitting not in FITTINGS:
        raise ModelError(f"fitting: got {fitting!r}, expected one of {', '.join(FITTINGS)}")
    return STANDARD[FITTINGS[fitting].kind].deserialize(tree, section)
