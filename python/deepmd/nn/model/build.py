"""From a model section of the input, or from a neutral tree, to a torch module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from deepmd.errors import InputError, ModelError
from deepmd.nn.descriptor import build_descriptor
from deepmd.nn.fitting import FITTINGS, Inputs
from deepmd.nn.model.composite import LinearModel, TableSwitchModel
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.model.masked import MaskedEnergyModel
from deepmd.nn.model.pairtab import PairTableModel
from deepmd.nn.model.pairwise import KIND as PAIRWISE
from deepmd.nn.model.pairwise import PARTS, PairwiseModel
from deepmd.nn.model.scalars import DosModel, PropertyModel
from deepmd.nn.model.spin import SpinModel, backbone_section
from deepmd.nn.model.standard import StandardModel
from deepmd.nn.model.tensors import DipoleModel, PolarModel

STANDARD = {
    "energy": EnergyModel,
    "dipole": DipoleModel,
    "polar": PolarModel,
    "dos": DosModel,
    "property": PropertyModel,
}
COMPOSITE = {"zbl": TableSwitchModel, "linear": LinearModel, "linear_ener": LinearModel}
"""By the type in trees."""


def build(section: dict[str, Any]) -> nn.Module:
    """A model with random weights from a normalised `model` section (`sel` resolved to numbers)."""
    model = build_any(section)
    apply_trainable(model)
    return model


def build_any(section: dict[str, Any]) -> nn.Module:
    """A model of any type, parts of composite models included."""
    kind = section.get("type", "standard")
    if kind == "pairtab":
        return PairTableModel.build(section)
    if kind == "frozen":
        return build_frozen(section)
    if kind == "linear_ener":
        parts = [{**part, "type_map": part.get("type_map") or section["type_map"]} for part in section["models"]]
        models = [build_any(part) for part in parts]
        section["models"] = parts  # with the paths that the parts have found
        return LinearModel(section, models, [part.get("type") == "frozen" for part in parts])
    if kind == PAIRWISE:
        for key in PARTS:
            section[key] = {**section[key], "type_map": list(section["type_map"])}
        return PairwiseModel(section, *[build_any(section[key]) for key in PARTS])
    if section.get("spin"):
        return SpinModel(section, build_standard(backbone_section(section)))
    if section.get("use_srtab"):
        network = build_standard(section)
        table = {
            "type": "pairtab",
            "tab_file": section["use_srtab"],
            "rcut": network.facts().rcut,
            "sel": int(sum(network.facts().sel)),
            "type_map": section["type_map"],
        }
        short = PairTableModel.build(table)
        section["use_srtab"] = table["tab_file"]
        return TableSwitchModel(section, [network, short])
    return build_standard(section)


def build_frozen(section: dict[str, Any]) -> nn.Module:
    """The model of a file, with parameters that stay as they are."""
    from deepmd.exchange import load_tree

    section["model_file"] = str(Path(section["model_file"]).resolve())
    model = model_of_tree(load_tree(section["model_file"])["model"], {})
    names = section.get("type_map") or model.type_map
    if list(names) != model.type_map:
        raise InputError(
            f"model/type_map: got {names}, expected {model.type_map}, the types of {section['model_file']}, in their "
            "order"
        )
    model.requires_grad_(False)
    model.section = {**section, "type_map": model.type_map}
    model.descriptors = model.fittings = lambda: []  # nothing to fill, nothing to train
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
    kind = MaskedEnergyModel if fitting.as_mask else STANDARD[fitting.kind]
    return kind(section, descriptor, fitting)


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
    if kind == "pairtab":
        return PairTableModel.deserialize(tree, section)
    if kind in COMPOSITE:
        return COMPOSITE[kind].deserialize(tree, [model_of_tree(part, {}) for part in tree["models"]])
    if kind == "spin_ener":
        return SpinModel.deserialize(tree, model_of_tree(tree["backbone_model"], {}), section)
    if kind == PAIRWISE:
        return PairwiseModel.deserialize(tree, [model_of_tree(part, {}) for part in tree["models"]], section)
    fitting = tree.get("fitting", {}).get("type")
    if kind != "standard":
        known = ", ".join(("standard", "pairtab", PAIRWISE, *COMPOSITE))
        raise ModelError(f"model type: got {kind!r}, expected one of {known}")
    if fitting not in FITTINGS:
        raise ModelError(f"fitting: got {fitting!r}, expected one of {', '.join(FITTINGS)}")
    if tree["fitting"].get("use_aparam_as_mask"):
        return MaskedEnergyModel.deserialize(tree, section)
    return STANDARD[FITTINGS[fitting].kind].deserialize(tree, section)
