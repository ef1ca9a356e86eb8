"""Coordinates of the nearest neighbours in a local frame, loc_frame.

    x = r_1/|r_1|,  y = the part of r_2 across x, normalised,  z = x X y
    row of a neighbour of sel_a: (1/r, z'/r^2, x'/r^2, y'/r^2), of sel_r: 1/r;   D = (rows - davg) / dstd

Of each type the nearest sel_a neighbours enter with coordinates, the following sel_r with distances; others do not.
1 and 2 are chosen by `axis_rule`; if 2 is on a line with 1 the next one is taken. Nothing is smooth: the energy jumps
where neighbours pass the cutoff or change their order. Atoms without two such neighbours have angular entries of zero.
Source: Zhang et al., Phys. Rev. Lett. 120, 143001 (2018).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.layers import load_into, to_numpy

PER_TYPE = 3  # candidates of each type where an axis may be of several types
PARALLEL = 1e-4
SMALLEST_STD = 1e-2


class DescriptorLocFrame(nn.Module):
    """Descriptor [n_centers, 4 sum(sel_a) + sum(sel_r)]; see the package for the contract."""

    mixed_types = False
    passes_messages = False

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__()
        self.section = dict(section)
        self.type_map = list(type_map)
        self.n_types = n_types = len(type_map)
        self.rcut, self.rcut_smth = float(section["rcut"]), 0.0
        self.sel_a, self.sel_r = ([int(n) for n in section[key]] for key in ("sel_a", "sel_r"))
        self.sel = [a + r for a, r in zip(self.sel_a, self.sel_r, strict=True)]
        self.n_a, self.n_r, self.n_slots = sum(self.sel_a), sum(self.sel_r), sum(self.sel)
        self.dim_out, self.dim_rotation = 4 * self.n_a + self.n_r, 0
        self.dtype = torch.float64
        self.largest_cosine = 1.0 - PARALLEL
        starts = np.concatenate([[0], np.cumsum(self.sel)[:-1]]).astype(int)
        blocks = list(zip(starts.tolist(), self.sel_a, self.sel_r, strict=True))
        columns_a = [s + k for s, a, _ in blocks for k in range(a)]
        columns_r = [s + a + k for s, a, r in blocks for k in range(r)]
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.register_buffer("limits", torch.tensor(self.sel), persistent=False)
        self.register_buffer("columns_a", torch.tensor(columns_a, dtype=torch.long), persistent=False)
        self.register_buffer("columns_r", torch.tensor(columns_r, dtype=torch.long), persistent=False)
        rule = [int(n) for n in section.get("axis_rule") or [0, -n_types - 1, 0, 0, -n_types - 1, 1] * n_types]
        self.rules = [rule[6 * t : 6 * t + 6] for t in range(n_types)]
        self.candidates = [[self._columns(blocks, one[k], one[k + 1]) for k in (0, 3)] for one in self.rules]
        fillers = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)  # stand for absent neighbours
        self.register_buffer("fillers", fillers, persistent=False)
        self.register_buffer("davg", torch.zeros(n_types, self.dim_out, dtype=torch.float64))
        self.register_buffer("dstd", torch.ones(n_types, self.dim_out, dtype=torch.float64))

    def _columns(self, blocks: list[tuple[int, int, int]], kind: int, of_type: int) -> list[int]:
        """The slots that an axis may come from."""
        found = []
        for t, (start, a, r) in enumerate(blocks):
            first, n = (start, a) if kind == 0 else (start + a, r)
            if of_type < 0:
                found += [] if t == -(of_type + 1) else list(range(first, first + min(n, PER_TYPE)))
            elif t == of_type:
                found += list(range(first, first + n))
        return found

    def slots(self, r: Tensor, centers: Tensor, types_j: Tensor, n_centers: int) -> Tensor:
        """The pair in each slot [n_centers, n_slots], the number of pairs where there is none."""
        n = r.shape[0]
        order = torch.argsort(r, stable=True)
        group = centers * self.n_types + types_j
        order = order[torch.argsort(group[order], stable=True)]
        sizes = torch.zeros(n_centers * self.n_types, dtype=torch.long, device=r.device)
        sizes = sizes.index_add(0, group, torch.ones_like(group))
        rank = torch.arange(n, device=r.device) - (torch.cumsum(sizes, 0) - sizes)[group[order]]
        kept = torch.nonzero(rank < self.limits[types_j[order]]).flatten()
        pairs, rank = order[kept], rank[kept]
        table = torch.full((n_centers * self.n_slots,), n, dtype=torch.long, device=r.device)
        place = centers[pairs] * self.n_slots + self.starts[types_j[pairs]] + rank
        return table.index_copy(0, place, pairs).reshape(n_centers, self.n_slots)

    def axes(self, vectors: Tensor, table: Tensor, types_i: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the first and the second axis [n_centers], the number of pairs where there is none.

        vectors [n_pairs + 1, 3]: the last one stands for an empty slot.
        """
        n = vectors.shape[0] - 1
        first = torch.full_like(types_i, n)
        second = torch.full_like(types_i, n)
        r = torch.linalg.vector_norm(vectors, dim=1)
        r[n] = float("inf")
        unit = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        for t, rule in enumerate(self.rules):
            atoms = torch.nonzero(types_i == t).flatten()
            one = self.by_inverse(table[atoms], self.candidates[t][0], r)
            two = self.by_inverse(table[atoms], self.candidates[t][1], r)
            if one.shape[1] <= rule[2] or two.shape[1] <= rule[5]:
                continue
            start = one[:, rule[2]]
            rest = two[:, rule[5] :]
            cosine = torch.sum(unit[start].unsqueeze(1) * unit[rest], dim=2)
            good = (rest < n) & (start < n).unsqueeze(1) & (torch.abs(cosine) < self.largest_cosine)
            chosen = torch.argmax(good.to(torch.long), dim=1)
            end = rest.gather(1, chosen.unsqueeze(1)).squeeze(1)
            found = torch.any(good, dim=1)
            first[atoms] = torch.where(found, start, torch.full_like(start, n))
            second[atoms] = torch.where(found, end, torch.full_like(end, n))
        return first, second

    def by_inverse(self, table: Tensor, columns: list[int], r: Tensor) -> Tensor:
        """Candidates of some atoms, nearest first."""
        pairs = table[:, torch.tensor(columns, dtype=torch.long, device=table.device)]
        return pairs.gather(1, torch.argsort(r[pairs], dim=1, stable=True))

    def raw(self, vectors: Tensor, centers: Tensor, types_i: Tensor, types_j: Tensor) -> Tensor:
        """Rows before normalisation [n_centers, dim_out]."""
        n, n_centers = vectors.shape[0], types_i.shape[0]
        padded = torch.cat([vectors, self.fillers[:1]])
        plain = padded.detach()
        table = self.slots(torch.linalg.vector_norm(plain[:n], dim=1), centers, types_j, n_centers)
        first, second = self.axes(plain, table, types_i)
        whole = (first < n).to(vectors.dtype)
        one, two = padded[first], torch.where((second < n).unsqueeze(1), padded[second], self.fillers[1:])
        x = one / torch.linalg.vector_norm(one, dim=1, keepdim=True)
        across = two - torch.sum(two * x, dim=1, keepdim=True) * x
        y = across / torch.linalg.vector_norm(across, dim=1, keepdim=True)
        frame = torch.stack([torch.linalg.cross(x, y), x, y], dim=1) * whole.reshape(-1, 1, 1)
        there = (table < n).to(vectors.dtype)
        v = padded[table]  # [n_centers, n_slots, 3]
        r = torch.linalg.vector_norm(v, dim=2)
        inverse = there / r
        a = self.columns_a
        local = torch.einsum("isb,iab->isa", v[:, a], frame) * (inverse[:, a] / r[:, a]).unsqueeze(2)
        rows = torch.cat([inverse[:, a].unsqueeze(2), local], dim=2).reshape(n_centers, 4 * self.n_a)
        return torch.cat([rows, inverse[:, self.columns_r]], dim=1)

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and an empty rotation; pairs sorted by centre."""
        types_i = types[:n_centers]
        raw = self.raw(vectors, centers, types_i, types[neighbors])
        d = (raw - self.davg[types_i]) / self.dstd[types_i]
        return d, torch.zeros(n_centers, 0, 3, dtype=vectors.dtype, device=vectors.device)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        """There are no parameters."""

    @torch.jit.unused
    def environments(self) -> list[Any]:
        """None: the rows have statistics of their own."""
        return []

    @torch.jit.unused
    def fill_statistics(self, batches: Iterable[Any]) -> None:
        """Mean and standard deviation of each entry by type of the centre."""
        rows: list[list[np.ndarray]] = [[] for _ in range(self.n_types)]
        for batch in batches:
            types = torch.from_numpy(batch.types.astype(np.int64))
            centers, neighbors = torch.from_numpy(batch.centers), torch.from_numpy(batch.neighbor.astype(np.int64))
            raw = self.raw(torch.from_numpy(batch.vectors), centers, types, types[neighbors]).numpy()
            for t in range(self.n_types):
                rows[t].append(raw[batch.types == t])
        for t, found in enumerate(rows):
            values = np.concatenate(found) if found else np.zeros((0, self.dim_out))
            if len(values):
                self.davg[t] = torch.from_numpy(values.mean(axis=0))
                self.dstd[t] = torch.from_numpy(np.maximum(values.std(axis=0), SMALLEST_STD))

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        return {
            "@class": "Descriptor",
            "type": "loc_frame",
            "@version": 1,
            "rcut": self.rcut,
            "sel_a": self.sel_a,
            "sel_r": self.sel_r,
            "axis_rule": list(self.section.get("axis_rule") or []),
            "@variables": {"davg": to_numpy(self.davg), "dstd": to_numpy(self.dstd)},
            "type_map": self.type_map,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorLocFrame":
        descriptor = cls({key: tree[key] for key in ("rcut", "sel_a", "sel_r", "axis_rule")}, type_map)
        for name in ("davg", "dstd"):
            load_into(getattr(descriptor, name), tree["@variables"][name])
        return descriptor
