"""Atomic energies and their slopes by the sums over neighbours, with the way back written out: few operations.

For se_e2_a with tanh, B being the sums on nodes:

    T = B Gamma,   D = T^T T[:axis],   E = net(D),   G = dE/dD,   dE/dT = m(T, G),   H = dE/dB = dE/dT Gamma^T
    m(X, G)_rm = sum_a G_ma X_ra + [m < axis] sum_k G_km X_rk,  the derivative of D by T in the direction G

The loss depends on E and H. A GPU takes about as long for every small operation, so that their number decides: autograd
over autograd makes three times as many. Networks of all types go through one batched product. `ResidentEngine.energies`
is the judge, and what serves all other models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.nodes import OnNodes
from deepmd.nn.resident_frames import Loaded


@dataclass
class Layer:
    """One layer of n networks: w [n, n_in, n_out], b [n, 1, n_out], dt [n, 1, n_out] or None."""

    w: Tensor
    b: Tensor
    dt: Tensor | None
    skip: int

    def onward(self, t: Tensor, x: Tensor) -> Tensor:
        """What the layer gives, from t = tanh(x W + b)."""
        if self.skip == 1:
            return x + t if self.dt is None else torch.addcmul(x, t, self.dt)
        y = t if self.dt is None else t * self.dt
        return (y.unflatten(2, (2, -1)) + x.unsqueeze(2)).flatten(2) if self.skip == 2 else y

    def scaled(self, d: Tensor) -> Tensor:
        """d by t from d by what the layer gives."""
        return d if self.dt is None else d * self.dt

    def back(self, s: Tensor, d: Tensor) -> Tensor:
        """d by x from d by x W + b and from d by what the layer gives."""
        w = self.w.transpose(1, 2)
        if self.skip == 0:
            return torch.bmm(s, w)
        return torch.baddbmm(d if self.skip == 1 else d.unflatten(2, (2, -1)).sum(dim=2), s, w)

    def along(self, p: Tensor, v: Tensor) -> Tensor:
        """The adjoint of `back` and `scaled` together: p by t, v by x."""
        if self.skip == 1:
            return p + v if self.dt is None else torch.addcmul(v, p, self.dt)
        return self.onward(p, v)


class Stacked:
    """Networks of one build, each parameter in one tensor [n, ...] that stays where it is."""

    def __init__(self, networks: list[Any]):
        self.parameters: list[Tensor] = [p for net in networks for layer in net.layers for p in own(layer)]
        self.layers: list[Layer] = []
        self._to: list[Tensor] = []
        self._from: list[Tensor] = []
        for layers in zip(*(net.layers for net in networks), strict=True):
            stacks = []
            for pieces in zip(*(own(layer) for layer in layers), strict=True):
                stack = pieces[0].detach().unsqueeze(0)
                if len(pieces) > 1:
                    stack = torch.empty(len(pieces), *pieces[0].shape, dtype=stack.dtype, device=stack.device)
                    self._to += list(stack)
                    self._from += [p.detach() for p in pieces]
                stacks.append(stack)
            w, b, *dt = stacks
            self.layers.append(Layer(w, b.unsqueeze(1), dt[0].unsqueeze(1) if dt else None, layers[0].skip))

    def fill(self) -> None:
        """Takes the present weights."""
        if self._to:
            torch._foreach_copy_(self._to, self._from)

    def gradients(self, found: list[list[Tensor]]) -> list[Tensor]:
        """Of `parameters`, from those of each layer: w [n, n_in, n_out], b [n, n_out], dt [n, n_out]."""
        n = found[0][0].shape[0]
        return [stack[k] for k in range(n) for layer in found for stack in layer]


def own(layer: Any) -> list[Tensor]:
    return [layer.w, layer.b, layer.idt] if layer.has_idt else [layer.w, layer.b]


def tanh_back(d: Tensor, t: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(d, t)


def embed(layers: list[Layer], x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The networks at x [n, K, 1], and what the way back needs."""
    kept = []
    for layer in layers:
        t = torch.tanh(torch.baddbmm(layer.b, x, layer.w))
        kept.append((x, t))
        x = layer.onward(t, x)
    return x, kept


def embed_back(layers: list[Layer], kept: list[tuple[Tensor, Tensor]], d: Tensor) -> list[list[Tensor]]:
    """Gradients of each layer."""
    found = []
    for k in range(len(layers) - 1, -1, -1):
        layer, (x, t) = layers[k], kept[k]
        z = tanh_back(layer.scaled(d), t)
        more = [] if layer.dt is None else [(d * t).sum(dim=1)]
        found.append([torch.bmm(x.transpose(1, 2), z), z.sum(dim=1), *more])
        if k:
            d = layer.back(z, d)
    return found[::-1]


@dataclass
class Fitted:
    """What the way back of fitting nets needs, by hidden layer."""

    x: list[Tensor]
    t: list[Tensor]
    g: list[Tensor]  # dE/d(what the layer gives)
    a: list[Tensor]  # dE/dt
    s: list[Tensor]  # dE/d(x W + b)


def fit(layers: list[Layer], x: Tensor) -> tuple[Tensor, Tensor, Fitted]:
    """E [n, m, 1] and dE/dx [n, m, n_in] of x [n, m, n_in]; the last layer is linear."""
    kept = Fitted([], [], [], [], [])
    for layer in layers[:-1]:
        t = torch.tanh(torch.baddbmm(layer.b, x, layer.w))
        kept.x.append(x)
        kept.t.append(t)
        x = layer.onward(t, x)
    kept.x.append(x)
    last = layers[-1]
    g = last.w.transpose(1, 2).expand(x.shape)
    for layer, t in zip(layers[-2::-1], kept.t[::-1], strict=True):
        a = layer.scaled(g)
        s = tanh_back(a, t)
        for values, value in ((kept.g, g), (kept.a, a), (kept.s, s)):
            values.insert(0, value)
        g = layer.back(s, g)
    return torch.baddbmm(last.b, x, last.w), g, kept


def fit_back(
    layers: list[Layer], kept: Fitted, d_energy: Tensor, d_slope: Tensor
) -> tuple[Tensor, list[list[Tensor]]]:
    """The derivative by x and the gradients of each layer, from those by E and dE/dx."""
    v, of_w, of_dt, mixed = d_slope, [], [], []
    for k, layer in enumerate(layers[:-1]):  # against the way in which the slopes were made
        of_w.append(torch.bmm(v.transpose(1, 2), kept.s[k]))
        r = torch.bmm(v, layer.w)
        p = tanh_back(r, kept.t[k])
        of_dt.append(None if layer.dt is None else p * kept.g[k])
        mixed.append(r * kept.a[k])
        v = layer.along(p, v)
    last, x = layers[-1], kept.x[-1]
    of_last = torch.baddbmm(v.sum(dim=1).unsqueeze(2), x.transpose(1, 2), d_energy)
    found = [[of_last, d_energy.sum(dim=1)]]
    d = d_energy * last.w.transpose(1, 2)
    for k in range(len(layers) - 2, -1, -1):
        layer, t = layers[k], kept.t[k]
        z = tanh_back(torch.addcmul(layer.scaled(d), mixed[k], t, value=-2.0), t)
        more = [] if of_dt[k] is None else [torch.addcmul(of_dt[k], d, t).sum(dim=1)]
        found.append([torch.baddbmm(of_w[k], kept.x[k].transpose(1, 2), z), z.sum(dim=1), *more])
        d = layer.back(z, d)
    return d, found[::-1]


def turned(x: Tensor, g: Tensor) -> Tensor:
    """m(X, G) [n, 4, M] of X [n, 4, M] and G [n, M, axis]."""
    axis = g.shape[2]
    found = torch.bmm(x[:, :, :axis], g.transpose(1, 2))
    found[:, :, :axis].add_(torch.bmm(x, g))
    return found


class Plan:
    """What is fixed for frames of one shape: networks, nodes, and which rows belong to which network."""

    def __init__(self, model: Any, part: OnNodes, frames: Loaded, stacks: dict[Any, Stacked]):
        module, n = part.module, model.n_types
        self.axis, self.dtype, self.present = module.axis, module.dtype, frames.present
        self.blocks, self.shape = frames.blocks(), (frames.n_frames, frames.shape.n)
        self.shared = part.shape.shared
        centers = [0] if self.shared else list(frames.present)
        chosen = [t_j if self.shared else t_i + t_j * n for t_i in centers for t_j in range(n)]
        for key, networks in (((*chosen, -1), module.networks), (frames.present, model.fitting.networks)):
            if key not in stacks:  # which frames of other shapes share
                stacks[key] = Stacked([networks[k] for k in key if k >= 0])
        self.embedding, self.fitting = stacks[(*chosen, -1)], stacks[frames.present]
        self.places = torch.stack([part.at_nodes(t_i) for t_i in centers for _ in range(n)])
        self.transform = (part.transform / float(module.n_slots)).expand(len(chosen), -1, -1)
        self.n_centers = len(centers)
        device, widest = part.transform.device, max(end - begin for _, begin, end in self.blocks)
        n_frames, n_atoms = self.shape
        nobody = n_atoms - 1
        rows = torch.full((len(self.blocks), n_frames, widest), nobody)
        back = torch.zeros(n_frames, n_atoms, dtype=torch.int64)
        for k, (_, begin, end) in enumerate(self.blocks):
            rows[k, :, : end - begin] = torch.arange(begin, end)
            place = torch.arange(n_frames).unsqueeze(1) * widest + torch.arange(end - begin)
            back[:, begin:end] = k * n_frames * widest + place
        rows += n_atoms * torch.arange(n_frames).reshape(1, -1, 1)
        self.rows, self.back = rows.flatten().to(device), back.flatten().to(device)
        keep, atoms = model.fitting.keep * model.atom_keep, torch.zeros(n_atoms, dtype=torch.int64)
        for t, begin, end in self.blocks:
            atoms[begin:end] = t
        shift = (model.fitting.bias_atom_e[:, 0] * model.fitting.keep + model.out_bias) * model.atom_keep
        self.scale, self.shift = (one[atoms.to(device)] for one in (keep, shift))
        self.all_kept = bool((keep == 1.0).all()) if not keep.is_meta else True

    def split(self, x: Tensor) -> Tensor:
        """Rows [f N, width] by network [n, m, width]; rows of nobody fill up."""
        return x.index_select(0, self.rows).reshape(len(self.blocks), -1, x.shape[1])

    def join(self, x: Tensor) -> Tensor:
        """The other way."""
        return x.reshape(-1, x.shape[2]).index_select(0, self.back)

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """a [f, N, 4, k] times the matrix of each atom's type in b [n_centers, k, l], [f N, 4, l]."""
        if self.shared:
            return (a.flatten(0, 2) @ b[0]).unflatten(0, (-1, 4))
        found, at = [], 0
        for k, (_, begin, end) in enumerate(self.blocks):
            if at < begin:
                found.append(a.new_zeros(a.shape[0], begin - at, 4, b.shape[2]))
            found.append(a[:, begin:end] @ b[k])
            at = end
        found.append(a.new_zeros(a.shape[0], a.shape[1] - at, 4, b.shape[2]))
        return torch.cat(found, dim=1).flatten(0, 1)

    def outer(self, a: Tensor, b: Tensor) -> Tensor:
        """Sums over the atoms of each matrix of a^T b, [n_centers, k, l] of [f, N, 4, k] and [f, N, 4, l]."""
        if self.shared:
            return (a.flatten(0, 2).T @ b.flatten(0, 2)).unsqueeze(0)
        ends = [(begin, end) for _, begin, end in self.blocks]
        return torch.stack([a[:, i:j].flatten(0, 2).T @ b[:, i:j].flatten(0, 2) for i, j in ends])


class Energies(torch.autograd.Function):
    """E [f, N] in eV, without bias, and H = dE/dB [f, N, 4, n_columns] of B; parameters: of the plan."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, sums: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        plan.embedding.fill()
        plan.fitting.fill()
        b = sums.to(plan.dtype)
        values, embedded = embed(plan.embedding.layers, plan.places)
        gamma = torch.bmm(plan.transform, values).reshape(plan.n_centers, b.shape[3], -1)
        t = plan.products(b, gamma)
        d = torch.bmm(t.transpose(1, 2), t[:, :, : plan.axis])
        kind = plan.fitting.layers[0].w.dtype
        energy, slope, fitted = fit(plan.fitting.layers, plan.split(d.flatten(1).to(kind)))
        g = plan.join(slope).to(plan.dtype).reshape(d.shape)
        d_t = turned(t, g)
        h = plan.products(d_t.unflatten(0, plan.shape), gamma.transpose(1, 2))
        ctx.plan, ctx.kept = plan, (b, embedded, gamma, t, fitted, g, d_t)
        return plan.join(energy).reshape(plan.shape).to(torch.float64), h.unflatten(0, plan.shape).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, d_energy: Tensor, d_h: Tensor) -> tuple[Tensor | None, ...]:
        plan, (b, embedded, gamma, t, fitted, g, d_t) = ctx.plan, ctx.kept
        kind, axis = plan.fitting.layers[0].w.dtype, plan.axis
        d_h = d_h.to(plan.dtype)
        u = plan.products(d_h, gamma)
        d_g = torch.baddbmm(torch.bmm(u.transpose(1, 2), t[:, :, :axis]), t.transpose(1, 2), u[:, :, :axis])
        of_energy = plan.split(d_energy.reshape(-1, 1).to(kind))
        d_d, fitting = fit_back(plan.fitting.layers, fitted, of_energy, plan.split(d_g.flatten(1).to(kind)))
        by_t = turned(t, plan.join(d_d).to(plan.dtype).reshape(g.shape)) + turned(u, g)
        d_gamma = plan.outer(b, by_t.unflatten(0, plan.shape)) + plan.outer(d_h, d_t.unflatten(0, plan.shape))
        of_values = torch.bmm(plan.transform.transpose(1, 2), d_gamma.reshape(len(plan.places), -1, gamma.shape[2]))
        embedding = embed_back(plan.embedding.layers, embedded, of_values)
        return None, None, *plan.embedding.gradients(embedding), *plan.fitting.gradients(fitting)


def serves(model: Any, parts: list[OnNodes]) -> bool:
    """Whether a model is of the form that is written out here."""
    descriptor, fitting = model.descriptor, model.fitting
    if len(parts) != 1 or type(descriptor) is not DescriptorSeE2A or fitting.mixed_types or fitting.has_vacuum:
        return False
    hidden = [layer for net in descriptor.networks for layer in net.layers]
    hidden += [layer for net in fitting.networks for layer in net.layers[:-1]]
    return all(layer.activation.name == "tanh" for layer in hidden) and fitting.n_in == fitting.dim_descriptor


def energies(plan: Plan, frames: Loaded) -> tuple[Tensor, Tensor]:
    """Atomic energies [f, N] in eV, 0 for atoms that are not there, and H."""
    sums = frames.tensors["0/sums"]
    energy, h = Energies.apply(plan, sums, *plan.embedding.parameters, *plan.fitting.parameters)
    if not plan.all_kept:
        h = h * plan.scale.reshape(1, -1, 1, 1)
    return torch.addcmul(plan.shift, energy, plan.scale) * frames.tensors["mask"], h
