"""Weights of one model for another whose type map has grown, shrunk or changed its order.

Possible where the types enter as vectors (descriptors of the type-embedding family): everything that belongs to a type
moves with its name, and types that the old model did not know keep the fresh values of the new one.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from deepmd.errors import ModelError
from deepmd.nn.type_embedding import TypeEmbedding

log = logging.getLogger(__name__)

BY_TYPE = ("davg", "dstd", "bias_atom_e", "out_bias", "out_std", "scale", "constant_matrix")
OF_INPUT = ("keep", "pair_keep", "atom_keep", "vacuum_t", "type_of")
"""Buffers that the new input decides."""


def move_types(source: Any, model: Any, name: str) -> None:
    """Copies the state of `source` into `model` by the names of the types."""
    parts = [*source.descriptors(), *model.descriptors()]
    if not parts or not all(descriptor.mixed_types for descriptor in parts):
        raise ModelError(
            f"{name}: its type_map is {source.type_map}, the input says {model.type_map}; a descriptor with networks "
            "for each type cannot change its types; use the same type_map, or a descriptor with a type embedding"
        )
    known = [(new, source.type_map.index(t)) for new, t in enumerate(model.type_map) if t in source.type_map]
    if not known:
        raise ModelError(f"{name}: none of its types {source.type_map} is in model/type_map {model.type_map}")
    here, there = (torch.tensor(indices) for indices in zip(*known, strict=True))
    averages = [one.davg for part in parts for one in part.environments()]
    if source.type_map[0] != model.type_map[0] and any(bool(davg.any()) for davg in averages):
        log.warning(
            "%s: its averages (davg) are not zero, so that empty slots carry the first type; this was %s and is now "
            "%s, and energies differ somewhat until training has followed",
            name, source.type_map[0], model.type_map[0],
        )  # fmt: skip
    embeddings = {key for key, module in model.named_modules() if isinstance(module, TypeEmbedding)}
    theirs = source.state_dict()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            last = key.rpartition(".")[2]
            if last in OF_INPUT:
                continue
            if key not in theirs:
                raise ModelError(f"{name}: it has no {key}; use the same descriptor and fitting_net as the old model")
            if last in BY_TYPE:
                value[here] = theirs[key][there]
            elif not any(key.startswith(f"{one}.") for one in embeddings):
                _copy(value, theirs[key], key, name)
        for key in embeddings:
            _move_vectors(source.get_submodule(key), model.get_submodule(key), here, there)


def _copy(value: torch.Tensor, other: torch.Tensor, key: str, name: str) -> None:
    if value.shape != other.shape:
        raise ModelError(
            f"{name}: its networks differ from those of the input ({key} is {tuple(other.shape)} there and "
            f"{tuple(value.shape)} here); use the same descriptor and fitting_net, or --use-pretrain-script"
        )
    value.copy_(other)


def _move_vectors(old: TypeEmbedding, new: TypeEmbedding, here: torch.Tensor, there: torch.Tensor) -> None:
    """Sets the weights of one linear layer so that the vectors of known types are the old ones."""
    layer, before = new.network.layers[0], old().detach()
    if layer.has_bias:
        layer.b.copy_(old.network.layers[0].b)
    rest = new().detach() - layer.w  # bias and skip, which the widths may have brought or taken away
    layer.w[here] = before[there] - rest[here]
