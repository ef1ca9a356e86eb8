"""The dipole fitting: mu_i = o_i E_i with o_i [M] from the network and E_i [M, 3] the descriptor's equivariant output.

Rotating the surroundings rotates E_i, hence mu_i. Source: Zhang et al., Phys. Rev. B 102, 041121 (2020).
"""

from typing import Any

import torch
from torch import Tensor

from deepmd.nn.fitting.network import FittingNetworks, Inputs, inputs_of_tree, section_of_tree


class DipoleFitting(FittingNetworks):
    """Atomic dipoles [n_centers, 3] in the unit of the labels."""

    kind = "dipole"
    width = 3

    def __init__(self, section: dict[str, Any], inputs: Inputs):
        super().__init__(section, inputs, inputs.embedding_width)

    def forward(
        self, descriptor: Tensor, equivariant: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None
    ) -> Tensor:
        """descriptor [n_centers, dim], equivariant [n_centers, M, 3], types_i [n_centers]."""
        weights = self.raw(descriptor, types_i, fparam, aparam).unsqueeze(1)
        tensor = torch.bmm(weights, equivariant.to(torch.float64)).reshape(-1, 3)
        return tensor * self.keep[types_i].unsqueeze(1)

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        return {
            **self.serialize_common(type_map, "dipole", 4),
            "type": "dipole",
            "embedding_width": self.n_out,
            "r_differentiable": True,
            "c_differentiable": True,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "DipoleFitting":
        fitting = cls(section_of_tree(tree), inputs_of_tree(tree, n_types))
        fitting.take_over(tree)
        return fitting
