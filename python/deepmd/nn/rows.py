"""Environment rows: what an atom knows of one neighbour.

With r = |r_j - r_i|, u = (r - rs) / (rc - rs) and the switch
    w(r) = 1 (r < rs),  u^3 (-6 u^2 + 15 u - 10) + 1 (rs <= r < rc),  0 (r >= rc),
the row is [s, s x/(r+p), s y/(r+p), s z/(r+p)] with s = w / (r + p) and the protection p (normally 0).
Source: Zhang et al., NeurIPS 2018 (DeepPot-SE), with the fifth-order switch of its implementations.
"""

import torch
from torch import Tensor


def switch(r: Tensor, rcut: float, rcut_smth: float) -> Tensor:
    """w(r); r [n] in Angstrom."""
    u = torch.clamp((r - rcut_smth) / (rcut - rcut_smth), 0.0, 1.0)
    return u * u * u * (u * (15.0 - 6.0 * u) - 10.0) + 1.0


def environment_rows(vectors: Tensor, rcut: float, rcut_smth: float, protection: float) -> Tensor:
    """Raw rows [n_pairs, 4] of the pair vectors [n_pairs, 3] (Angstrom)."""
    r = torch.linalg.vector_norm(vectors, dim=1)
    shifted = r + protection
    s = switch(r, rcut, rcut_smth) / shifted
    return torch.cat([s.unsqueeze(1), vectors * (s / shifted).unsqueeze(1)], dim=1)
