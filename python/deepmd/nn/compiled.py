"""Compiled pieces of layers with attention and messages, each with the ways back that training needs.

Training on forces differentiates a gradient, so that a chain of small operations of torch is gone through some six
times; each piece here is one loop forwards, one for the gradient and one for the derivative of that gradient
(cxx/src/kernels: curves, messages, normalise, attention). They serve while `pieces()` is entered, which the training
engines do; outside it, in TorchScript, on a GPU and for small arrays torch runs the same formulas and is the judge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)
CURVES = ("tanh", "sigmoid", "silu", "gelu", "silut")
SMALL = 4096  # numbers, below which calling a piece costs more than it saves
_entered = [0]


@contextmanager
def pieces() -> Iterator[None]:
    """Within it layers use their compiled pieces."""
    if not available():
        yield
        return
    kernels().set_threads(torch.get_num_threads())
    _entered[0] += 1
    try:
        yield
    finally:
        _entered[0] -= 1


def serve(x: Tensor) -> bool:
    """Whether a piece is to be used for this argument."""
    return _entered[0] > 0 and x.requires_grad and x.device.type == "cpu" and x.numel() >= SMALL


def last(function: Callable[..., Any]) -> Callable[..., Any]:
    """A way back that itself has none."""

    def checked(ctx: Any, *u: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("the compiled pieces of layers have two derivatives and a third was asked for; leave "
                               "`pieces()`, as the engine for second derivatives by positions does")  # fmt: skip
        return function(ctx, *u)

    return checked


def kernels() -> Any:
    """The compiled module, which layers can do without as long as nothing is trained."""
    from deepmd import _kernels

    return _kernels


@cache
def available() -> bool:
    """Whether the compiled module has the pieces."""
    found = hasattr(kernels(), "set_threads")
    if not found:
        log.warning("the compiled module is older than the Python files beside it, and layers run without compiled "
                    "pieces; install the package again with `pip install .`")  # fmt: skip
    return found


def array(x: Tensor) -> np.ndarray:
    """The numbers of a tensor as the kernels take them."""
    return x.detach().contiguous().numpy()


@cache
def curve(name: str, threshold: float) -> Any:
    """The compiled activation function."""
    return kernels().Curve(name, threshold)


class Curved(torch.autograd.Function):
    """f(x) element by element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Any, is_state: bool) -> Tensor:
        own = array(x)
        y = f.values(own)
        ctx.f, ctx.state = f, y if is_state else own
        ctx.save_for_backward(x)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        return CurvedSlope.apply(d, *ctx.saved_tensors, ctx.f, ctx.state), None, None


class CurvedSlope(torch.autograd.Function):
    """f'(x) d."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, x: Tensor, f: Any, state: np.ndarray) -> Tensor:
        ctx.f, ctx.state, ctx.d = f, state, array(d)
        return torch.from_numpy(f.slopes(state, ctx.d))

    @staticmethod
    @last
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d_d, d_x = ctx.f.bends(ctx.state, ctx.d, array(u))
        return torch.from_numpy(d_d), torch.from_numpy(d_x), None, None


def curved(x: Tensor, name: str, threshold: float) -> Tensor:
    """An activation function of CURVES."""
    return Curved.apply(x, curve(name, threshold), name == "tanh")


class Messages(torch.autograd.Function):
    """f(own + p[first] + q[second]) by rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, p: Tensor, q: Tensor, ends: Any, f: Any) -> Tensor:
        y, state = f.messages(ends, array(own), array(p), array(q))
        ctx.ends, ctx.f, ctx.state = ends, f, state
        ctx.save_for_backward(own, p, q)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        return *MessagesSlope.apply(d, *ctx.saved_tensors, ctx.ends, ctx.f, ctx.state), None, None


class MessagesSlope(torch.autograd.Function):
    """The gradients by own, p and q."""

    @staticmethod
    def forward(
        ctx: Any, d: Tensor, own: Tensor, p: Tensor, q: Tensor, ends: Any, f: Any, state: np.ndarray
    ) -> tuple[Tensor, ...]:
        ctx.ends, ctx.f, ctx.state, ctx.d = ends, f, state, array(d)
        return tuple(torch.from_numpy(x) for x in f.message_slopes(ends, state, ctx.d))

    @staticmethod
    @last
    def backward(ctx: Any, tx: Tensor, tp: Tensor, tq: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.f.message_bends(ctx.ends, ctx.state, ctx.d, array(tx), array(tp), array(tq))
        return *(torch.from_numpy(x) for x in found), None, None, None


def messages(own: Tensor, p: Tensor, q: Tensor, ends: Any, name: str, threshold: float) -> Tensor:
    """f(own + p[first] + q[second]) for a function of CURVES; ends: of `message_ends`."""
    return Messages.apply(own, p, q, ends, curve(name, threshold))


def message_ends(first: Tensor, n_first: int, second: Tensor | None, n_second: int) -> Any:
    """The two ends of rows; without the second one it is the row itself."""
    other = np.zeros(0, dtype=np.int64) if second is None else array(second)
    return kernels().MessageEnds(array(first), n_first, other, n_second)


class FormSums(torch.autograd.Function):
    """d[i] = sum of h[k] (x) g[second[k]] over the k with first[k] = i, [n_first, rows, width].

    This, `FormRows` and `FormValues` are the derivatives of one trilinear form; each is the others' derivative.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, g: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(h, g)
        return torch.from_numpy(ends.sums(array(h), array(g)))

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        h, g = ctx.saved_tensors
        by_h = FormRows.apply(u, g, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_h, FormValues.apply(u, h, ctx.ends) if ctx.needs_input_grad[1] else None, None


class FormRows(torch.autograd.Function):
    """h[k, a] = d[first[k], a] . g[second[k]]"""

    @staticmethod
    def forward(ctx: Any, d: Tensor, g: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(d, g)
        return torch.from_numpy(ends.by_rows(array(d), array(g)))

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d, g = ctx.saved_tensors
        by_d = FormSums.apply(u, g, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_d, FormValues.apply(d, u, ctx.ends) if ctx.needs_input_grad[1] else None, None


class FormValues(torch.autograd.Function):
    """g[j] = sum of h[k, a] d[first[k], a] over the k with second[k] = j, and over a"""

    @staticmethod
    def forward(ctx: Any, d: Tensor, h: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(d, h)
        return torch.from_numpy(ends.by_values(array(d), array(h)))

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d, h = ctx.saved_tensors
        by_d = FormSums.apply(h, u, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_d, FormRows.apply(d, u, ctx.ends) if ctx.needs_input_grad[1] else None, None


class ProductSums(torch.autograd.Function):
    """u[i] = sum of a[k] b[second[k]] over the k with first[k] = i, element by element, [n_first, width].

    With `ProductRows` and `ProductValues` again the derivatives of one form.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(a, b)
        return torch.from_numpy(ends.product_by_first(array(a), array(b)))

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        by_a = ProductRows.apply(d, b, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_a, ProductValues.apply(d, a, ctx.ends) if ctx.needs_input_grad[1] else None, None


class ProductRows(torch.autograd.Function):
    """a[k] = u[first[k]] b[second[k]]"""

    @staticmethod
    def forward(ctx: Any, u: Tensor, b: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(u, b)
        return torch.from_numpy(ends.product_by_row(array(u), array(b)))

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        u, b = ctx.saved_tensors
        by_u = ProductSums.apply(d, b, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_u, ProductValues.apply(u, d, ctx.ends) if ctx.needs_input_grad[1] else None, None


class ProductValues(torch.autograd.Function):
    """b[j] = sum of u[first[k]] a[k] over the k with second[k] = j"""

    @staticmethod
    def forward(ctx: Any, u: Tensor, a: Tensor, ends: Any) -> Tensor:
        ctx.ends = ends
        ctx.save_for_backward(u, a)
        return torch.from_numpy(ends.product_by_second(array(u), array(a)))

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        u, a = ctx.saved_tensors
        by_u = ProductSums.apply(a, d, ctx.ends) if ctx.needs_input_grad[0] else None
        return by_u, ProductRows.apply(u, d, ctx.ends) if ctx.needs_input_grad[1] else None, None


class Normalised(torch.autograd.Function):
    """Rows of unit length, or centred ones of unit variance; x [n, width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centred: bool, eps: float) -> Tensor:
        ctx.y, ctx.inverse = kernels().normalise(array(x), centred, eps)
        ctx.centred = centred
        ctx.save_for_backward(x)
        return torch.from_numpy(ctx.y)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        return NormalisedSlope.apply(d, *ctx.saved_tensors, ctx.y, ctx.inverse, ctx.centred), None, None


class NormalisedSlope(torch.autograd.Function):
    """The gradient by x."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, x: Tensor, y: np.ndarray, inverse: np.ndarray, centred: bool) -> Tensor:
        ctx.y, ctx.inverse, ctx.centred, ctx.d = y, inverse, centred, array(d)
        return torch.from_numpy(kernels().normalise_slopes(y, inverse, ctx.d, centred))

    @staticmethod
    @last
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d_d, d_x = kernels().normalise_bends(ctx.y, ctx.inverse, ctx.d, array(u), ctx.centred)
        return torch.from_numpy(d_d), torch.from_numpy(d_x), None, None, None


def normalised(x: Tensor, centred: bool, eps: float) -> Tensor:
    """Along the last axis: x / max(|x|, eps), or (x - mean) / sqrt(variance + eps)."""
    return Normalised.apply(x.reshape(-1, x.shape[-1]), centred, eps).reshape(x.shape)


class Weighed(torch.autograd.Function):
    """Weights of attention; l [n, heads, S, S], w [n, S], h [n, S, 3], see cxx/src/kernels/attention.hpp."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, w: Tensor, h: Tensor, slots: Any) -> Tensor:
        ctx.slots = slots
        ctx.save_for_backward(logits, w, h)
        return torch.from_numpy(slots.weights(array(logits), array(w), array(h)))

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        return *WeighedSlope.apply(d, *ctx.saved_tensors, ctx.slots), None


class WeighedSlope(torch.autograd.Function):
    """The gradients by l, w and h."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, logits: Tensor, w: Tensor, h: Tensor, slots: Any) -> tuple[Tensor, ...]:
        ctx.slots, ctx.arguments = slots, [array(x) for x in (logits, w, h, d)]
        return tuple(torch.from_numpy(x) for x in slots.slopes(*ctx.arguments))

    @staticmethod
    @last
    def backward(ctx: Any, *t: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.slots.bends(*ctx.arguments, *(array(x) for x in t))
        return *(torch.from_numpy(x) for x in found), None


def weighed(logits: Tensor, mask: Tensor, w: Tensor, h: Tensor, **settings: Any) -> Tensor:
    """Weights of attention, zeros where a slot is empty; mask and w [n, S, 1], h [n, S, 3].

    settings: n_total slots of the padded list, smooth, gated, directed, scale.
    """
    counts = array(mask.sum(dim=1).flatten().to(torch.int64))
    heads = logits.shape[1] if logits.dim() == 4 else 1
    slots = kernels().Slots(counts, {"n_heads": heads, "n_slots": mask.shape[1], **settings})
    return Weighed.apply(logits, w.squeeze(2), h, slots)
