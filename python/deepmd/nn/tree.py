"""Networks and layers as entries of the neutral tree, for all descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from deepmd.errors import ModelError
from deepmd.nn.layers import Dense, Network


def precision_of(network: Network) -> str:
    """The name of a network's floating-point type."""
    return "float32" if str(network.dtype) == "torch.float32" else "float64"


def write_network(network: Network, section: dict[str, Any]) -> dict[str, Any]:
    """An embedding network; section: the keys activation_function, resnet_dt and trainable of its owner."""
    first = network.layers[0]
    return {
        "@class": "EmbeddingNetwork",
        "@version": 2,
        "in_dim": first.n_in,
        "neuron": [layer.n_out for layer in network.layers],
        "activation_function": section["activation_function"],
        "resnet_dt": bool(section.get("resnet_dt", False)),
        "bias": first.has_bias,
        "precision": precision_of(network),
        "layers": network.serialize_layers([bool(section.get("trainable", True))] * len(network.layers)),
    }


def write_networks(networks: Iterable[Network], n_dim: int, n_types: int, section: dict[str, Any]) -> dict[str, Any]:
    """A collection of embedding networks: one (n_dim 0), one per type (1) or one per pair of types (2)."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": n_dim,
        "ntypes": n_types,
        "network_type": "embedding_network",
        "networks": [write_network(network, section) for network in networks],
    }


def read_network(tree: dict[str, Any]) -> Network:
    """A network of any kind."""
    return Network([Dense.deserialize(layer) for layer in tree["layers"]])


def read_networks(tree: dict[str, Any], n_networks: int) -> nn.ModuleList:
    """The networks of a collection, in the order of the file."""
    networks = tree["networks"]
    if len(networks) != n_networks:
        raise ModelError(f"descriptor: got {len(networks)} networks, expected {n_networks}")
    return nn.ModuleList([read_network(network) for network in networks])
