"""se_e2_a over all atoms of an open frame, se_a_mask: rows (1/r, x/r^2, y/r^2, z/r^2), no cutoff, no switch.

Rows are not normalised (davg 0, dstd 1), so that absent atoms add nothing; sums are divided by the total of `sel`.
Which atoms are there says the model, see `deepmd.nn.model.masked`.
"""

from typing import Any

import torch
from torch import Tensor

from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.rows import Environment
from deepmd.nn.tree import read_networks

FAR = 1.0e4  # Angstrom: all atoms of a frame
KEYS = ("sel", "neuron", "axis_neuron", "resnet_dt", "trainable", "type_one_side", "exclude_types",
        "activation_function", "precision")  # fmt: skip


class DescriptorSeAMask(DescriptorSeE2A):
    """Descriptor [n_centers, neuron[-1] * axis_neuron]; see the package for the contract."""

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__({**section, "rcut": FAR, "rcut_smth": FAR - 1.0, "set_davg_zero": True}, type_map)

    def switch_of(self, r: Tensor) -> Tensor:
        """No switch: 1."""
        return torch.ones_like(r)

    @torch.jit.unused
    def environments(self) -> list[Environment]:
        """None: rows stay as they are."""
        return []

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        tree = super().serialize()
        embeddings, names = tree["embeddings"], tree["type_map"]
        kept = {key: tree[key] for key in KEYS}
        return {"@class": "Descriptor", "type": "se_a_mask", "@version": 1, **kept, "embeddings": embeddings,
                "type_map": names}  # fmt: skip

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorSeAMask":
        descriptor = cls({key: tree[key] for key in KEYS}, type_map)
        descriptor.networks = read_networks(tree["embeddings"], len(descriptor.networks))
        return descriptor
