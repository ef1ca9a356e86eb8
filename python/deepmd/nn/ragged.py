"""Ragged neighbours laid out for batched products: pairs sorted by centre onto [n_centers, n_slots]."""

import math
from typing import Any

import torch
from torch import Tensor

from deepmd.nn.compiled import FormRows, FormSums, ProductRows, ProductSums, message_ends, serve


class Take(torch.autograd.Function):
    """x[index] by rows, whose adjoint is `Add`; both have derivatives of any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.n = index, x.shape[0]
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        return Add.apply(d, ctx.index, ctx.n), None


class Add(torch.autograd.Function):
    """Sums of the rows of values that share an index, [n, width], by a compiled loop, which is faster than torch's."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n: int) -> Tensor:
        from deepmd import _kernels

        ctx.index = index
        flat = values.detach().reshape(values.shape[0], math.prod(values.shape[1:])).contiguous()
        total = _kernels.row_sums(flat.numpy(), index.numpy(), n)
        return torch.from_numpy(total).reshape(n, *values.shape[1:])

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        return Take.apply(d, ctx.index), None, None


@torch.jit.unused
def compiled(values: Tensor) -> bool:
    """Whether the compiled loops serve: gradients of gradients in training on the CPU."""
    return values.requires_grad and values.device.type == "cpu"


def take(x: Tensor, index: Tensor) -> Tensor:
    """x[index] by rows; x [n, ...], index [m]."""
    if not torch.jit.is_scripting():
        if compiled(x):
            return Take.apply(x, index)
    return x[index]


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
    if not torch.jit.is_scripting():
        if compiled(values):
            return Add.apply(values, place, n_centers * n_slots).reshape(n_centers, n_slots, width)
    table = torch.zeros(n_centers * n_slots, width, dtype=values.dtype, device=values.device)
    return table.index_copy(0, place, values).reshape(n_centers, n_slots, width)


def contract(rows: Tensor, g: Tensor, centers: Tensor, n_centers: int) -> Tensor:
    """sum_j R_j (x) G_j for each centre, [n_centers, width of R, width of G]; rows [n, .], g [n, .]."""
    place, n_slots = slots(centers, n_centers)
    r = dense(rows, place, n_centers, n_slots)
    return torch.bmm(r.transpose(1, 2), dense(g, place, n_centers, n_slots))


def invariants(t: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """T (T[:axis])^T [n_centers, width * axis] and the vectors [n_centers, width, 3], of T [n_centers, 4, width]."""
    d = torch.bmm(t.transpose(1, 2), t[:, :, :axis])
    return d.reshape(t.shape[0], t.shape[2] * axis), t[:, 1:].transpose(1, 2)


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
    if not torch.jit.is_scripting():
        if compiled(values):
            return Add.apply(values, centers, n_centers)
    total = torch.zeros(n_centers, values.shape[1], dtype=values.dtype, device=values.device)
    return total.index_add(0, centers, values)


def form(h: Tensor, g: Tensor, first: Tensor, n: int, second: Tensor | None = None) -> Tensor:
    """Sums of h[k] (x) g[second[k]] over the k with first[k] = i, [n, rows, width]; second is k where it is left out.

    h [m, rows], first and second [m], g [., width].
    """
    if not torch.jit.is_scripting():
        if serve(h) or serve(g):
            return FormSums.apply(h, g, message_ends(first, n, second, g.shape[0]))
    values = g if second is None else take(g, second)
    outer = h.unsqueeze(2) * values.unsqueeze(1)
    return sum_to(outer.flatten(1), first, n).reshape(n, h.shape[1], g.shape[1])


def along(d: Tensor, g: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """d[first[k]] . g[second[k]], [m]; d and g [., width]."""
    if not torch.jit.is_scripting():
        if serve(d) or serve(g):
            ends = message_ends(first, d.shape[0], second, g.shape[0])
            return FormRows.apply(d.unsqueeze(1), g, ends).squeeze(1)
    return (take(d, first) * take(g, second)).sum(dim=1)


def product_sums(a: Tensor, b: Tensor, first: Tensor, n: int, second: Tensor) -> Tensor:
    """Sums of a[k] b[second[k]], element by element, over the k with first[k] = i, [n, width]; a [m, width]."""
    if not torch.jit.is_scripting():
        if serve(a) or serve(b):
            return ProductSums.apply(a, b, message_ends(first, n, second, b.shape[0]))
    return sum_to(a * take(b, second), first, n)


def products(u: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """u[first[k]] b[second[k]], element by element, [m, width]."""
    if not torch.jit.is_scripting():
        if serve(u) or serve(b):
            return ProductRows.apply(u, b, message_ends(first, u.shape[0], second, b.shape[0]))
    return take(u, first) * take(b, second)
