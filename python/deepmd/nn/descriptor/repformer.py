"""One layer of DPA-2: atoms (g1), pairs (g2) and directions (h2) tell each other what they know.

Pairs stand on [n, S] slots; m is 1 where a slot holds a pair, w the switch, N = nsel, n_i the real number of pairs.
    g2 += f(L g2),  P(g1_i g1_j w),  LayerNorm(heads of A g2)      A: attention among the pairs of an atom, times h h^T
    h2 += heads of A h2
    g1 += f(L g1),  sum_j g1_j P(g2) w / N,  f(L [symmetrised g2 and g1_j]),  heads of attention over the neighbours
    symmetrised(g) = H[:, :axis]^T H / 3,   H = sum_j h2_j (x) g_j w / sqrt(N)
Without `smooth`, m stands for w and n_i + 1e-4 for N. An update is joined by u_0 + u_1 + ... over the root of their
number (res_avg), with the root on the rest (res_incr), or with trained factors (res_residual).
Source: Zhang et al., npj Comput. Mater. 10, 293 (2024).
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.activation import Activation
from deepmd.nn.attention import SHIFT, LayerNorm, slot_softmax
from deepmd.nn.compiled import serve, weighed
from deepmd.nn.layers import Dense, load_into, to_numpy
from deepmd.nn.ragged import along, form, product_sums, products, take

EPSILON = 1e-4
STYLES = {"res_avg": 0, "res_incr": 1, "res_residual": 2}


def linear(n_in: int, n_out: int, dtype: torch.dtype, bias: bool = True) -> Dense:
    return Dense((n_in, n_out), "none", False, False, dtype, bias)


class PairAttention(nn.Module):
    """A [n, heads, S, S] among the pairs of an atom."""

    smooth: Final[bool]
    has_gate: Final[bool]

    def __init__(self, args: dict[str, Any], smooth: bool, dtype: torch.dtype):
        super().__init__()
        self.hidden, self.n_heads = int(args["attn2_hidden"]), int(args["attn2_nhead"])
        self.has_gate, self.smooth = bool(args["attn2_has_gate"]), smooth
        self.n_total = int(args["nsel"])
        self.mapqk = linear(int(args["g2_dim"]), 2 * self.hidden * self.n_heads, dtype, False)
        self.shift = SHIFT

    def forward(self, g2: Tensor, h2: Tensor, mask: Tensor, w: Tensor, n_empty: Tensor) -> Tensor:
        n, n_slots = g2.shape[0], g2.shape[1]
        qk = self.mapqk(g2).reshape(n, n_slots, self.hidden, 2 * self.n_heads).permute(0, 3, 1, 2)
        q, k = qk.split(self.n_heads, dim=1)
        logits = torch.matmul(q * self.hidden**-0.5, k.transpose(2, 3))
        if not torch.jit.is_scripting():
            if serve(logits):
                return weighed(logits, mask, w, h2, n_total=self.n_total, smooth=self.smooth, gated=self.has_gate,
                               directed=True, scale=3.0**-0.5)  # fmt: skip
        hh = torch.bmm(h2, h2.transpose(1, 2)).unsqueeze(1)
        if self.has_gate:
            logits = logits * hh
        ww = (w * w.transpose(1, 2)).unsqueeze(1)
        if self.smooth:
            logits = (logits + self.shift) * ww - self.shift
        couples = (mask * mask.transpose(1, 2)).unsqueeze(1)
        weights = slot_softmax(logits, couples, n_empty.reshape(-1, 1, 1, 1), self.smooth)
        if self.smooth:
            weights = weights * ww
        return weights * hh / 3.0**0.5

    @torch.jit.unused
    def serialize(self, precision: str) -> dict[str, Any]:
        return {
            "@class": "Atten2Map", "@version": 1, "input_dim": self.mapqk.n_in, "hidden_dim": self.hidden,
            "head_num": self.n_heads, "has_gate": self.has_gate, "smooth": self.smooth, "attnw_shift": SHIFT,
            "precision": precision, "mapqk": self.mapqk.serialize(),
        }  # fmt: skip


class PairHeads(nn.Module):
    """The heads of A g2, [n, S, g2_dim]."""

    def __init__(self, args: dict[str, Any], dtype: torch.dtype):
        super().__init__()
        self.width, self.n_heads = int(args["g2_dim"]), int(args["attn2_nhead"])
        self.mapv = linear(self.width, self.width * self.n_heads, dtype, False)
        self.head_map = linear(self.width * self.n_heads, self.width, dtype)

    def forward(self, attention: Tensor, g2: Tensor) -> Tensor:
        n, n_slots = g2.shape[0], g2.shape[1]
        v = self.mapv(g2).reshape(n, n_slots, self.width, self.n_heads).permute(0, 3, 1, 2)
        out = torch.matmul(attention, v).permute(0, 2, 3, 1)
        return self.head_map(out.reshape(n, n_slots, self.width * self.n_heads))

    @torch.jit.unused
    def serialize(self, precision: str) -> dict[str, Any]:
        return {
            "@class": "Atten2MultiHeadApply", "@version": 1, "input_dim": self.width, "head_num": self.n_heads,
            "precision": precision, "mapv": self.mapv.serialize(), "head_map": self.head_map.serialize(),
        }  # fmt: skip


class DirectionHeads(nn.Module):
    """The heads of A h2, [n, S, 3]."""

    def __init__(self, args: dict[str, Any], dtype: torch.dtype):
        super().__init__()
        self.width, self.n_heads = int(args["g2_dim"]), int(args["attn2_nhead"])
        self.head_map = linear(self.n_heads, 1, dtype, False)

    def forward(self, attention: Tensor, h2: Tensor) -> Tensor:
        out = torch.matmul(attention, h2.unsqueeze(1)).permute(0, 2, 3, 1)
        return self.head_map(out).squeeze(-1)

    @torch.jit.unused
    def serialize(self, precision: str) -> dict[str, Any]:
        return {
            "@class": "Atten2EquiVarApply", "@version": 1, "input_dim": self.width, "head_num": self.n_heads,
            "precision": precision, "head_map": self.head_map.serialize(),
        }  # fmt: skip


class LocalAttention(nn.Module):
    """Attention of an atom over its neighbours, [n, g1_dim]."""

    smooth: Final[bool]

    def __init__(self, args: dict[str, Any], smooth: bool, dtype: torch.dtype):
        super().__init__()
        self.width, self.hidden, self.n_heads = int(args["g1_dim"]), int(args["attn1_hidden"]), int(args["attn1_nhead"])
        self.smooth = smooth
        self.shift = SHIFT
        self.mapq = linear(self.width, self.hidden * self.n_heads, dtype, False)
        self.mapkv = linear(self.width, (self.hidden + self.width) * self.n_heads, dtype, False)
        self.head_map = linear(self.width * self.n_heads, self.width, dtype)

    def forward(self, g1: Tensor, neighbors: Tensor, mask: Tensor, w: Tensor, n_empty: Tensor) -> Tensor:
        n, n_slots, heads = neighbors.shape[0], neighbors.shape[1], self.n_heads
        q = self.mapq(g1).reshape(n, self.hidden, heads).transpose(1, 2).reshape(n * heads, self.hidden)
        kv = self.mapkv(g1).reshape(n, self.hidden + self.width, heads).transpose(1, 2)
        k, v = kv.reshape(n * heads, self.hidden + self.width).split([self.hidden, self.width], dim=1)
        head = torch.arange(heads, device=g1.device).reshape(1, heads, 1)
        own = torch.arange(n * heads, device=g1.device).repeat_interleave(n_slots)  # atom and head of [n, heads, S]
        other = (neighbors.unsqueeze(1) * heads + head).flatten()
        logits = along(q * self.hidden**-0.5, k, own, other).reshape(n, heads, 1, n_slots)
        seen, ww = mask.permute(0, 2, 1).unsqueeze(1), w.permute(0, 2, 1).unsqueeze(1)
        if self.smooth:
            logits = (logits + self.shift) * ww - self.shift
        weights = slot_softmax(logits, seen, n_empty.reshape(-1, 1, 1, 1), self.smooth)
        if self.smooth:
            weights = weights * ww
        sums = form(weights.reshape(-1, 1), v, own, n * heads, other)
        return self.head_map(sums.reshape(n, heads * self.width))

    @torch.jit.unused
    def serialize(self, precision: str) -> dict[str, Any]:
        return {
            "@class": "LocalAtten", "@version": 1, "input_dim": self.width, "hidden_dim": self.hidden,
            "head_num": self.n_heads, "smooth": self.smooth, "attnw_shift": SHIFT, "precision": precision,
            "mapq": self.mapq.serialize(), "mapkv": self.mapkv.serialize(), "head_map": self.head_map.serialize(),
        }  # fmt: skip


def directed_sum(g: Tensor, h2: Tensor, factor: Tensor, scale: Tensor) -> Tensor:
    """H = sum_j h2_j (x) g_j factor_j, times scale [n], as [n, 3, width]; g [n, S, width]."""
    return torch.bmm((h2 * factor).transpose(1, 2), g) * scale.reshape(-1, 1, 1)


def directed_sum_of_atoms(g1: Tensor, h2: Tensor, factor: Tensor, scale: Tensor, neighbors: Tensor) -> Tensor:
    """The same for features of atoms [., width], with neighbors [n, S]."""
    n, n_slots = neighbors.shape[0], neighbors.shape[1]
    if not torch.jit.is_scripting():
        if serve(g1):
            own = torch.arange(n).repeat_interleave(n_slots)
            hw = (h2 * (factor * scale.reshape(-1, 1, 1))).flatten(0, 1)
            return form(hw, g1, own, n, neighbors.flatten())
    return directed_sum(take(g1, neighbors.flatten()).reshape(n, n_slots, g1.shape[1]), h2, factor, scale)


def symmetrised(h: Tensor, axis: int) -> Tensor:
    """H[:, :axis]^T H / 3, flattened with the axis slow."""
    return (torch.bmm(h[:, :, :axis].transpose(1, 2), h) / 3.0).flatten(1)


class RepformerLayer(nn.Module):
    """One layer; the last one leaves g2 and h2 as they are."""

    smooth: Final[bool]
    pairs: Final[bool]
    out_mlp: Final[bool]
    out_conv: Final[bool]
    has_conv: Final[bool]
    has_grrg: Final[bool]
    has_drrd: Final[bool]
    has_attn: Final[bool]
    has_g1g1: Final[bool]
    has_pair_attn: Final[bool]
    has_h2: Final[bool]
    any_pair_attn: Final[bool]
    style: Final[int]

    def __init__(self, args: dict[str, Any], smooth: bool, pairs: bool, dtype: torch.dtype):
        super().__init__()
        self.args, self.smooth, self.pairs = args, smooth, pairs
        d1, d2 = int(args["g1_dim"]), int(args["g2_dim"])
        self.axis, self.n_slots = int(args["axis_neuron"]), int(args["nsel"])
        self.out_mlp, self.out_conv = bool(args["g1_out_mlp"]), bool(args["g1_out_conv"])
        self.root = bool(args["use_sqrt_nnei"])
        self.epsilon = EPSILON
        self.has_conv, self.has_grrg = bool(args["update_g1_has_conv"]), bool(args["update_g1_has_grrg"])
        self.has_drrd, self.has_attn = bool(args["update_g1_has_drrd"]), bool(args["update_g1_has_attn"])
        self.has_g1g1 = pairs and bool(args["update_g2_has_g1g1"])
        self.has_pair_attn, self.has_h2 = pairs and bool(args["update_g2_has_attn"]), pairs and bool(args["update_h2"])
        self.any_pair_attn = self.has_pair_attn or self.has_h2
        self.style = STYLES[args["update_style"]]
        self.act = Activation(args["activation_function"])
        n_in = (0 if self.out_mlp else d1) + (d2 if self.has_conv and not self.out_conv else 0)
        n_in += (d2 * self.axis if self.has_grrg else 0) + (d1 * self.axis if self.has_drrd else 0)
        none = nn.Identity()
        self.linear1 = linear(n_in, d1, dtype)
        self.linear2 = linear(d2, d2, dtype) if pairs else none
        self.proj_g1g2 = linear(*((d2, d1) if self.out_conv else (d1, d2)), dtype, False) if self.has_conv else none
        self.proj_g1g1g2 = linear(d1, d2, dtype, False) if self.has_g1g1 else none
        self.attn2g_map = PairAttention(args, smooth, dtype) if self.any_pair_attn else none
        self.attn2_mh_apply = PairHeads(args, dtype) if self.has_pair_attn else none
        eps = 1e-5 if args.get("ln_eps") is None else float(args["ln_eps"])
        self.attn2_lm = LayerNorm(d2, eps, bool(args["trainable_ln"]), dtype) if self.has_pair_attn else none
        self.attn2_ev_apply = DirectionHeads(args, dtype) if self.has_h2 else none
        self.loc_attn = LocalAttention(args, smooth, dtype) if self.has_attn else none
        self.g1_self_mlp = linear(d1, d1, dtype) if self.out_mlp else none
        trained = self.style == STYLES["res_residual"]
        counts = (1 + self.out_mlp + (self.has_conv and self.out_conv) + self.has_attn,
                  pairs + self.has_g1g1 + self.has_pair_attn, int(self.has_h2))  # fmt: skip
        for name, number, width in zip(("g1", "g2", "h2"), counts, (d1, d2, 1), strict=True):
            factors = [nn.Parameter(torch.zeros(width, dtype=dtype)) for _ in range(number if trained else 0)]
            setattr(self, f"{name}_residual", nn.ParameterList(factors))

    def join(self, updates: list[Tensor]) -> Tensor:
        """The styles without trained factors."""
        rest = torch.zeros_like(updates[0])
        for k in range(1, len(updates)):
            rest = rest + updates[k]
        if self.style == 0:
            return (updates[0] + rest) / float(len(updates)) ** 0.5
        return updates[0] + rest / float(max(len(updates) - 1, 1)) ** 0.5

    def forward(
        self, g1: Tensor, g2: Tensor, h2: Tensor, neighbors: Tensor, mask: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """g1 [n, g1_dim], g2 [n, S, g2_dim], h2 [n, S, 3], neighbors [n, S], 0 where empty; mask and w [n, S, 1]."""
        n_real = mask.sum(dim=1).flatten()
        n_empty = self.n_slots - n_real
        factor = w if self.smooth else mask
        n, n_slots, other = neighbors.shape[0], neighbors.shape[1], neighbors.flatten()
        own = torch.arange(n, device=g1.device).repeat_interleave(n_slots)
        updates1, updates2, updates_h, mlp = [g1], [g2], [h2], torch.jit.annotate(list[Tensor], [])
        if self.out_mlp:
            updates1.append(self.act(self.g1_self_mlp(g1)))
        else:
            mlp.append(g1)
        if self.pairs:
            updates2.append(self.act(self.linear2(g2)))
        if self.has_g1g1:
            both = self.proj_g1g1g2(products(g1, g1, own, other))
            updates2.append(both.reshape(n, n_slots, g2.shape[2]) * factor)
        if self.any_pair_attn:
            attention = self.attn2g_map(g2, h2, mask, w, n_empty)
            if self.has_pair_attn:
                updates2.append(self.attn2_lm(self.attn2_mh_apply(attention, g2)))
            if self.has_h2:
                updates_h.append(self.attn2_ev_apply(attention, h2))
        if self.has_conv:
            norm = torch.full_like(n_real, float(self.n_slots)) if self.smooth else n_real + self.epsilon
            told, width = (g2 * factor).flatten(0, 1), norm.unsqueeze(1)
            if self.out_conv:
                updates1.append(product_sums(self.proj_g1g2(told), g1, own, n, other) / width)
            else:
                mlp.append(product_sums(told, self.proj_g1g2(g1), own, n, other) / width)
        scale = self.scale_of_sums(n_real)
        if self.has_grrg:
            mlp.append(symmetrised(directed_sum(g2, h2, factor, scale), self.axis))
        if self.has_drrd:
            mlp.append(symmetrised(directed_sum_of_atoms(g1, h2, factor, scale, neighbors), self.axis))
        updates1.append(self.act(self.linear1(torch.cat(mlp, dim=1))))
        if self.has_attn:
            updates1.append(self.loc_attn(g1, neighbors, mask, w, n_empty))
        if self.style == 2:
            for k, c in enumerate(self.g1_residual):
                g1 = g1 + c * updates1[k + 1]
            for k, c in enumerate(self.g2_residual):
                g2 = g2 + c * updates2[k + 1]
            for k, c in enumerate(self.h2_residual):
                h2 = h2 + c * updates_h[k + 1]
        else:
            g1 = self.join(updates1)
            if self.pairs:
                g2, h2 = self.join(updates2), self.join(updates_h)
        return g1, g2, h2

    def scale_of_sums(self, n_real: Tensor) -> Tensor:
        """What H is multiplied by, [n]."""
        if self.smooth:
            return torch.full_like(n_real, float(self.n_slots) ** (-0.5 if self.root else -1.0))
        return 1.0 / (self.epsilon + (torch.sqrt(n_real) if self.root else n_real))

    @torch.jit.unused
    def randomise(self, seed: list[int] | None) -> None:
        generator = np.random.default_rng(seed)
        for module in self.modules():
            if isinstance(module, Dense):
                module.randomise(generator)
        width, constant = float(self.args["update_residual"]), self.args["update_residual_init"] == "const"
        with torch.no_grad():
            for factors in (self.g1_residual, self.g2_residual, self.h2_residual):
                for c in factors:
                    values = np.full(len(c), width) if constant else generator.normal(0.0, width, len(c))
                    c.copy_(torch.from_numpy(values))

    PARTS = ("linear1", "linear2", "proj_g1g2", "proj_g1g1g2", "attn2g_map", "attn2_mh_apply", "attn2_lm",
             "attn2_ev_apply", "loc_attn", "g1_self_mlp")  # fmt: skip

    @torch.jit.unused
    def serialize(self, n_types: int) -> dict[str, Any]:
        args = self.args
        precision = "float64" if self.linear1.w.dtype == torch.float64 else "float32"
        plain = ("attn1_hidden", "attn1_nhead", "attn2_hidden", "attn2_nhead", "attn2_has_gate", "activation_function",
                 "update_style")  # fmt: skip
        tree = {
            "@class": "RepformerLayer", "@version": 2, "rcut": float(args["rcut"]),
            "rcut_smth": float(args["rcut_smth"]), "sel": [self.n_slots], "ntypes": n_types,
            "g1_dim": int(args["g1_dim"]), "g2_dim": int(args["g2_dim"]), "axis_neuron": self.axis,
            "update_chnnl_2": self.pairs, "update_g1_has_conv": self.has_conv, "update_g1_has_drrd": self.has_drrd,
            "update_g1_has_grrg": self.has_grrg, "update_g1_has_attn": self.has_attn,
            "update_g2_has_g1g1": self.has_g1g1, "update_g2_has_attn": self.has_pair_attn, "update_h2": self.has_h2,
            **{key: args[key] for key in plain}, "smooth": self.smooth, "precision": precision,
            "trainable_ln": bool(args["trainable_ln"]), "use_sqrt_nnei": self.root, "g1_out_conv": self.out_conv,
            "g1_out_mlp": self.out_mlp, "ln_eps": 1e-5 if args.get("ln_eps") is None else float(args["ln_eps"]),
        }  # fmt: skip
        for name in self.PARTS:
            part = getattr(self, name)
            if isinstance(part, (Dense, LayerNorm)):
                tree[name] = part.serialize()
            elif not isinstance(part, nn.Identity):
                tree[name] = part.serialize(precision)
        if self.style == STYLES["res_residual"]:
            names = ("g1_residual", "g2_residual", "h2_residual")
            tree["@variables"] = {name: [to_numpy(c) for c in getattr(self, name)] for name in names}
        return tree

    @torch.jit.unused
    def load(self, tree: dict[str, Any]) -> None:
        for name in self.PARTS:
            part = getattr(self, name)
            if isinstance(part, Dense):
                setattr(self, name, Dense.deserialize(tree[name]))
            elif isinstance(part, LayerNorm):
                part.load(tree[name])
            elif not isinstance(part, nn.Identity):
                for own in part._modules:
                    setattr(part, own, Dense.deserialize(tree[name][own]))
        for name in ("g1_residual", "g2_residual", "h2_residual"):
            for c, values in zip(getattr(self, name), tree.get("@variables", {}).get(name, []), strict=True):
                load_into(c, values)
