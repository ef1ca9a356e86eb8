"""Embedding networks on nodes: the fast way to energies, forces and their gradients in training.

For given types an embedding network is a function of one scalar on a known interval, so it is evaluated on K Chebyshev
nodes per step instead of on every neighbour. With Gamma = DCT G(nodes), the sum over neighbours of R_j (x) G_j is
B_i Gamma, where B_i depends on positions only; forces follow from H = (dE/dT) Gamma^T by one sweep over the neighbours
(cxx/src/kernels/node_basis.hpp). Everything between Gamma and E is small and stays with autograd. Networks of the angle
between two neighbours, whose scalar has a wider range, are written by pieces on an even grid, and Gamma = G(nodes)
(cxx/src/kernels/angle_basis.hpp).

A module that can be evaluated so has `node_shape`, `node_values` and `of_sums` (see `deepmd.nn.descriptor`). While an
engine runs, its `forward` is that of `OnNodes`; outside it is the plain one, which is the judge.

The interpolation error falls exponentially with K for smooth activation functions. `error` measures it with the
current weights; `settle` doubles K where it exceeds `TOLERANCE`, and leaves too sharp networks to the plain path.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepmd import _kernels
from deepmd.data.graph import Memory, Room
from deepmd.errors import EngineError
from deepmd.nn.compiled import pieces

if not hasattr(_kernels, "AngleBasis"):
    raise EngineError(
        "The compiled module deepmd._kernels is older than the Python files beside it; install the package again with "
        "`pip install .`"
    )
log = logging.getLogger(__name__)
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5}
"""Largest interpolation error of an embedding, relative to the largest value on the interval."""
FIRST_N_NODES = 64
FEW_TYPES = 4
"""How many types are looked at where no data have said which ones there are."""


class NeighborSums(torch.autograd.Function):
    """B [n_centers, n_rows, n_columns] of pair vectors [n_pairs, 3]; the way back is linear and has its own."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, b: np.ndarray, basis: Any, pairs: Any) -> Tensor:
        del vectors
        ctx.basis, ctx.pairs = basis, pairs
        return torch.from_numpy(b)

    @staticmethod
    def backward(ctx: Any, d_b: Tensor) -> tuple[Tensor, None, None, None]:
        return PairGradient.apply(d_b, ctx.basis, ctx.pairs), None, None, None


class PairGradient(torch.autograd.Function):
    """The derivative by the pair vectors [n_pairs, 3] from H [n_centers, n_rows, n_columns]: linear in H."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, basis: Any, pairs: Any) -> Tensor:
        ctx.basis, ctx.pairs = basis, pairs
        return torch.from_numpy(basis.gradient(pairs, h.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, d_g: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(ctx.basis.tangent(ctx.pairs, d_g.detach().numpy())), None, None


@dataclass
class KeptSums:
    """B of some pairs, which depends on their positions and the basis only."""

    b: np.ndarray
    basis: Any
    pairs: Any
    vectors: np.ndarray  # [n_pairs, 3]

    def serves(self, basis: Any, vectors: Tensor, n_centers: int) -> bool:
        """Whether these are the sums of other vectors in that basis."""
        if basis is not self.basis or len(vectors) != len(self.vectors) or n_centers != len(self.b):
            return False
        own = vectors.detach().numpy()
        return own.ctypes.data == self.vectors.ctypes.data or np.array_equal(own, self.vectors)

    @property
    def n_bytes(self) -> int:
        return self.b.nbytes + 2 * self.vectors.nbytes  # the pairs hold theirs and two numbers for each


class OnNodes:
    """One module on nodes. Called as its `forward`, and gives the same.

    extra: makes the arguments that the module takes beyond those of a descriptor. shortest: smallest pair distance
    (Angstrom) that the nodes have to cover; data that have shorter ones widen it.
    """

    most = 512  # nodes
    pair_cost = (1.0, 3.0)
    """What a pair costs on the plain path beside an evaluation at a node, without forces and with them."""

    def __init__(self, module: nn.Module, extra: Callable[[], tuple[Any, ...]], shortest: float, n_nodes: int):
        self.memory = Memory(Room(0))  # of the frame at hand
        self.n_calls = 0  # on it
        self.module = module
        self.extra = extra
        self.shortest = shortest
        self.n_nodes = n_nodes
        self.active = True
        self.shape = module.node_shape()
        self._seen: set[int] = set()
        self.prepare()

    def prepare(self) -> None:
        """Nodes and intervals for the present `shortest`, `n_nodes` and statistics of the module."""
        module, k = self.module, self.n_nodes
        davg, dstd = (table.cpu().numpy()[:, 0] for table in (module.davg, module.dstd))
        raw = module.raw_rows(torch.tensor([[self.shortest, 0.0, 0.0]], dtype=torch.float64))
        lo, hi = -davg / dstd, (float(raw[0, 0]) - davg) / dstd
        if self.shape.shared:
            lo, hi = np.full_like(lo, lo.min()), np.full_like(hi, hi.max())
        width = hi - lo
        self._lo, self._hi = lo - 1e-6 * width, hi + 1e-6 * width
        theta = (np.arange(k) + 0.5) * math.pi / k
        transform = (2.0 / k) * np.cos(np.arange(k)[:, None] * theta[None, :])
        transform[0] *= 0.5
        self.transform = torch.from_numpy(transform).to(module.davg.device, module.dtype)
        self._places: dict[int, Tensor] = {}
        self._z = np.cos(theta)
        self._bases: dict[tuple[int, ...], Any] = {}

    def entries(self, t_i: int, z: np.ndarray) -> Tensor:
        """The radial entries at places z of [-1, 1], [n, 1]."""
        e = (z + 1) / 2 * (self._hi[t_i] - self._lo[t_i]) + self._lo[t_i]
        return torch.from_numpy(e).to(self.module.davg.device, self.module.dtype).unsqueeze(1)

    def at_nodes(self, t_i: int) -> Tensor:
        """The radial entries at the nodes [K, 1]."""
        if t_i not in self._places:
            self._places[t_i] = self.entries(t_i, self._z)
        return self._places[t_i]

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval of the radial entry by type of the centre, two arrays [n_types]."""
        return self._lo, self._hi

    def basis(self, present: tuple[int, ...]) -> Any:
        """The compiled basis for these types."""
        if present not in self._bases:
            self._bases[present] = self.compiled(list(present))
        return self._bases[present]

    def settings(self, own: list[int]) -> dict[str, Any]:
        """What every compiled basis has to know for types `own`."""
        module = self.module
        return {
            "rcut": module.rcut,
            "rcut_smth": module.rcut_smth,
            "protection": module.protection,
            "n_types": len(own),
            "n_nodes": self.n_nodes,
            "switched": self.shape.switched,
            "inv_std_a": (1.0 / module.dstd[own, -1]).tolist(),
            "keep": module.keep[own][:, own].ravel().tolist(),
        }

    def compiled(self, own: list[int]) -> Any:
        module, shape, n = self.module, self.shape, len(own)
        sel = [float(module.n_slots)] + [0.0] * (n - 1) if shape.pooled else [float(s) for s in module.sel]
        more = {
            "n_rows": shape.rows,
            "pooled": shape.pooled,
            "davg": module.davg[own, 0].tolist(),
            "inv_std_r": (1.0 / module.dstd[own, 0]).tolist(),
            "lo": np.repeat(self._lo[own], n).tolist(),
            "hi": np.repeat(self._hi[own], n).tolist(),
            "sel": sel,
        }
        return _kernels.NodeBasis({**self.settings(own), **more})

    def places(self) -> np.ndarray:
        """Where the interpolation error is measured, in [-1, 1]."""
        return np.linspace(-1.0, 1.0, 8 * self.n_nodes + 1)

    def interpolated(self, gamma: Tensor, z: np.ndarray) -> Tensor:
        """The networks at places z [n] from gamma [..., K, M], [..., n, M]."""
        values = np.cos(np.arange(self.n_nodes)[None, :] * np.arccos(z)[:, None])
        return torch.from_numpy(values).to(gamma.device) @ gamma

    def coefficients(self, t_i: int, types_j: list[int], more: tuple[Any, ...]) -> Tensor:
        """Gamma [n_groups, n_kinds, K, M] for neighbours of these types, or for couples of them."""
        return self.transform @ self.module.node_values(t_i, types_j, self.at_nodes(t_i), *more)

    def sums(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, tuple[int, ...]] | None:
        """B [n_centers, n_rows, n_columns] and the types of its columns; None where nodes cannot cover the data."""
        index, kinds = neighbors.numpy(), types.numpy()
        if self.shape.pooled:
            own = np.zeros(len(self.module.davg), dtype=bool)
            own[kinds[:n_centers]] = own[kinds[index]] = own[0] = True
            present = tuple(np.flatnonzero(own).tolist())
            kinds = (np.cumsum(own) - 1)[kinds]
        else:
            present = tuple(range(len(self.module.davg)))
        self._seen.update(present)
        key = ("sums", id(self), self.n_calls)
        self.n_calls += 1
        kept = self.memory.get(key)
        if kept is None or not kept.serves(self._bases.get(present), vectors, n_centers):
            kept = self.new_sums(vectors, centers.numpy(), index, kinds, n_centers, present)
            if kept is None:
                return None
            self.memory.put(key, kept, kept.n_bytes)
        return NeighborSums.apply(vectors, kept.b, kept.basis, kept.pairs), present

    def new_sums(
        self, vectors: Tensor, centers: np.ndarray, index: np.ndarray, kinds: np.ndarray, n_centers: int,
        present: tuple[int, ...],
    ) -> KeptSums | None:  # fmt: skip
        """The sums of `sums`; None where nodes cannot cover the pairs."""
        first = np.searchsorted(centers, np.arange(n_centers + 1))
        own = vectors.detach().numpy()
        pairs = _kernels.Pairs(first, index.astype(np.int32), own, kinds.astype(np.int32))
        b, outside = self.basis(present).sum(pairs)
        if outside:
            if not self.widen(vectors.detach()):
                return None
            b, _ = self.basis(present).sum(pairs)
        return KeptSums(b, self.basis(present), pairs, own)

    def widen(self, vectors: Tensor) -> bool:
        """Lets the nodes cover pairs as close as these; False if nodes do not serve then."""
        self.shortest = 0.98 * float(torch.linalg.vector_norm(vectors, dim=1).min())
        self.prepare()
        return self.settle()

    def basis_key(self) -> tuple[Any, ...]:
        """Equal where sums and coefficients are of the same nodes."""
        return self.n_nodes, self.shortest

    def __call__(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int, *more: Any
    ) -> Any:
        found = None
        if not self.few(vectors, types, n_centers):
            found = self.sums(vectors, centers, neighbors, types, n_centers)
        if found is None:
            return type(self.module).forward(self.module, vectors, centers, neighbors, types, n_centers, *more)
        b, present = found[0].to(self.module.dtype), list(found[1])
        kinds = types[:n_centers]
        if self.shape.shared:
            return self.module.of_sums(b @ self.coefficients(0, present, more).flatten(0, 2))
        order = None
        if bool((kinds[1:] < kinds[:-1]).any()):
            order = torch.argsort(kinds, stable=True)
            b, kinds = b[order], kinds[order]
        blocks, begin = [], 0
        for t_i, n in zip(*(x.tolist() for x in torch.unique_consecutive(kinds, return_counts=True)), strict=True):
            gamma = self.coefficients(t_i, present, more).flatten(0, 2)
            blocks.append((b[begin : begin + n].reshape(-1, b.shape[2]) @ gamma).reshape(n, b.shape[1], -1))
            begin += n
        t = torch.cat(blocks)
        return self.module.of_sums(t if order is None else t[torch.argsort(order)])

    def few(self, vectors: Tensor, types: Tensor, n_centers: int) -> bool:
        """Whether there are fewer pairs than evaluations at nodes would be made for them."""
        own = 1 if self.shape.shared else len(torch.unique(types[:n_centers]))
        others = len(torch.unique(types)) if self.shape.pooled else len(self.module.davg)
        return len(vectors) * self.pair_cost[vectors.requires_grad] < own * others * self.n_nodes

    @torch.no_grad()
    def error(self) -> float:
        """Largest interpolation error of the embeddings between the nodes, relative to their largest value."""
        n_types = len(self.module.davg)
        types_j = list(range(n_types))
        if self.shape.pooled:
            types_j = sorted(self._seen) or types_j[:FEW_TYPES]
        z, more, worst = self.places(), self.extra(), 0.0
        for t_i in types_j[:1] if self.shape.shared else types_j:
            exact = self.module.node_values(t_i, types_j, self.entries(t_i, z), *more).to(torch.float64)
            scale = exact.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
            difference = self.interpolated(self.coefficients(t_i, types_j, more).to(torch.float64), z) - exact
            worst = max(worst, float((difference / scale).abs().max()))
        return worst

    def refine(self) -> bool:
        """Doubles the number of nodes; False if there are as many as allowed."""
        if self.n_nodes >= self.most:
            return False
        self.n_nodes *= 2
        self.prepare()
        return True

    def settle(self) -> bool:
        """More nodes, or none, where the embedding networks are too sharp for those that there are."""
        error, limit = self.error(), TOLERANCE[self.module.dtype]
        while error > limit and self.refine():
            log.info("embedding networks now on %d nodes (interpolation error was %.1e)", self.n_nodes, error)
            error = self.error()
        if error > limit:
            log.info("embedding networks are too sharp for nodes (%.1e); going on with the plain path", error)
            self.active = False
        return self.active


class OnCouples(OnNodes):
    """The same for a module whose networks depend on c = A_j . A_k of couples of neighbours."""

    most = 4096

    def few(self, vectors: Tensor, types: Tensor, n_centers: int) -> bool:
        return False  # couples are many

    def prepare(self) -> None:
        module = self.module
        raw = module.raw_rows(torch.tensor([[self.shortest, 0.0, 0.0]], dtype=torch.float64))
        longest = float(raw[0, 1]) / float(module.dstd[:, 1].min())
        self._bound = (1.0 + 1e-6) * longest**2
        self._z = np.linspace(-1.0, 1.0, self.n_nodes)
        self._bases = {}

    def entries(self, t_i: int, z: np.ndarray) -> Tensor:
        del t_i
        return torch.from_numpy(z * self._bound).to(self.module.dtype).unsqueeze(1)

    def compiled(self, own: list[int]) -> Any:
        return _kernels.AngleBasis({**self.settings(own), "bound": self._bound})

    def places(self) -> np.ndarray:
        return (self._z[1:] + self._z[:-1]) / 2

    def interpolated(self, gamma: Tensor, z: np.ndarray) -> Tensor:
        x = (z + 1.0) * (self.n_nodes - 1) / 2.0
        first = np.clip(x.astype(int) - 3, 0, self.n_nodes - 8)
        node = np.arange(8)
        factors = np.repeat((x - first)[:, None, None] - node, 8, axis=1)  # [n, 8, 8]: of L_k at other places
        factors[:, node, node] = 1.0
        steps = (node[:, None] - node + np.eye(8)).prod(axis=1)
        weights = torch.from_numpy(factors.prod(axis=2) / steps)
        return (gamma[..., torch.from_numpy(first[:, None] + node), :] * weights.unsqueeze(2)).sum(dim=-2)

    def coefficients(self, t_i: int, types_j: list[int], more: tuple[Any, ...]) -> Tensor:
        return self.module.node_values(t_i, types_j, self.entries(t_i, self._z), *more)


class Nodes:
    """All modules of a model that can be evaluated on nodes; as a context, they are."""

    def __init__(self, model: nn.Module, shortest: float, n_nodes: int = FIRST_N_NODES):
        self.parts: list[OnNodes] = []
        self.memory = Memory(Room(0))
        self._pieces: list[Any] = []
        for module, extra in node_parts(model):
            kind, n = (OnCouples, 4 * n_nodes) if module.node_shape().couples else (OnNodes, n_nodes)
            self.parts.append(kind(module, extra, shortest, n))

    def of(self, memory: Memory) -> Nodes:
        """To be entered for a frame whose memory that is."""
        self.memory = memory
        return self

    def __enter__(self) -> Nodes:
        self._pieces.append(pieces())
        self._pieces[-1].__enter__()
        for part in self.parts:
            part.memory, part.n_calls = self.memory, 0
            if part.active:
                part.module.forward = part
        self.memory = Memory(Room(0))
        return self

    def __exit__(self, *error: object) -> None:
        for part in self.parts:
            part.module.__dict__.pop("forward", None)
        self._pieces.pop().__exit__(None, None, None)

    def error(self) -> float:
        """The largest of all parts."""
        return max((part.error() for part in self.parts if part.active), default=0.0)

    def refine(self) -> bool:
        """Doubles the numbers of nodes; False if there are as many as allowed."""
        return all([part.refine() for part in self.parts])

    def settle(self) -> None:
        """More nodes, or none, where they are needed."""
        for part in self.parts:
            if part.active:
                part.settle()

    def state_dict(self) -> dict[str, Any]:
        names = ("shortest", "n_nodes", "active")
        return {"parts": [{name: getattr(part, name) for name in names} for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave. Older checkpoints hold one entry for the only part, or nothing: then plain."""
        entries = state["parts"] if "parts" in state else [state] * len(self.parts)
        for part, entry in zip(self.parts, entries, strict=True):
            part.active = bool(entry) and entry.get("active", True)
            if entry:
                part.shortest, part.n_nodes = entry["shortest"], entry["n_nodes"]
                part.prepare()


def node_parts(model: nn.Module) -> list[tuple[nn.Module, Callable[[], tuple[Any, ...]]]]:
    """The modules of a model that can be evaluated on nodes, and what makes their further arguments."""
    found = [part for one in model.modules() if hasattr(one, "node_parts") for part in one.node_parts()]
    return [(module, extra) for module, extra in found if module.node_shape() is not None]
