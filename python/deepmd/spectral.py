"""Spectral bases: the few directions in which the outputs of an embedding network move.

An embedding network is a curve G(e) in R^M of one number e. Over the distances of atoms, it stays close to a space
of few dimensions: with the rows of V [P, M] spanning it, G = c V to any accuracy, c = G V^T, and P numbers stand for M.
The space is that of the largest singular vectors of samples of G and of its slope, so that forces are good too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

N_SAMPLES = 2000  # points of e for each network
SLOPE_WEIGHT = 0.3  # of dG/de beside G; between 0.1 and 1 the choice matters little


@dataclass
class Spectrum:
    """Singular values [M] and vectors [M, M] of one network, largest first."""

    values: np.ndarray
    vectors: np.ndarray

    def rank(self, threshold: float) -> int:
        """Number of singular values above `threshold`, at least one."""
        return max(1, int((self.values > threshold).sum()))


def raw_radial(r: float, rcut: float, rcut_smth: float, protection: float) -> float:
    """s(r) = w(r) / (r + p), the radial entry of an environment row before normalisation."""
    u = min(max((r - rcut_smth) / (rcut - rcut_smth), 0.0), 1.0)
    return (u**3 * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0) / (r + protection)


def argument_range(descriptor: Any, k: int, shortest: float) -> tuple[float, float]:
    """Arguments of network k from an empty slot to a pair at `shortest` Angstrom, over all centres that use it."""
    davg, dstd = descriptor.davg[:, 0].numpy(), descriptor.dstd[:, 0].numpy()
    centers = np.arange(descriptor.n_types) if descriptor.one_side else np.array([k % descriptor.n_types])
    s = raw_radial(min(shortest, descriptor.rcut), descriptor.rcut, descriptor.rcut_smth, descriptor.protection)
    lo = float((-davg[centers] / dstd[centers]).min())
    return lo, max(float(((s - davg[centers]) / dstd[centers]).max()), lo + 0.1)


def spectra(descriptor: Any, shortest: float) -> list[Spectrum]:
    """One spectrum per embedding network of a torch descriptor, for pairs from `shortest` Angstrom on."""
    result = []
    for k, network in enumerate(descriptor.networks):
        lo, hi = argument_range(descriptor, k, shortest)
        e = torch.linspace(lo, hi, N_SAMPLES, dtype=torch.float64).unsqueeze(1)
        g, slope = torch.func.jvp(network.double(), (e,), (torch.ones_like(e),))
        rows = torch.cat([g, SLOPE_WEIGHT * slope]).detach()
        _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
        result.append(Spectrum(values.numpy(), vectors.numpy()))
    return result
