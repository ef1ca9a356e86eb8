"""What the peer predicted, and its rule for atoms that have more neighbours than `sel`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "data" / "peer"
QUANTITIES = {"energy": "energy", "force": "forces", "virial": "virial", "atom_energy": "atom_energy"}


DROPPED: list[int] = []
"""How many pairs each call of `kept` left out."""
TIES: list[int] = []
"""Atoms for which the farthest kept and the nearest dropped neighbour have one distance: the peer's choice is open."""


def frames(name: str, folder: Path = FOLDER) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """(frame and number, types [n], quantities) of a golden, or of such a file elsewhere."""
    data = np.load(folder / f"{name}.npz")
    for frame in dict.fromkeys(key.split(".")[0] for key in data):
        for k in range(len(data[f"{frame}.coord"])):
            keys = [key for key in data if key.startswith(frame + ".") and not key.endswith(".atype")]
            yield f"{frame} {k}", data[f"{frame}.atype"], {key.split(".", 1)[1]: data[key][k] for key in keys}


def kept(vectors: torch.Tensor, centers: torch.Tensor, types_j: torch.Tensor, sel: list[int]) -> torch.Tensor:
    """Indices of the pairs that the peer keeps: the nearest sum(sel) of an atom, of these the nearest sel[t] of a type.

    `sel` of one entry counts all types together. Pairs stay in their order.
    """
    distance = vectors.detach().norm(dim=1)
    chosen: list[int] = []
    for i in torch.unique(centers).tolist():
        pairs = torch.nonzero(centers == i).flatten()
        pairs = pairs[torch.argsort(distance[pairs], stable=True)]
        if len(pairs) > sum(sel) and distance[pairs[sum(sel)]] - distance[pairs[sum(sel) - 1]] < 1e-9:
            TIES.append(i)
        pairs = pairs[: sum(sel)]
        if len(sel) > 1:
            pairs = torch.cat([pairs[types_j[pairs] == t][:n] for t, n in enumerate(sel)])
        chosen += sorted(pairs.tolist())
    DROPPED.append(len(vectors) - len(chosen))
    return torch.tensor(chosen, dtype=torch.long)


class Padded(torch.nn.Module):
    """A descriptor behind the peer's rule: what it would be if neighbours beyond `sel` were dropped."""

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner
        for key in "rcut rcut_smth sel dtype dim_out dim_rotation mixed_types passes_messages section".split():
            setattr(self, key, getattr(inner, key))
        if self.passes_messages:
            self.receptive_field = inner.receptive_field

    def forward(self, vectors, centers, neighbors, types, n_centers):
        keep = kept(vectors, centers, types[neighbors], self.sel)
        return self.inner(vectors[keep], centers[keep], neighbors[keep], types, n_centers)


def padded(descriptor: torch.nn.Module) -> torch.nn.Module:
    """The descriptor with the peer's rule; a hybrid gets it for each part, DPA-2 for its first list and its layers."""
    if hasattr(descriptor, "parts"):
        descriptor.parts = torch.nn.ModuleList([Padded(part) for part in descriptor.parts])
        return descriptor
    if hasattr(descriptor, "angles"):
        _pad_angles(descriptor)
    elif descriptor.passes_messages:
        _pad_layers(descriptor.layers)
    return Padded(descriptor)


def _pad_layers(layers: torch.nn.Module) -> None:
    forward = layers.forward

    def call(vectors, centers, neighbors, types, g1):
        near = torch.nonzero(vectors.detach().norm(dim=1) < layers.rcut).flatten()
        near = near[kept(vectors[near], centers[near], types[neighbors[near]], [layers.n_slots])]
        return forward(vectors[near], centers[near], neighbors[near], types, g1)

    layers.forward = call


def _pad_angles(descriptor: torch.nn.Module) -> None:
    """DPA-3 makes angles of the nearest a_sel pairs; those beyond are put out of the reach of angles."""
    angles, most = descriptor.angles, int(descriptor.section["repflow"]["a_sel"])

    def call(vectors, centers, n_centers):
        keep = kept(vectors, centers, torch.zeros_like(centers), [most])
        far = torch.ones(len(vectors), dtype=torch.bool)
        far[keep] = False
        beyond = 2.0 * descriptor.a_rcut * torch.ones(3, dtype=vectors.dtype)
        return angles(torch.where(far.unsqueeze(1), beyond, vectors), centers, n_centers)

    descriptor.angles = call
