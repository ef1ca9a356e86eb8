"""From a model section of the input, or from a neutral tree, to a torch module."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError, ModelError
from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.fitting.energy import EnergyFitting
from deepmd.nn.model.energy import EnergyModel

DESCRIPTORS = {"se_e2_a": DescriptorSeE2A, "se_a": DescriptorSeE2A}
FITTINGS = {"ener": EnergyFitting}


def build(section: dict[str, Any]) -> EnergyModel:
    """A model with random weights from a normalised `model` section (`sel` resolved to numbers)."""
    type_map = section["type_map"]
    kind, fit = section["descriptor"]["type"], section["fitting_net"].get("type", "ener")
    if kind not in DESCRIPTORS:
        raise InputError(f"model/descriptor/type: got {kind!r}, expected one of {', '.join(DESCRIPTORS)}")
    if fit not in FITTINGS:
        raise InputError(f"model/fitting_net/type: got {fit!r}, expected one of {', '.join(FITTINGS)}")
    descriptor = DESCRIPTORS[kind](section["descriptor"], len(type_map))
    descriptor.randomise(section["descriptor"].get("seed"))
    fitting = FITTINGS[fit](section["fitting_net"], len(type_map), descriptor.dim_out)
    fitting.randomise(section["fitting_net"].get("seed"))
    model = EnergyModel(section, descriptor, fitting)
    apply_trainable(model)
    return model


def apply_trainable(model: EnergyModel) -> None:
    """Freezes the parameters whose `trainable` flag is off."""
    if not model.descriptor.section.get("trainable", True):
        model.descriptor.requires_grad_(False)
    for network in model.fitting.networks:
        for layer, flag in zip(network.layers, model.fitting.trainable(), strict=True):
            layer.requires_grad_(flag)


def deserialize(tree: dict[str, Any]) -> EnergyModel:
    """A model from a neutral tree: either the whole file's (with key `model`) or the model's own."""
    whole = tree if "model" in tree else {"model": tree}
    model_tree = whole["model"]
    kind = model_tree.get("type")
    descriptor = model_tree.get("descriptor", {}).get("type")
    fitting = model_tree.get("fitting", {}).get("type")
    if kind != "standard":
        raise ModelError(f"model type: got {kind!r}, expected 'standard', the only kind that this version runs")
    if descriptor not in DESCRIPTORS:
        raise ModelError(f"descriptor: got {descriptor!r}, expected one of {', '.join(DESCRIPTORS)}")
    if fitting not in FITTINGS:
        raise ModelError(f"fitting: got {fitting!r}, expected one of {', '.join(FITTINGS)}")
    section = whole.get("model_def_script") or {}
    if not isinstance(section, dict):
        section = {}
    model = EnergyModel.deserialize(model_tree, section)
    distance = (whole.get("@variables") or {}).get("min_nbor_dist")
    model.min_pair_distance = None if distance is None else float(np.ravel(distance)[0])
    apply_trainable(model)
    return model
