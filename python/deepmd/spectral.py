"""Spectral bases: the few directions in which the outputs of an embedding network move.

Between two types, an embedding is a curve G(e) in R^M of one number e: the normalised radial entry of a neighbour, or
its inverse distance where a smooth factor by type makes it no smooth function of the former. Over the distances of
atoms, it stays close to a space of few dimensions: with the rows of V [P, M] spanning it, G = c V to any accuracy,
c = G V^T, and P numbers stand for M. The space is that of the largest singular vectors of samples of G and of its
slope, so that forces are good too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deepmd.nn.descriptor.se_e3 import DescriptorSeE3

N_SAMPLES = 2000  # points of e for each network
SLOPE_WEIGHT = 0.3  # of dG/de beside G; between 0.1 and 1 the choice matters little


@dataclass
class Spectrum:
    """Singular values [M] and vectors [M, M] of one curve, largest first."""

    values: np.ndarray
    vectors: np.ndarray

    def rank(self, threshold: float) -> int:
        """Number of singular values above `threshold`, at least one."""
        return max(1, int((self.values > threshold).sum()))


def raw_radial(r: float, rcut: float, rcut_smth: float, protection: float) -> float:
    """s(r) = w(r) / (r + p), the radial entry of an environment row before normalisation."""
    u = min(max((r - rcut_smth) / (rcut - rcut_smth), 0.0), 1.0)
    return (u**3 * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0) / (r + protection)


def radial_curve(descriptor: Any, k: int, one_side: bool, shortest: float) -> tuple[float, float]:
    """Arguments of curve k from an empty slot to a pair at `shortest` Angstrom, over all centres that use it."""
    davg, dstd = descriptor.davg[:, 0].numpy(), descriptor.dstd[:, 0].numpy()
    n_types = descriptor.n_types
    centers = np.arange(n_types) if one_side else np.array([k % n_types])
    s = raw_radial(min(shortest, descriptor.rcut), descriptor.rcut, descriptor.rcut_smth, descriptor.protection)
    ends = [-davg[centers] / dstd[centers], (s - davg[centers]) / dstd[centers]]
    if descriptor.row_width == 1 and descriptor.exclude_types:  # neighbours that are excluded have the entry 0
        ends.append(np.zeros(1))
    lo, hi = min(float(e.min()) for e in ends), max(float(e.max()) for e in ends)
    return lo, max(hi, lo + 0.1)


@dataclass
class Curve:
    """What the engine tabulates for one pair of types, in the order in which it numbers them (neighbour, centre)."""

    outputs: Callable[[torch.Tensor], torch.Tensor]  # [n, 1] -> [n, M]
    lo: float
    hi: float


def curves(descriptor: Any, shortest: float) -> list[Curve]:
    """The curves of pairs of a torch descriptor that the fused engine takes, from `shortest` Angstrom on.

    Sums over couples of neighbours have none: their cost hardly depends on the number of outputs.
    """
    if isinstance(descriptor, DescriptorSeE3):
        return []
    if hasattr(descriptor, "parts"):
        return [curve for part in descriptor.parts for curve in curves(part, shortest)]
    if hasattr(descriptor, "block"):
        return typed_curves(descriptor.block, descriptor.type_embedding().detach(), shortest)
    networks = enumerate(descriptor.networks)
    return [Curve(net, *radial_curve(descriptor, k, descriptor.one_side, shortest)) for k, net in networks]


def typed_curves(block: Any, vectors: torch.Tensor, shortest: float) -> list[Curve]:
    """Those of one network for all types, with the vectors of the types [n_types, width]."""
    by_inverse = block.strip and block.smooth
    one_side = block.one_side and not by_inverse
    found = []
    for k in range(block.n_types if one_side else block.n_types**2):
        t_j, t_i = (k, 0) if one_side else divmod(k, block.n_types)

        def outputs(x: torch.Tensor, t_i: int = t_i, t_j: int = t_j) -> torch.Tensor:
            kinds = torch.zeros(len(x), dtype=torch.long)
            w, s = torch.zeros_like(x), x
            if by_inverse:
                r = 1.0 / x - block.protection
                away = torch.cat([r, torch.zeros(len(x), 2, dtype=x.dtype)], dim=1)
                s = (block.raw_rows(away)[:, :1] - block.davg[t_i, 0]) / block.dstd[t_i, 0]
                w = block.weights(away).unsqueeze(1)
            return block.embed(s, kinds + t_i, kinds + t_j, w, vectors)

        ends = tuple(1.0 / (r + block.protection) for r in (block.rcut, min(shortest, 0.9 * block.rcut)))
        found.append(Curve(outputs, *(ends if by_inverse else radial_curve(block, k, one_side, shortest))))
    return found


def spectra(descriptor: Any, shortest: float) -> list[Spectrum]:
    """One spectrum per curve of a torch descriptor in float64, for pairs from `shortest` Angstrom on."""
    result = []
    for curve in curves(descriptor, shortest):
        e = torch.linspace(curve.lo, curve.hi, N_SAMPLES, dtype=torch.float64).unsqueeze(1)
        g, slope = torch.func.jvp(curve.outputs, (e,), (torch.ones_like(e),))
        rows = torch.cat([g, SLOPE_WEIGHT * slope]).detach()
        _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
        result.append(Spectrum(values.numpy(), vectors.numpy()))
    return result
