"""Type embedding: a short vector for each type, which lets one network serve all types.

    A_t = act(x_t W + b) (+ x_t, or [x_t, x_t], where the widths allow it),   x_t the unit vector of type t
"""

from typing import Any

import torch
from torch import Tensor, nn

from deepmd.nn.layers import PRECISIONS, Network, embedding_network, stream
from deepmd.nn.tree import precision_of, read_network, write_network


class TypeEmbedding(nn.Module):
    """Vectors of all types [n_types, width]."""

    def __init__(self, section: dict[str, Any], type_map: list[str], network: Network):
        super().__init__()
        self.section = dict(section)
        self.type_map = list(type_map)
        self.network = network
        self.width = network.layers[-1].n_out
        self.register_buffer("inputs", torch.eye(len(type_map), dtype=network.dtype), persistent=False)

    def forward(self) -> Tensor:
        return self.network(self.inputs)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.network.randomise(stream(seed, "types", 0))

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        return {
            "@class": "TypeEmbedNet",
            "@version": 2,
            "ntypes": len(self.type_map),
            "neuron": [layer.n_out for layer in self.network.layers],
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "precision": precision_of(self.network),
            "activation_function": section["activation_function"],
            "trainable": bool(section.get("trainable", True)),
            "padding": True,
            "use_econf_tebd": False,
            "use_tebd_bias": self.network.layers[0].has_bias,
            "type_map": self.type_map,
            "embedding": write_network(self.network, section),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "TypeEmbedding":
        section = {key: tree[key] for key in ("resnet_dt", "activation_function", "trainable") if key in tree}
        return cls(section, type_map, read_network(tree["embedding"]))


def linear_embedding(section: dict[str, Any], type_map: list[str]) -> TypeEmbedding:
    """The embedding of se_atten and its relatives: one linear layer of width `tebd_dim`."""
    dtype = PRECISIONS[section.get("precision", "default")]
    bias = bool(section.get("use_tebd_bias", False))
    network = embedding_network([int(section["tebd_dim"])], "Linear", False, dtype, len(type_map), bias)
    own = {"activation_function": "Linear", "trainable": bool(section.get("trainable", True))}
    return TypeEmbedding(own, type_map, network)


def pair_vectors(table: Tensor, one_side: bool) -> Tensor:
    """[A_neighbour, A_centre] of all couples of types, row centre * n_types + neighbour; or A_neighbour alone."""
    if one_side:
        return table
    n_types = table.shape[0]
    neighbor = table.unsqueeze(0).expand(n_types, n_types, table.shape[1])
    center = table.unsqueeze(1).expand(n_types, n_types, table.shape[1])
    return torch.cat([neighbor, center], dim=2).reshape(n_types * n_types, 2 * table.shape[1])

