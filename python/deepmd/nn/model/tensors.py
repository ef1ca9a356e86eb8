"""Models of atomic tensors, which turn with the frame: dipoles and polarisabilities, with their derivatives."""

import torch
from torch import Tensor, nn

from deepmd.nn.model.facts import Facts
from deepmd.nn.model.standard import StandardModel


class TensorForward(nn.Module):
    """Derivatives of the summed components of `atom_output`, called with the same arguments as `forward`."""

    def components(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Atomic tensors [n_centers, width] and d(sum of component c)/d(vector) [n_pairs, width, 3]."""
        if not vectors.requires_grad:
            vectors = vectors.detach().requires_grad_(True)
        output = self.atom_output(vectors, centers, neighbors, types, n_centers, fparam, aparam)
        gradients: list[Tensor] = []
        for c in range(output.shape[1]):
            gradient: Tensor | None = None
            if output.requires_grad:
                gradient = torch.autograd.grad(
                    [output[:, c].sum()], [vectors], retain_graph=True, create_graph=self.training, allow_unused=True
                )[0]
            gradients.append(torch.zeros_like(vectors) if gradient is None else gradient)
        return output, torch.stack(gradients, dim=1)


class DipoleModel(StandardModel, TensorForward):
    """Atomic dipoles [n_centers, 3]; the frame's is their sum. No bias: the zero of a vector needs no fit."""

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
        """Atomic dipoles [n_centers, 3]."""
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        types_i = types[:n_centers]
        d, equivariant = self.descriptor(vectors, centers, neighbors, types, n_centers)
        return self.fitting(d, equivariant, types_i, fparam, aparam) * self.atom_keep[types_i].unsqueeze(1)

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
        """Returns atom_dipole [n_centers, 3] and pair_gradient [n_pairs, 3, 3]."""
        output, gradient = self.components(vectors, centers, neighbors, types, n_centers, fparam, aparam)
        return {"atom_dipole": output, "pair_gradient": gradient}

    @torch.jit.unused
    def facts(self) -> Facts:
        return tensor_facts(self, super().facts(), "dipole", 3)


class PolarModel(StandardModel, TensorForward):
    """Atomic polarisabilities [n_centers, 9]; the frame's is their sum."""

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
        """Atomic polarisabilities [n_centers, 9], the mean diagonal of the bias included where it is shifted."""
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        types_i = types[:n_centers]
        d, equivariant = self.descriptor(vectors, centers, neighbors, types, n_centers)
        tensor = self.fitting(d, equivariant, types_i, fparam, aparam)
        if self.fitting.shift_diag:
            tensor = tensor + self.fitting.unit(self.out_bias[:, ::4].mean(dim=1), types_i)
        return tensor * self.atom_keep[types_i].unsqueeze(1)

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
        """Returns atom_polar [n_centers, 9] and pair_gradient [n_pairs, 9, 3]."""
        output, gradient = self.components(vectors, centers, neighbors, types, n_centers, fparam, aparam)
        return {"atom_polar": output, "pair_gradient": gradient}

    @torch.jit.unused
    def facts(self) -> Facts:
        return tensor_facts(self, super().facts(), "polar", 9)


def tensor_facts(model: StandardModel, facts: Facts, name: str, width: int) -> Facts:
    """Facts with the description of an atomic tensor."""
    excluded = {*model.atom_exclude_types, *(int(t) for t in torch.nonzero(model.fitting.keep == 0).flatten())}
    selected = [t for t in range(model.n_types) if t not in excluded]
    facts.output = {"name": name, "width": width, "reduce": "sum", "derivatives": True, "sel_type": selected}
    return facts
