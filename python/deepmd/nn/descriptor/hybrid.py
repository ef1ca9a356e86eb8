"""Several descriptors side by side, hybrid: each takes the pairs within its own cutoff; their outputs are joined."""

from typing import Any

import torch
from torch import Tensor, nn


class DescriptorHybrid(nn.Module):
    """Descriptors of a list, joined along the last axis; see the package for the contract."""

    def __init__(self, section: dict[str, Any], parts: list[nn.Module]):
        super().__init__()
        self.section = dict(section)
        self.parts = nn.ModuleList(parts)
        self.type_map = list(parts[0].type_map)
        self.n_types = len(self.type_map)
        widest = max(parts, key=lambda part: part.rcut)
        self.rcut = float(widest.rcut)
        self.rcut_smth = float(widest.rcut_smth)
        self.cutoffs = [float(part.rcut) for part in parts]
        self.dim_out = sum(part.dim_out for part in parts)
        self.dim_rotation = sum(part.dim_rotation for part in parts)
        self.mixed_types = any(part.mixed_types for part in parts)
        self.passes_messages = any(part.passes_messages for part in parts)
        self.receptive_field = max(float(p.receptive_field if p.passes_messages else p.rcut) for p in parts)
        self.dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
        self.sel = self._total_sel()

    @torch.jit.unused
    def _total_sel(self) -> list[int]:
        if self.mixed_types:
            return [max(sum(part.sel) for part in self.parts)]
        return [max(counts) for counts in zip(*(part.sel for part in self.parts), strict=True)]

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, dim_rotation, 3]."""
        square = (vectors * vectors).sum(dim=1)
        descriptors: list[Tensor] = []
        rotations: list[Tensor] = []
        for k, part in enumerate(self.parts):
            near = torch.nonzero(square < self.cutoffs[k] ** 2).flatten()
            d, rotation = part(vectors[near], centers[near], neighbors[near], types, n_centers)
            descriptors.append(d.to(self.dtype))
            rotations.append(rotation.to(self.dtype))
        return torch.cat(descriptors, dim=1), torch.cat(rotations, dim=1)

    @torch.jit.unused
    def environments(self) -> list[nn.Module]:
        return [environment for part in self.parts for environment in part.environments()]

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        parts = [part.serialize() for part in self.parts]
        return {"@class": "Descriptor", "type": "hybrid", "@version": 1, "list": parts}
