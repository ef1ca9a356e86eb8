"""The attention descriptors: se_atten (also dpa1) and se_atten_v2, one network for all types.

se_atten_v2 is se_atten with stripped type embedding and the smooth form throughout.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.nn.attention import serialize_layers
from deepmd.nn.descriptor.atten_block import AttenBlock
from deepmd.nn.rows import Environment
from deepmd.nn.tree import precision_of, write_networks
from deepmd.nn.type_embedding import TypeEmbedding, linear_embedding

TREE_KEYS = ("rcut", "rcut_smth", "sel", "neuron", "axis_neuron", "tebd_dim", "tebd_input_mode", "set_davg_zero",
             "attn", "attn_layer", "attn_dotr", "activation_function", "resnet_dt", "scaling_factor", "normalize",
             "temperature", "trainable_ln", "ln_eps", "smooth_type_embedding", "type_one_side", "concat_output_tebd",
             "use_tebd_bias", "precision", "exclude_types", "env_protection", "trainable")  # fmt: skip


class DescriptorSeAtten(nn.Module):
    """Descriptor [n_centers, neuron[-1] * axis_neuron (+ tebd_dim)]; see the package for the contract."""

    joins_types: Final[bool]
    mixed_types = True
    passes_messages = False
    tree_type = "dpa1"

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__()
        self.section = dict(section)
        self.type_map = list(type_map)
        self.n_types = len(type_map)
        self.block = AttenBlock(section, self.n_types)
        self.type_embedding = linear_embedding(section, type_map)
        self.joins_types = bool(section.get("concat_output_tebd", True))
        self.rcut, self.rcut_smth = self.block.rcut, self.block.rcut_smth
        self.sel = [self.block.n_slots]
        self.dtype = self.block.dtype
        self.dim_rotation = self.block.width
        self.dim_out = self.block.width * self.block.axis + (self.type_embedding.width if self.joins_types else 0)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.type_embedding.randomise(seed)
        self.block.randomise(seed)

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        return [(self.block, lambda: (self.type_embedding(),))]

    @torch.jit.unused
    def environments(self) -> list[Environment]:
        return [self.block]

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, neuron[-1], 3]."""
        table = self.type_embedding()
        d, rotation = self.block(vectors, centers, neighbors, types, n_centers, table)
        if self.joins_types:
            d = torch.cat([d, table[types[:n_centers]]], dim=1)
        return d, rotation

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section, block, options = self.section, self.block, self.block.options
        precision = precision_of(block.network)
        tree = {
            "@class": "Descriptor",
            "type": self.tree_type,
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": self.sel,
            "ntypes": self.n_types,
            "neuron": list(section["neuron"]),
            "axis_neuron": block.axis,
            "tebd_dim": int(section["tebd_dim"]),
            "tebd_input_mode": "strip" if block.strip else "concat",
            "set_davg_zero": block.set_davg_zero,
            "attn": options.hidden,
            "attn_layer": len(block.attention),
            "attn_dotr": options.dotr,
            "attn_mask": False,
            "activation_function": section["activation_function"],
            "resnet_dt": bool(section.get("resnet_dt", False)),
            "scaling_factor": options.scaling_factor,
            "normalize": options.normalize,
            "temperature": options.temperature,
            "trainable_ln": options.trainable_ln,
            "ln_eps": options.ln_eps,
            "smooth_type_embedding": block.smooth,
            "type_one_side": block.one_side,
            "concat_output_tebd": self.joins_types,
            "use_econf_tebd": False,
            "use_tebd_bias": bool(section.get("use_tebd_bias", False)),
            "type_map": self.type_map,
            "precision": precision,
            "embeddings": write_networks([block.network], 0, self.n_types, section),
            "attention_layers": serialize_layers(block.attention, options, precision),
            "env_mat": block.serialize_shape(),
            "type_embedding": self.type_embedding.serialize(),
            "exclude_types": block.exclude_types,
            "env_protection": block.protection,
            "@variables": block.serialize_statistics(),
            "trainable": bool(section.get("trainable", True)),
            "spin": None,
        }
        if block.strip:
            tree["embeddings_strip"] = write_networks([block.type_network], 0, self.n_types, section)
        return tree

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeAtten":
        descriptor = cls({key: tree[key] for key in TREE_KEYS if key in tree}, type_map)
        descriptor.block.load(tree)
        descriptor.type_embedding = TypeEmbedding.deserialize(tree["type_embedding"], type_map)
        return descriptor


class DescriptorSeAttenV2(DescriptorSeAtten):
    """se_atten with stripped, smooth type embedding."""

    tree_type = "se_atten_v2"

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__({**section, "tebd_input_mode": "strip", "smooth_type_embedding": True}, type_map)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        implied = ("tebd_input_mode", "smooth_type_embedding")
        return {key: value for key, value in super().serialize().items() if key not in implied}
