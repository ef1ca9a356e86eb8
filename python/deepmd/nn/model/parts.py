"""Exclusions and output bias, which every model has, as buffers and as entries of the neutral tree."""

from typing import Any

import torch
from torch import nn

from deepmd.nn.layers import load_into, to_numpy


def register_common(model: nn.Module) -> None:
    """Buffers pair_keep [n_types, n_types], atom_keep, out_bias and out_std [n_types] of an energy model."""
    n_types, section = len(model.type_map), model.section
    pair_keep = torch.ones(n_types, n_types, dtype=torch.bool)
    for a, b in section.get("pair_exclude_types") or []:
        pair_keep[a, b] = pair_keep[b, a] = False
    atom_keep = torch.ones(n_types, dtype=torch.float64)
    for t in section.get("atom_exclude_types") or []:
        atom_keep[t] = 0.0
    model.register_buffer("pair_keep", pair_keep)
    model.register_buffer("atom_keep", atom_keep)
    model.register_buffer("out_bias", torch.zeros(n_types, dtype=torch.float64))
    model.register_buffer("out_std", torch.ones(n_types, dtype=torch.float64))


def common_tree(model: nn.Module) -> dict[str, Any]:
    """The keys that stand first in every model's tree."""
    section = model.section
    return {
        "type_map": list(model.type_map),
        "atom_exclude_types": list(section.get("atom_exclude_types") or []),
        "pair_exclude_types": [list(pair) for pair in section.get("pair_exclude_types") or []],
        "rcond": section.get("rcond"),
        "preset_out_bias": section.get("preset_out_bias"),
        "@variables": {
            "out_bias": to_numpy(model.out_bias).reshape(1, -1, 1),
            "out_std": to_numpy(model.out_std).reshape(1, -1, 1),
        },
        "@class": "Model",
        "@version": 2,
    }


def load_common(model: nn.Module, tree: dict[str, Any]) -> None:
    """Takes bias and spread of a tree."""
    load_into(model.out_bias, tree["@variables"]["out_bias"])
    load_into(model.out_std, tree["@variables"]["out_std"])
