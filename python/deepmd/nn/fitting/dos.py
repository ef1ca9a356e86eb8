"""The fitting of a density of states: `numb_dos` values on an energy grid for each atom; their sum is the frame's."""

from typing import Any

from torch import Tensor

from deepmd.nn.fitting.network import FittingNetworks, Inputs, inputs_of_tree, section_of_tree


class DosFitting(FittingNetworks):
    """Atomic densities of states [n_centers, numb_dos] from descriptors [n_centers, dim_descriptor]."""

    kind = "dos"

    def __init__(self, section: dict[str, Any], inputs: Inputs):
        super().__init__(section, inputs, int(section.get("numb_dos", 300)))

    @property
    def width(self) -> int:
        return self.n_out

    def forward(self, descriptor: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """descriptor [n_centers, dim], types_i [n_centers], fparam and aparam [n_centers, dim] or None."""
        return self.raw(descriptor, types_i, fparam, aparam) * self.keep[types_i].unsqueeze(1)

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        tree = self.serialize_common(type_map, "dos", 4)
        return {**tree, "type": "dos", "dim_out": self.n_out, "atom_ener": None}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "DosFitting":
        section = {**section_of_tree(tree), "numb_dos": tree["dim_out"]}
        fitting = cls(section, inputs_of_tree(tree, n_types))
        fitting.take_over(tree)
        return fitting
