"""The polarisability fitting: alpha_i = scale_t E_i^T P_i E_i with E_i [M, 3] the descriptor's equivariant output.

P_i is diag(o_i) with o_i [M] (`fit_diag`), or the symmetric part of an M x M matrix. `shift_diag` adds a multiple of
the unit matrix: `constant_matrix` here, and the mean diagonal of the labels in the model.
Source: Sommers et al., Phys. Chem. Chem. Phys. 22, 10592 (2020).
"""

from typing import Any, Final

import torch
from torch import Tensor

from deepmd.nn.fitting.network import FittingNetworks, Inputs, as_column, inputs_of_tree, section_of_tree
from deepmd.nn.layers import load_into, to_numpy


class PolarFitting(FittingNetworks):
    """Atomic polarisabilities [n_centers, 9], row-major, in the unit of the labels."""

    fit_diag: Final[bool]
    embedding_width: Final[int]
    kind = "polar"
    width = 9

    def __init__(self, section: dict[str, Any], inputs: Inputs):
        self_width = inputs.embedding_width
        diagonal = bool(section.get("fit_diag", True))
        super().__init__(section, inputs, self_width if diagonal else self_width**2)
        self.fit_diag = diagonal
        self.embedding_width = self_width
        self.shift_diag = bool(section.get("shift_diag", True))
        scale = torch.ones(inputs.n_types, dtype=torch.float64)
        given = section.get("scale", 1.0)
        scale *= torch.as_tensor(1.0 if given is None else given, dtype=torch.float64).reshape(-1)
        self.register_buffer("scale", scale)
        self.register_buffer("constant_matrix", torch.zeros(inputs.n_types, dtype=torch.float64))

    def forward(
        self, descriptor: Tensor, equivariant: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None
    ) -> Tensor:
        """descriptor [n_centers, dim], equivariant [n_centers, M, 3], types_i [n_centers]."""
        e = equivariant.to(torch.float64)
        y = self.raw(descriptor, types_i, fparam, aparam) * self.scale[types_i].unsqueeze(1)
        if self.fit_diag:
            tensor = torch.bmm(e.transpose(1, 2), y.unsqueeze(2) * e)
        else:
            p = y.reshape(-1, self.embedding_width, self.embedding_width)
            tensor = torch.bmm(e.transpose(1, 2), torch.bmm(p, e))
            tensor = 0.5 * (tensor + tensor.transpose(1, 2))  # as if P were symmetric
        tensor = tensor.reshape(-1, 9)
        if self.shift_diag:
            tensor = tensor + self.unit(self.constant_matrix, types_i)
        return tensor * self.keep[types_i].unsqueeze(1)

    def unit(self, size: Tensor, types_i: Tensor) -> Tensor:
        """size_t scale_t times the unit matrix for each atom, [n_centers, 9]; size [n_types]."""
        one = torch.eye(3, dtype=torch.float64, device=size.device).reshape(1, 9)
        return (size * self.scale)[types_i].unsqueeze(1) * one

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        tree = self.serialize_common(type_map, "polar", 5)
        tree["@variables"]["scale"] = as_column(to_numpy(self.scale))
        tree["@variables"]["constant_matrix"] = to_numpy(self.constant_matrix)
        return {
            **tree,
            "type": "polar",
            "embedding_width": self.embedding_width,
            "fit_diag": self.fit_diag,
            "shift_diag": self.shift_diag,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "PolarFitting":
        fitting = cls(section_of_tree(tree, "fit_diag", "shift_diag"), inputs_of_tree(tree, n_types))
        fitting.take_over(tree)
        for name in ("scale", "constant_matrix"):
            if tree["@variables"].get(name) is not None:
                load_into(getattr(fitting, name), tree["@variables"][name])
        return fitting
