"""The energy fitting: one atomic energy (eV) from descriptor and parameters.

`atom_ener` marks the types whose vacuum term is removed: the output of the same network for a zero descriptor and the
actual parameters is subtracted. The number itself is no bias; `preset_out_bias` is for that.
"""

from typing import Any

from torch import Tensor

from deepmd.nn.fitting.network import FittingNetworks, Inputs, inputs_of_tree, section_of_tree


class EnergyFitting(FittingNetworks):
    """Atomic energies [n_centers] in eV from descriptors [n_centers, dim_descriptor]."""

    kind = "energy"

    def __init__(self, section: dict[str, Any], inputs: Inputs):
        super().__init__(section, inputs, 1)

    def forward(self, descriptor: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """descriptor [n_centers, dim], types_i [n_centers], fparam and aparam [n_centers, dim] or None."""
        return self.raw(descriptor, types_i, fparam, aparam).flatten() * self.keep[types_i]

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        tree = self.serialize_common(type_map, "energy", 4)
        return {**tree, "type": "ener", "dim_out": 1, "atom_ener": self.section.get("atom_ener") or None}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "EnergyFitting":
        fitting = cls(section_of_tree(tree), inputs_of_tree(tree, n_types))
        fitting.take_over(tree)
        return fitting
