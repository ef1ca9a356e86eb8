"""Attention among the neighbours of an atom, as se_atten uses it.

With q, k, v from one linear layer, each of unit length if `normalize`, and q scaled:
    smooth:      W_jk = softmax_k[(q_j k_k + 20) w_j w_k - 20] w_j w_k,   w the switch; otherwise  W = softmax(q k)
    dotr:        W_jk *= direction_j . direction_k
    output:      G_j <- LayerNorm(G_j + out(sum_k W_jk v_k))
The softmax of a padded list also counts its empty slots, exp(-20) each in the smooth form and 0 in the other. They are
added here in closed form, so that a neighbour at the cutoff is an empty slot.
Source: Zhang et al., npj Comput. Mater. 10, 94 (2024); the smooth form as in the implementations of the family.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.compiled import normalised, serve, weighed
from deepmd.nn.layers import Dense, load_into, to_numpy

SHIFT = 20.0
LEAST_NORM = 1e-12


@dataclass(frozen=True)
class AttentionOptions:
    """Shape and flags of the layers; n_slots is the total of `sel`."""

    n_slots: int
    width: int
    hidden: int
    dotr: bool = True
    scaling_factor: float = 1.0
    normalize: bool = True
    temperature: float | None = None
    smooth: bool = False
    trainable_ln: bool = True
    ln_eps: float = 1e-5

    def scalars(self) -> dict[str, Any]:
        """The entries that every level of the tree repeats."""
        return {
            "nnei": self.n_slots, "embed_dim": self.width, "hidden_dim": self.hidden, "dotr": self.dotr,
            "do_mask": False, "scaling_factor": self.scaling_factor, "normalize": self.normalize,
            "temperature": self.temperature,
        }  # fmt: skip


def over(x: Tensor, y: Tensor) -> Tensor:
    """x / y for y with one number where x has a row; in training by the inverse, whose gradients are cheaper."""
    if not torch.jit.is_scripting():
        if x.requires_grad:
            return x * torch.reciprocal(y)
    return x / y


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * w + b over the last axis, population variance."""

    def __init__(self, width: int, eps: float, trainable: bool, dtype: torch.dtype):
        super().__init__()
        self.eps = eps
        self.trainable = trainable
        self.w = nn.Parameter(torch.ones(width, dtype=dtype), requires_grad=trainable)
        self.b = nn.Parameter(torch.zeros(width, dtype=dtype), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            if serve(x):
                return normalised(x, True, self.eps) * self.w + self.b
        centered = x - x.mean(dim=-1, keepdim=True)
        variance = (centered * centered).mean(dim=-1, keepdim=True)
        return over(centered, torch.sqrt(variance + self.eps)) * self.w + self.b

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        precision = "float64" if self.w.dtype == torch.float64 else "float32"
        variables = {"w": to_numpy(self.w), "b": to_numpy(self.b)}
        head = {"@class": "LayerNorm", "@version": 1, "eps": self.eps, "trainable": self.trainable}
        return {**head, "precision": precision, "@variables": variables}

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        load_into(self.w, tree["@variables"]["w"])
        load_into(self.b, tree["@variables"]["b"])


def unit(x: Tensor) -> Tensor:
    """x / |x| along the last axis, with the norm kept from zero."""
    if not torch.jit.is_scripting():
        if serve(x):
            return normalised(x, False, LEAST_NORM)
    return over(x, torch.clamp(torch.linalg.vector_norm(x, dim=-1, keepdim=True), min=1e-12))


def slot_softmax(logits: Tensor, seen: Tensor, n_empty: Tensor, smooth: bool) -> Tensor:
    """Softmax along the last axis over the slots with seen > 0, and in the smooth form over n_empty slots of exp(-20).

    seen and n_empty broadcast to logits; zeros where nothing is seen.
    """
    least = torch.full_like(logits, -20.0 if smooth else -1e30)
    top = torch.where(seen > 0, logits, least).amax(dim=-1, keepdim=True).detach()
    weights = torch.exp(torch.clamp(logits - top, max=0.0)) * seen
    total = weights.sum(dim=-1, keepdim=True)
    if smooth:
        total = total + n_empty * torch.exp(-20.0 - top)
    return over(weights, torch.where(total > 0, total, torch.ones_like(total)))


class AttentionLayer(nn.Module):
    """One layer; G [n_centers, n_slots, width] in and out."""

    smooth: Final[bool]
    dotr: Final[bool]
    normalize: Final[bool]

    def __init__(self, options: AttentionOptions, dtype: torch.dtype):
        super().__init__()
        self.options = options
        self.smooth, self.dotr, self.normalize = options.smooth, options.dotr, options.normalize
        self.hidden = options.hidden
        self.shift = SHIFT
        given = options.temperature
        self.scale = (options.hidden * options.scaling_factor) ** -0.5 if given is None else float(given)
        self.in_proj = Dense((options.width, 3 * options.hidden), "none", False, False, dtype)
        self.out_proj = Dense((options.hidden, options.width), "none", False, False, dtype)
        self.norm = LayerNorm(options.width, options.ln_eps, options.trainable_ln, dtype)

    def forward(self, g: Tensor, mask: Tensor, w: Tensor, direction: Tensor, n_empty: Tensor) -> Tensor:
        """mask and w [n_centers, n_slots, 1], direction [n_centers, n_slots, 3], n_empty [n_centers] empty slots."""
        qkv = self.in_proj(g).unflatten(2, [3, self.hidden])
        if self.normalize:
            qkv = unit(qkv)
        q, k, v = qkv.unbind(2)
        logits = torch.bmm(q * self.scale, k.transpose(1, 2))
        return self.norm(g + self.out_proj(torch.bmm(self.weights(logits, mask, w, direction, n_empty), v)))

    def weights(self, logits: Tensor, mask: Tensor, w: Tensor, direction: Tensor, n_empty: Tensor) -> Tensor:
        """W of the logits [n_centers, n_slots, n_slots]."""
        if not torch.jit.is_scripting():
            if serve(logits):
                return weighed(logits, mask, w, direction, n_total=self.options.n_slots, smooth=self.smooth,
                               gated=False, directed=self.dotr, scale=1.0)  # fmt: skip
        couples = mask * mask.transpose(1, 2)
        ww = w * w.transpose(1, 2)
        if self.smooth:
            logits = (logits + self.shift) * ww - self.shift
        weights = slot_softmax(logits, couples, n_empty.reshape(-1, 1, 1), self.smooth)
        if self.smooth:
            weights = weights * ww
        if self.dotr:
            weights = weights * torch.bmm(direction, direction.transpose(1, 2))
        return weights

    def alone(self, g: Tensor) -> Tensor:
        """What the layer makes of empty slots: nothing but the bias reaches them. g [n, width]."""
        return self.norm(g + self.out_proj.b)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        options = self.options
        norm = self.norm.serialize()
        layer = {
            **options.scalars(), "num_heads": 1, "bias": True, "smooth": options.smooth,
            "precision": norm["precision"],
            "in_proj": self.in_proj.serialize(), "out_proj": self.out_proj.serialize(),
        }  # fmt: skip
        return {
            **options.scalars(), "trainable_ln": options.trainable_ln, "ln_eps": options.ln_eps,
            "precision": norm["precision"], "attention_layer": layer, "attn_layer_norm": norm,
        }  # fmt: skip

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        self.in_proj = Dense.deserialize(tree["attention_layer"]["in_proj"])
        self.out_proj = Dense.deserialize(tree["attention_layer"]["out_proj"])
        self.norm.load(tree["attn_layer_norm"])

    @torch.jit.unused
    def randomise(self, seed: list[int] | None) -> None:
        for k, layer in enumerate((self.in_proj, self.out_proj)):
            layer.randomise(np.random.default_rng(None if seed is None else [*seed, k]))


def serialize_layers(layers: nn.ModuleList, options: AttentionOptions, precision: str) -> dict[str, Any]:
    """The entry attention_layers of a tree."""
    return {
        "@class": "NeighborGatedAttention", "@version": 1, "layer_num": len(layers), **options.scalars(),
        "trainable_ln": options.trainable_ln, "ln_eps": options.ln_eps, "precision": precision,
        "attention_layers": [layer.serialize() for layer in layers],
    }  # fmt: skip
