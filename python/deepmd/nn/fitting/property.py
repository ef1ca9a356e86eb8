"""The fitting of any property of a frame that is the sum (extensive) or the mean (intensive) of atomic parts."""

from typing import Any

from torch import Tensor

from deepmd.nn.fitting.network import FittingNetworks, Inputs, inputs_of_tree, section_of_tree


class PropertyFitting(FittingNetworks):
    """Atomic parts [n_centers, task_dim], standardised: the model multiplies by the data's spread and adds the mean."""

    kind = "property"

    def __init__(self, section: dict[str, Any], inputs: Inputs):
        super().__init__(section, inputs, int(section.get("task_dim", 1)))
        self.property_name = str(section["property_name"])
        self.intensive = bool(section.get("intensive", False))
        self.distinguish_types = bool(section.get("distinguish_types", True))

    @property
    def width(self) -> int:
        return self.n_out

    def forward(self, descriptor: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """descriptor [n_centers, dim], types_i [n_centers], fparam and aparam [n_centers, dim] or None."""
        return self.raw(descriptor, types_i, fparam, aparam) * self.keep[types_i].unsqueeze(1)

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        return {
            **self.serialize_common(type_map, self.property_name, 6),
            "type": "property",
            "dim_out": self.n_out,
            "atom_ener": None,
            "task_dim": self.n_out,
            "intensive": self.intensive,
            "distinguish_types": self.distinguish_types,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "PropertyFitting":
        section = section_of_tree(tree, "task_dim", "intensive")
        section["property_name"] = tree["var_name"]
        section["distinguish_types"] = tree.get("distinguish_types", False)  # versions before the key had one bias
        fitting = cls(section, inputs_of_tree(tree, n_types))
        fitting.take_over(tree)
        return fitting
