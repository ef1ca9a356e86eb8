"""Models of many numbers of an atom that do not turn with the frame: densities of states and properties."""

import torch
from torch import Tensor

from deepmd.nn.model.facts import Facts
from deepmd.nn.model.standard import StandardModel


class DosModel(StandardModel):
    """Atomic densities of states [n_centers, numb_dos]; the frame's is their sum."""

    def atom_output(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic outputs [n_centers, width], bias included."""
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        types_i = types[:n_centers]
        d, _ = self.descriptor(vectors, centers, neighbors, types, n_centers)
        y = self.fitting(d, types_i, fparam, aparam) + self.out_bias[types_i]
        return y * self.atom_keep[types_i].unsqueeze(1)

    def forward(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns atom_dos [n_centers, width]; the arguments are those of the energy model."""
        return {"atom_dos": self.atom_output(vectors, centers, neighbors, types, n_centers, fparam, aparam)}

    @torch.jit.unused
    def facts(self) -> Facts:
        facts = super().facts()
        facts.output = {"name": "dos", "width": self.fitting.width, "reduce": "sum", "derivatives": False}
        return facts


class PropertyModel(StandardModel):
    """Atomic parts [n_centers, task_dim] of a property; the frame's value is their sum, or mean if intensive."""

    def atom_output(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic outputs [n_centers, width]: standardised outputs times the data's spread, and the mean."""
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        types_i = types[:n_centers]
        d, _ = self.descriptor(vectors, centers, neighbors, types, n_centers)
        entry = types_i if self.fitting.distinguish_types else torch.zeros_like(types_i)
        y = self.fitting(d, types_i, fparam, aparam) * self.out_std[entry] + self.out_bias[entry]
        return y * self.atom_keep[types_i].unsqueeze(1)

    def forward(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns atom_property [n_centers, task_dim]; the arguments are those of the energy model."""
        return {"atom_property": self.atom_output(vectors, centers, neighbors, types, n_centers, fparam, aparam)}

    @torch.jit.unused
    def facts(self) -> Facts:
        facts, fitting = super().facts(), self.fitting
        facts.output = {
            "name": fitting.property_name,
            "width": fitting.width,
            "reduce": "mean" if fitting.intensive else "sum",
            "derivatives": False,
        }
        return facts
