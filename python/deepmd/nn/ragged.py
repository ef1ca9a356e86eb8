"""Ragged neighbours laid out for batched products: pairs sorted by centre onto [n_centers, n_slots]."""

import torch
from torch import Tensor


def count(centers: Tensor, n_centers: int) -> Tensor:
    """Number of pairs of each centre [n_centers]; centers [n_pairs], ascending."""
    counts = torch.zeros(n_centers, dtype=torch.long, device=centers.device)
    return counts.index_add(0, centers, torch.ones_like(centers))


def slots(centers: Tensor, n_centers: int) -> tuple[Tensor, int]:
    """The place of each pair on a flat table of n_centers rows, and the width of the rows (the largest count)."""
    n = centers.shape[0]
    counts = count(centers, n_centers)
    n_slots = int(counts.max()) if n > 0 else 0
    slot = torch.arange(n, device=centers.device) - (torch.cumsum(counts, 0) - counts)[centers]
    return centers * n_slots + slot, n_slots


def dense(values: Tensor, place: Tensor, n_centers: int, n_slots: int) -> Tensor:
    """values [n_pairs, width] on [n_centers, n_slots, width], zeros where there is no pair."""
    width = values.shape[1]
    table = torch.zeros(n_centers * n_slots, width, dtype=values.dtype, device=values.device)
    return table.index_copy(0, place, values).reshape(n_centers, n_slots, width)


def contract(rows: Tensor, g: Tensor, centers: Tensor, n_centers: int) -> Tensor:
    """sum_j R_j (x) G_j for each centre, [n_centers, width of R, width of G]; rows [n, .], g [n, .]."""
    place, n_slots = slots(centers, n_centers)
    r = dense(rows, place, n_centers, n_slots)
    return torch.bmm(r.transpose(1, 2), dense(g, place, n_centers, n_slots))


def partners(centers: Tensor, n_centers: int) -> tuple[Tensor, Tensor]:
    """All ordered couples (p, q) of pairs of the same centre, p == q included: two index vectors [n_couples]."""
    n = centers.shape[0]
    counts = count(centers, n_centers)
    own = counts[centers]  # [n]: couples that begin with p
    p = torch.repeat_interleave(torch.arange(n, device=centers.device), own)
    first = (torch.cumsum(counts, 0) - counts)[centers]
    before = torch.cumsum(own, 0) - own
    q = torch.arange(p.shape[0], device=centers.device) - before[p] + first[p]
    return p, q


def sum_to(values: Tensor, centers: Tensor, n_centers: int) -> Tensor:
    """Sum of values [n, width] over the entries of each centre, [n_centers, width]."""
    total = torch.zeros(n_centers, values.shape[1], dtype=values.dtype, device=values.device)
    return total.index_add(0, centers, values)
